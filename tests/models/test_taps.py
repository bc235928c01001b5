"""The tap: an identity that is only there while a program is read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import attrax


def model(x):
    return attrax.tap("square", x**2).sum()


def test_tap_is_the_identity_with_its_derivatives():
    x = jnp.array([1.0, 2.0])
    assert attrax.tap("a", x) is x
    np.testing.assert_allclose(jax.jit(jax.grad(model))(x), 2 * x)


def test_tap_leaves_nothing_in_the_callers_program():
    attrax.capture(model, jnp.ones(2), at="square")
    assert "attrax_tap" not in str(jax.make_jaxpr(model)(jnp.ones(2)))


def test_a_function_jitted_before_shows_its_taps_and_keeps_none():
    inner = jax.jit(lambda x: attrax.tap("inside", jnp.sin(x)))
    x = jnp.ones(2)
    inner(x)
    np.testing.assert_allclose(attrax.capture(inner, x, at="inside"), jnp.sin(x))
    assert "attrax_tap" not in str(jax.make_jaxpr(inner)(x))


def test_a_function_first_traced_while_read_leaves_no_taps_behind():
    inner = jax.jit(lambda x: attrax.tap("inside", jnp.cos(x)))
    attrax.layers(inner, jnp.ones(3))
    assert "attrax_tap" not in str(jax.make_jaxpr(inner)(jnp.ones(3)))
    np.testing.assert_allclose(inner(jnp.ones(3)), jnp.cos(jnp.ones(3)))


def test_tapped_pytrees_come_back_whole():
    def tree(x):
        both = attrax.tap("both", {"a": x, "b": (2 * x, "text")})
        return both["a"].sum() + both["b"][0].sum()

    found = attrax.capture(tree, jnp.ones(2), at="both")
    assert [leaf.tolist() for leaf in jax.tree.leaves(found)] == [[1, 1], [2, 2]]


def test_tap_within_a_vmap_has_the_mapped_axis_in_front():
    def mapped(x):
        return jax.vmap(lambda row: attrax.tap("row", row * 2), in_axes=1, out_axes=1)(x).sum()

    x = jnp.arange(15.0).reshape(3, 5)
    found = attrax.capture(mapped, x, at="row")
    np.testing.assert_allclose(found, 2 * x.T)
    z, tail = attrax.cut(mapped, x, at="row")
    np.testing.assert_allclose(jax.grad(tail)(z), np.ones((5, 3)))


def test_tap_within_a_gradient_is_read_once():
    def energy(x):
        return jnp.sum(attrax.tap("feature", jnp.sin(x)) ** 2)

    def force(x):
        return jax.grad(energy)(x)

    x = jnp.array([0.3, 0.7])
    z, tail = attrax.cut(force, x, at="feature")
    np.testing.assert_allclose(tail(z), 2 * jnp.sin(x) * jnp.cos(x), rtol=1e-6)
    # d/dz of 2 z cos(x), cos(x) being upstream of the cut
    np.testing.assert_allclose(jax.grad(lambda z: tail(z).sum())(z), 2 * jnp.cos(x), rtol=1e-6)


def test_checkpoint_names_can_be_addressed():
    def named(x):
        return checkpoint_name(jnp.exp(x), "activation").sum()

    np.testing.assert_allclose(attrax.capture(named, jnp.zeros(2), at="activation"), np.ones(2))


@pytest.mark.parametrize("name", ["", "a#1", "a:in", "a[0]", "/a", "a/", "a//b"])
def test_reserved_names_are_refused(name):
    with pytest.raises(ValueError, match="must be words separated by '/'"):
        attrax.tap(name, jnp.ones(1))
