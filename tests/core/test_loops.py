"""The one loop: the right sum for any chunking, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import quadrature
from attrax._core._loops import weighted_sum

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize(("n", "batch_size"), [(1, 1), (5, 1), (5, 2), (6, 3), (7, 3), (5, 9)])
def test_any_chunking_gives_the_sum(n, batch_size):
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=n).astype("f"), rng.normal(size=n).astype("f")
    total = weighted_sum(
        lambda t: {"a": jnp.sin(t), "b": t * jnp.arange(3.0)},
        jnp.asarray(points),
        jnp.asarray(weights),
        batch_size=batch_size,
    )
    np.testing.assert_allclose(total["a"], weights @ np.sin(points), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total["b"], weights @ points * np.arange(3.0), rtol=1e-5, atol=1e-6)


def scans(n, batch_size):
    program = jax.make_jaxpr(lambda t: weighted_sum(jnp.sin, t, jnp.ones(n), batch_size=batch_size))
    return [eqn for eqn in program(jnp.ones(n)).eqns if eqn.primitive.name == "scan"]


def test_no_scan_when_one_chunk_holds_everything():
    assert not scans(8, 8)
    assert not scans(8, 100)
    assert len(scans(9, 8)) == 1


def test_chunks_are_even():
    # Nine points, at most eight at once: two chunks of five, not one of eight and one of one.
    assert scans(9, 8)[0].params["length"] == 2
    (points, _) = (v.aval.shape for v in scans(9, 8)[0].invars[-2:])
    assert points == (2, 5)


def test_padding_repeats_a_real_point():
    # 1/sqrt(t) is infinite at 0: a node made up at 0 would give 0 x inf, which is NaN.
    nodes = jnp.arange(1.0, 6.0)
    total = weighted_sum(lambda t: 1 / jnp.sqrt(t), nodes, jnp.ones(5), batch_size=2)
    assert total == pytest.approx(float(np.sum(1 / np.sqrt(np.arange(1, 6)))), rel=1e-6)


def test_root_integrated_from_zero():
    x = jnp.array([4.0, 9.0])
    rule = quadrature.riemann_right(5)
    attribution = attrax.integrated_gradients(
        lambda x: jnp.sum(jnp.sqrt(x)), x, rule=rule, batch_size=2
    )
    expected = np.sqrt(np.asarray(x)) * np.mean(0.5 / np.sqrt(rule.nodes))
    np.testing.assert_allclose(attribution, expected, rtol=1e-6)


def test_bfloat16_is_accumulated_in_float32():
    ones = jnp.full(1000, 1e-3)
    total = weighted_sum(lambda t: t.astype(jnp.bfloat16), jnp.ones(1000), ones, batch_size=1)
    assert total.dtype == jnp.float32
    assert total == pytest.approx(1.0, rel=1e-5)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        nodes = jnp.linspace(0.0, 1.0, 5, dtype="float64")
        total = weighted_sum(jnp.exp, nodes, jnp.ones(5, "float32"), batch_size=2)
        assert total.dtype == jnp.float64
        assert total == pytest.approx(np.exp(np.linspace(0, 1, 5)).sum(), rel=1e-14)


def test_points_may_hold_keys():
    keys = jax.random.split(jax.random.key(0), 5)
    draw = lambda point: jax.random.normal(point[1]) * point[0]  # noqa: E731
    total = weighted_sum(draw, (jnp.ones(5), keys), jnp.ones(5), batch_size=2)
    assert total == pytest.approx(float(jax.vmap(jax.random.normal)(keys).sum()), rel=1e-5)


def temporary_bytes(function, x):
    compiled = jax.jit(function).lower(x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def network(x):
    return jnp.sum(jnp.tanh(jnp.sin(x) * jnp.roll(x, 1)) ** 2)


def explain(n, batch_size):
    rule = quadrature.gauss_legendre(n)
    return lambda x: attrax.integrated_gradients(network, x, rule=rule, batch_size=batch_size)


def test_memory_does_not_depend_on_the_number_of_nodes():
    x = jnp.ones(100_000)
    few, many = (temporary_bytes(explain(n, 8), x) for n in (64, 256))
    assert many == pytest.approx(few, rel=0.05)
    assert temporary_bytes(explain(64, 2), x) < few / 2


def test_memory_of_the_derivative_does_not_either():
    x = jnp.ones(100_000)
    penalty = lambda n: jax.grad(lambda x: jnp.sum(explain(n, 8)(x) ** 2))  # noqa: E731
    few, many = (temporary_bytes(penalty(n), x) for n in (64, 256))
    assert many == pytest.approx(few, rel=0.05)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batch_size_must_be_positive(batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        weighted_sum(jnp.sin, jnp.ones(3), jnp.ones(3), batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [None, 2.0, True])
def test_batch_size_must_be_an_int(batch_size):
    with pytest.raises(TypeError, match="`batch_size` must be an int"):
        weighted_sum(jnp.sin, jnp.ones(3), jnp.ones(3), batch_size=batch_size)


def test_batch_size_must_not_be_traced():
    with pytest.raises(TypeError, match="`batch_size` determines shapes"):
        jax.jit(lambda b: weighted_sum(jnp.sin, jnp.ones(3), jnp.ones(3), batch_size=b))(2)


def test_equal_gradients_at_all_positions_are_summed_right():
    """Behind a mean over positions; XLA on a CPU sums products of two broadcasts wrongly."""

    def explain(weights, x):
        fn = lambda x: jnp.mean(x, axis=0) @ weights  # noqa: E731
        return attrax.integrated_gradients(fn, x, rule=attrax.quadrature.midpoint(3))

    keys = jax.random.split(jax.random.key(0))
    weights, x = jax.random.normal(keys[0], (1280,)), jax.random.normal(keys[1], (7, 1280))
    np.testing.assert_allclose(jax.jit(explain)(weights, x), x * weights[None] / 7, rtol=1e-5)
