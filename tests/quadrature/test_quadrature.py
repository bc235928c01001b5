"""Rules: exact to the degree they claim and not beyond, and of the order they claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attrax import quadrature
from attrax.quadrature import Rule

FACTORIES = {
    "riemann_left": (quadrature.riemann_left, (1, 2, 3, 7, 64)),
    "riemann_right": (quadrature.riemann_right, (1, 2, 3, 7, 64)),
    "midpoint": (quadrature.midpoint, (1, 2, 3, 7, 64)),
    "trapezoid": (quadrature.trapezoid, (2, 3, 8, 65)),
    "simpson": (quadrature.simpson, (3, 5, 9, 65)),
    "gauss_legendre": (quadrature.gauss_legendre, (1, 2, 3, 8, 32, 256)),
    "clenshaw_curtis": (quadrature.clenshaw_curtis, (2, 3, 4, 5, 9, 32, 129)),
    "gauss_kronrod": (quadrature.gauss_kronrod, (3, 5, 7, 15, 21, 61, 101)),
    "endpoint_mean": (quadrature.endpoint_mean, (2, 3, 50)),
}
ALL = [pytest.param(make(n), id=f"{k}({n})") for k, (make, ns) in FACTORIES.items() for n in ns]


def degree_gap(rule, degree):
    """The largest error over the monomials up to `degree`."""
    powers = np.arange(degree + 1)
    return np.abs(rule.weights @ rule.nodes[:, None] ** powers - 1 / (powers + 1)).max()


@pytest.mark.parametrize("rule", ALL)
def test_tables(rule):
    assert rule.nodes.dtype == rule.weights.dtype == np.float64
    assert rule.n == len(rule.nodes) == len(rule.weights)
    assert abs(rule.weights.sum() - 1) < 1e-12
    assert np.all(rule.weights > 0)
    assert np.all(np.diff(rule.nodes) > 0)
    assert rule.nodes[0] >= 0 and rule.nodes[-1] <= 1
    with pytest.raises(ValueError, match="read-only"):
        rule.nodes[0] = 0.5


@pytest.mark.parametrize(
    ("rule", "degree"),
    [
        (quadrature.riemann_left(4), 0),
        (quadrature.riemann_right(4), 0),
        (quadrature.endpoint_mean(4), 1),
        (quadrature.midpoint(4), 1),
        (quadrature.trapezoid(4), 1),
        (quadrature.simpson(5), 3),
        (quadrature.gauss_legendre(1), 1),
        (quadrature.gauss_legendre(2), 3),
        (quadrature.gauss_legendre(5), 9),
        (quadrature.clenshaw_curtis(4), 3),
        (quadrature.clenshaw_curtis(5), 5),
        (quadrature.gauss_kronrod(3), 5),
        (quadrature.gauss_kronrod(5), 7),
        (quadrature.gauss_kronrod(7), 11),
        (quadrature.gauss_kronrod(15), 23),
    ],
)
def test_exact_to_its_degree_and_not_beyond(rule, degree):
    assert degree_gap(rule, degree) < 1e-14
    # In the variable 2t - 1 the next even power shows what monomials hide behind rounding.
    power = degree + 1 + (degree + 1) % 2 if degree else 1
    centred = 2 * rule.nodes - 1
    exact = 1 / (power + 1) if power % 2 == 0 else 0.0
    assert abs(rule.weights @ centred**power - exact) > 1e-10


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (quadrature.riemann_left, 1),
        (quadrature.riemann_right, 1),
        (quadrature.endpoint_mean, 1),
        (quadrature.midpoint, 2),
        (quadrature.trapezoid, 2),
        (quadrature.simpson, 4),
    ],
)
def test_order_of_convergence(make, order):
    errors = [
        abs(r.weights @ np.exp(r.nodes**2) - 1.46265174590718160880) for r in (make(33), make(65))
    ]
    # The spacing of the nodes halves, or nearly: 33 to 65 nodes.
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.06 * order)


@pytest.mark.parametrize("rule", [quadrature.gauss_legendre(16), quadrature.clenshaw_curtis(17)])
def test_spectral_on_smooth_integrands(rule):
    assert abs(rule.weights @ (1 / (1 + rule.nodes)) - np.log(2)) < 1e-12


def test_every_rule_is_of_first_order_at_a_jump():
    for make in (quadrature.midpoint, quadrature.gauss_legendre, quadrature.clenshaw_curtis):
        rule = make(65)
        assert abs(rule.weights @ (rule.nodes > 0.4142) - (1 - 0.4142)) > 1e-4


def test_gauss_kronrod_15_is_the_published_table():
    half_nodes = [
        0.991455371120812639206854697526329,
        0.949107912342758524526189684047851,
        0.864864423359769072789712788640926,
        0.741531185599394439863864773280788,
        0.586087235467691130294144691693403,
        0.405845151377397166906606412076961,
        0.207784955007898467600689403773245,
        0.0,
    ]
    half_weights = [
        0.022935322010529224963732008058970,
        0.063092092629978553290700663189204,
        0.104790010322250183839876322541518,
        0.140653259715525918745189590510238,
        0.169004726639267902826583426598550,
        0.190350578064785409913256402421014,
        0.204432940075298892414161999234649,
        0.209482141084727828012999174891714,
    ]
    gauss_weights = [
        0.129484966168869693270611432679082,
        0.279705391489276667901467771423780,
        0.381830050505118944950369775488975,
        0.417959183673469387755102040816327,
    ]
    rule = quadrature.gauss_kronrod(15)
    np.testing.assert_allclose(1 - 2 * rule.nodes[:8], half_nodes, rtol=0, atol=4e-16)
    np.testing.assert_allclose(2 * rule.weights[:8], half_weights, rtol=0, atol=4e-16)
    gauss = quadrature.gauss_legendre(7)
    np.testing.assert_array_equal(rule.nodes[1::2], gauss.nodes)
    np.testing.assert_allclose(2 * gauss.weights[:4], gauss_weights, rtol=0, atol=4e-16)


@pytest.mark.parametrize("m", [1, 2, 3, 7, 10, 15])
def test_gauss_kronrod_contains_gauss_legendre(m):
    rule, gauss = quadrature.gauss_kronrod(2 * m + 1), quadrature.gauss_legendre(m)
    np.testing.assert_array_equal(rule.nodes[1::2], gauss.nodes)


@pytest.mark.parametrize("n", [3, 5, 9, 17, 33, 65, 129])
def test_clenshaw_curtis_nests(n):
    rule, coarse = quadrature.clenshaw_curtis(n), quadrature.clenshaw_curtis((n + 1) // 2)
    np.testing.assert_array_equal(rule.nodes[::2], coarse.nodes)


def test_clenshaw_curtis_of_two_nodes_is_the_trapezoid():
    np.testing.assert_allclose(quadrature.clenshaw_curtis(2).weights, [0.5, 0.5])


def test_the_mean_that_peers_take_is_worse():
    values = {n: quadrature.endpoint_mean(n) for n in (8,)}
    error = abs(values[8].weights @ values[8].nodes ** 2 - 1 / 3)
    assert error > 1e-2
    gauss = quadrature.gauss_legendre(8)
    assert abs(gauss.weights @ gauss.nodes**2 - 1 / 3) < 1e-15


@pytest.mark.parametrize(
    ("make", "n", "message"),
    [
        (quadrature.riemann_left, 0, "`n` must be at least 1; got 0"),
        (quadrature.riemann_right, -1, "`n` must be at least 1; got -1"),
        (quadrature.midpoint, 0, "`n` must be at least 1; got 0"),
        (quadrature.gauss_legendre, 0, "`n` must be at least 1; got 0"),
        (quadrature.trapezoid, 1, "`n` must be at least 2; got 1"),
        (quadrature.clenshaw_curtis, 1, "`n` must be at least 2; got 1"),
        (quadrature.endpoint_mean, 1, "`n` must be at least 2; got 1"),
        (quadrature.simpson, 4, "`n` must be odd and at least 3; got 4"),
        (quadrature.simpson, 1, "`n` must be odd and at least 3; got 1"),
        (quadrature.gauss_kronrod, 14, "`n` must be odd and at least 3; got 14"),
        (quadrature.gauss_kronrod, 1, "`n` must be odd and at least 3; got 1"),
    ],
)
def test_impossible_numbers_of_nodes(make, n, message):
    with pytest.raises(ValueError, match=message):
        make(n)


@pytest.mark.parametrize("n", [2.0, True, "8", None, np.ones(2)])
def test_number_of_nodes_must_be_an_int(n):
    with pytest.raises(TypeError, match="`n` must be an int"):
        quadrature.midpoint(n)


def test_number_of_nodes_must_not_be_traced():
    with pytest.raises(TypeError, match="`n` decides shapes and must be a Python int"):
        jax.jit(lambda n: quadrature.midpoint(n).weights)(3)


def test_tables_are_built_once():
    assert quadrature.gauss_legendre(9) is quadrature.gauss_legendre(np.int64(9))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (([0.5], [0.5, 0.5]), r"`weights` must have the shape of `nodes`; got \(2,\) against"),
        (([[0.5]], [[1.0]]), r"`nodes` must be one-dimensional; got shape \(1, 1\)"),
        ((0.5, 1.0), r"`nodes` must be one-dimensional; got shape \(\)"),
        (([], []), r"`nodes` must be one-dimensional; got shape \(0,\)"),
        (([0.5, 1.5], [0.5, 0.5]), r"`nodes` must lie in \[0, 1\]; got 1.5"),
        (([-0.1], [1.0]), r"`nodes` must lie in \[0, 1\]; got -0.1"),
        (([np.nan], [1.0]), r"`nodes` must lie in \[0, 1\]; got nan"),
    ],
)
def test_a_rule_of_ones_own_is_checked(tables, message):
    with pytest.raises(ValueError, match=message):
        Rule(*tables)


def test_a_rule_does_not_follow_the_array_it_was_made_of():
    nodes = np.array([0.5])
    rule = Rule(nodes, np.ones(1))
    nodes[0] = 0.25
    assert rule.nodes[0] == 0.5


def test_a_rule_is_a_pytree():
    rule = quadrature.gauss_kronrod(5)
    leaves, structure = jax.tree.flatten(rule)
    assert len(leaves) == 2
    placeholder = jax.tree.unflatten(structure, [object()] * 2)
    assert isinstance(placeholder, Rule)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(rule)]
    assert names == [".nodes", ".weights"]


def test_a_rule_can_be_an_argument_and_be_made_of_traced_tables():
    calls = 0

    @jax.jit
    def mean(rule):
        nonlocal calls
        calls += 1
        return jnp.sum(Rule(rule.nodes, rule.weights).weights * rule.nodes)

    assert mean(quadrature.midpoint(4)) == pytest.approx(0.5)
    assert mean(quadrature.gauss_legendre(4)) == pytest.approx(0.5)
    assert calls == 1


def test_rules_can_be_mapped_over():
    rules = jax.tree.map(
        lambda *tables: np.stack(tables), quadrature.midpoint(4), quadrature.gauss_legendre(4)
    )
    third = jax.vmap(lambda rule: jnp.sum(rule.weights * rule.nodes**2))(rules)
    np.testing.assert_allclose(third, [0.328125, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "degree"),
    [
        (quadrature.gauss_legendre(3000), 5999),
        (quadrature.gauss_kronrod(1201), 1801),
        (quadrature.clenshaw_curtis(3001), 3001),
        (quadrature.gauss_legendre(1), 1),
    ],
    ids=["gauss_legendre", "gauss_kronrod", "clenshaw_curtis", "one node"],
)
def test_rules_of_many_nodes(rule, degree):
    """Within seconds: an eigenvalue problem of 3000 nodes took 15."""
    assert np.isfinite(rule.weights).all() and (rule.weights > 0).all()
    assert (np.diff(rule.nodes) > 0).all()
    assert rule.weights.sum() == pytest.approx(1, abs=1e-12)
    for power in (1, degree // 2, degree):
        integral = rule.weights @ rule.nodes**power
        assert integral == pytest.approx(1 / (power + 1), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 32, 101])
def test_gauss_legendre_is_that_of_numpy(n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    rule = quadrature.gauss_legendre(n)
    np.testing.assert_allclose(rule.nodes, (1 + nodes) / 2, rtol=0, atol=1e-15)
    np.testing.assert_allclose(rule.weights, weights / 2, rtol=0, atol=1e-14)


@pytest.mark.parametrize("panels", [[], [0.0], [[0.0, 1.0]]])
def test_a_composite_rule_needs_a_panel(panels):
    with pytest.raises(ValueError, match=r"`panels` must hold the ends of at least one panel; got"):
        quadrature.composite(quadrature.midpoint(1), panels)
