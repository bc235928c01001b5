"""Checks of arguments: each message names the argument, what was got and what to do."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from flax import nnx

import attrax
from attrax._core import _checks
from attrax.metrics import gini

CERTIFIED = attrax.Certified(*[jnp.zeros(1)] * 5)
ESTIMATE = attrax.Estimate(jnp.ones((2, 3)), jnp.zeros((2, 3)))


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("uint8", r"Convert a picture .* `jnp\.asarray\(x, jnp\.float32\) / 255`"),
        ("int32", r"There is no gradient .* token ids: cut the model .* measurements: convert"),
        ("complex64", r"Take its real and imaginary parts as two arrays"),
        ("bool", r"Convert it, as in `jnp\.asarray\(x, jnp\.float32\)`"),
    ],
)
def test_what_is_not_floating_is_told_what_to_do(dtype, hint):
    x = jnp.ones((2, 2), dtype)
    with pytest.raises(TypeError, match=rf"^`x` must be floating; got {dtype}\. {hint}"):
        attrax.gradient(jnp.sum, x)
    with pytest.raises(TypeError, match=rf"^`x` must be floating; got {dtype}\. {hint}"):
        attrax.gradient(jnp.sum, {"picture": x})


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_only_an_example_can_be_token_ids(dtype):
    convert = r"Convert it, as in `jnp\.asarray\(attribution, jnp\.float32\)`\.$"
    with pytest.raises(
        TypeError, match=rf"`attribution` must be floating; got {dtype}\. {convert}"
    ):
        gini(jnp.ones(3, dtype))
    convert = r"Convert it, as in `jnp\.asarray\(baseline, x\.dtype\)`\.$"
    with pytest.raises(ValueError, match=rf"`baseline` .* got {dtype} against float32\. {convert}"):
        attrax.integrated_gradients(jnp.sum, jnp.ones(3), jnp.ones(3, dtype))


REDUCERS = {
    "channels": lambda a: attrax.channels(a),
    "positions": lambda a: attrax.positions(a),
    "rank_channels": lambda a: attrax.rank_channels(a, 1),
    "upsample": lambda a: attrax.upsample(a, (4, 4)),
}


@pytest.mark.parametrize("reduce", REDUCERS.values(), ids=REDUCERS.keys())
@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (
            ESTIMATE,
            TypeError,
            r"hold arrays only; got Estimate\(value, standard_error\)\. Pass its `\.value`",
        ),
        (
            CERTIFIED,
            TypeError,
            r"hold arrays only; got Certified\(value, .*\)\. Pass its `\.value`",
        ),
        ({"a": ESTIMATE}, TypeError, r"hold arrays only; got Estimate\(.*\)\. Pass its `\.value`"),
        ({"a": jnp.ones(3)}, ValueError, r"be one array; got a dict\. Choose one"),
        ((jnp.ones(3),), ValueError, r"be one array; got a tuple\. Choose one"),
        ([1.0, 2.0], ValueError, r"be one array; got a list\. Choose one"),
        (
            attrax.ChannelExplanation(*[jnp.ones(3)] * 3),
            ValueError,
            r"be one array; got ChannelExplanation\(channel, contributions, attribution\)",
        ),
    ],
)
def test_a_reducer_takes_one_array(reduce, result, error, message):
    with pytest.raises(error, match=rf"^`(attribution|values)` must {message}"):
        reduce(result)


def test_a_number_is_no_function():
    with pytest.raises(
        TypeError, match=r"must be a function; got 1\. .*`attrax\.scores\.logit\(1\)`"
    ):
        attrax.gradient(1, jnp.ones(3))
    with pytest.raises(TypeError, match=r"`fn` must be a function; got None\.$"):
        attrax.gradient(None, jnp.ones(3))


LINEN, NNX = nn.Dense(2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
FROM_LINEN = r"`attrax\.from_linen\(module, variables\)\.then\(attrax\.scores\.logit\(i\)\)`"
FROM_NNX = r"`attrax\.from_nnx\(module\)\.then\(attrax\.scores\.logit\(i\)\)`"


@pytest.mark.parametrize(
    ("fn", "error", "message"),
    [
        (LINEN, TypeError, rf"got Dense, a Linen module that has no variables.*{FROM_LINEN}"),
        (LINEN.apply, TypeError, rf"got Dense, a Linen module that has no variables.*{FROM_LINEN}"),
        (nn.Dense, TypeError, rf"got the class Dense\. Make a module .* {FROM_LINEN}"),
        (nnx.Linear, TypeError, rf"got the class Linear\. Make a module .* {FROM_NNX}"),
        (NNX, ValueError, rf"must return a scalar; got shape \(2,\)\. .* {FROM_NNX}"),
        (NNX.__call__, ValueError, rf"must return a scalar; got shape \(2,\)\. .* {FROM_NNX}"),
        (attrax.as_model(jnp.sin), ValueError, r"`model\.then\(attrax\.scores\.logit\(i\)\)`"),
        (jnp.sin, ValueError, r"`lambda x: attrax\.scores\.logit\(i\)\(model\(x\)\)`.*unbatched"),
        (lambda x: (x, x), ValueError, r"got a tuple\. Return one score, as in `lambda x: attrax"),
    ],
)
def test_a_module_is_no_scalar_function(fn, error, message):
    with pytest.raises(error, match=message):
        attrax.integrated_gradients(fn, jnp.ones(3))


def test_a_module_that_fails_is_told_its_adapter():
    with pytest.raises(TypeError, match=FROM_NNX):  # the error is JAX's, the note is ours
        attrax.integrated_gradients(NNX, jnp.ones(4))


def test_a_module_with_weights_and_one_number_is_a_function():
    module = nn.Dense(1, use_bias=False)
    bound = module.bind({"params": {"kernel": jnp.array([[1.0], [2.0]])}})
    found = attrax.gradient(lambda x: bound(x)[0], jnp.ones(2))
    assert attrax.gradient(_Total().bind({}), jnp.ones(2)).tolist() == [1.0, 1.0]
    assert found.tolist() == [1.0, 2.0]


class _Total(nn.Module):
    def __call__(self, x):
        return x.sum()


def test_leading_axis():
    assert _checks.leading_axis({"a": jnp.ones((3, 2)), "b": [jnp.ones(3)]}, "`xs`") == 3
    for tree in ({"a": jnp.ones((3, 2)), "b": jnp.ones(2)}, jnp.ones(()), jnp.ones((0, 2))):
        with pytest.raises(ValueError, match=r"`xs` must have one leading axis .* got shapes \("):
            _checks.leading_axis(tree, "`xs`")
    with pytest.raises(ValueError, match="got no array"):
        _checks.leading_axis((), "`xs`")


def test_the_structures_are_compared():
    with pytest.raises(ValueError, match="`b` must have the structure of `a`; got PyTreeDef"):
        _checks.same_structure({"x": 1.0}, [1.0], "b", "a")
