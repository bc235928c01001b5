"""Safe arithmetic: derivatives at 0, the range of floats, and NaN that stays NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attrax._core import _safe
from comparisons import close

pytestmark = pytest.mark.usefixtures("strict")

# Each as a function of one vector of two entries, for which 0 is a singular point.
FUNCTIONS = {
    "absolute": lambda x: jnp.sum(_safe.absolute(x)),
    "root": lambda x: jnp.sum(_safe.root(x * x)),
    "quotient": lambda x: jnp.sum(_safe.quotient(x, x, 0)),
    "norm": _safe.norm,
    "norm along an axis": lambda x: jnp.sum(_safe.norm(x[None], 1)),
    "norm of a tree": lambda x: _safe.norm({"a": x[:1], "b": [x[1]]}),
    "total_variation": lambda x: _safe.total_variation(x, (0,)),
}
each = pytest.mark.parametrize("fn", FUNCTIONS.values(), ids=FUNCTIONS.keys())


@each
def test_value_and_slope_are_0_at_0(fn):
    value, slope = jax.value_and_grad(fn)(jnp.zeros(2))
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros(2))


@each
@pytest.mark.parametrize("place", [0, 1])
def test_nan_stays_nan(fn, place):
    assert jnp.isnan(fn(jnp.zeros(2).at[place].set(jnp.nan)))


@each
def test_infinity_is_not_finite(fn):
    assert not jnp.isfinite(fn(jnp.array([jnp.inf, 1.0])))


def test_what_rounding_made_negative_has_the_root_0():
    assert _safe.root(jnp.float32(-1e-9)) == 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norm_neither_overflows_nor_vanishes(scale):
    x = scale * jnp.array([3.0, 4.0])
    value, slope = jax.value_and_grad(_safe.norm)(x)
    close(value, 5 * scale)
    close(slope, np.array([0.6, 0.8]))
    close(jax.hessian(_safe.norm)(x) * scale, np.array([[0.128, -0.096], [-0.096, 0.072]]))


def test_norm_along_an_axis():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_array_equal(_safe.norm(x, 1), [5.0, 0.0])
    np.testing.assert_array_equal(_safe.norm(x, axis=-1), [5.0, 0.0])
    np.testing.assert_array_equal(_safe.norm(x, axis=0), [3.0, 4.0])
