"""What is no model, or given to the wrong adapter, is told what to write."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import attrax

X = jnp.ones((1, 3))
LINEN, NNX = nn.Dense(2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
VARIABLES = LINEN.init(jax.random.key(0), X)
STATE = TrainState.create(apply_fn=LINEN.apply, params=VARIABLES["params"], tx=optax.sgd(0.1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (LINEN, r"Dense has no variables of its own: write attrax.from_linen\(module, variables\)"),
        (LINEN.apply, r"from_linen\(module, variables\)\."),
        (LINEN.bind(VARIABLES).__call__, r"from_linen\(module, variables\)\."),
        (nn.GRUCell(2).initialize_carry, r"variables, method='initialize_carry'\)"),
        (nn.Dense, r"Dense is a class: .* from_linen\(module, variables\)"),
        (nnx.Linear, r"Linear is a class: .* from_nnx\(module\)"),
        (STATE, r"got TrainState: write from_linen\(module, \{'params': state.params\}\)"),
        (X, r"a model must be callable; got .*: give a Flax module"),
    ],
)
def test_what_is_no_model_says_which_adapter_is(given, message):
    with pytest.raises(TypeError, match=message):
        attrax.layers(given, X)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (NNX, r"Linen module; got Linear: write from_nnx\(module\)"),
        (nn.Dense, r"got the class Dense: write from_linen\(Dense\(\.\.\.\), variables\)"),
        (LINEN.apply, r"its method 'apply': write from_linen\(module, variables\)\."),
        (nn.GRUCell(2).initialize_carry, r"variables, method='initialize_carry'\)"),
        (lambda x: x, r"got function: a function needs no adapter, see as_model"),
        (STATE, r"got TrainState: .* state\.params"),
    ],
)
def test_from_linen_says_what_to_write(given, message):
    with pytest.raises(TypeError, match=message):
        attrax.from_linen(given, VARIABLES)


def test_from_linen_takes_collections():
    with pytest.raises(TypeError, match=r"the collections that `init` returns.*got TrainState"):
        attrax.from_linen(LINEN, STATE)
    with pytest.raises(ValueError, match=r"`variables` has no collection 'params'.*\{'params': "):
        attrax.from_linen(LINEN, STATE.params)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (LINEN, r"NNX module; got Dense: write from_linen\(module, variables\)"),
        (nnx.Linear, r"got the class Linear: write from_nnx\(Linear\(\.\.\.\)\)"),
        (LINEN.apply, r"got Dense: write from_linen\(module, variables\)"),
        (lambda x: NNX(x), r"got function: a function needs no adapter, see as_model"),
        (STATE, r"got TrainState: .* state\.params"),
    ],
)
def test_from_nnx_says_what_to_write(given, message):
    with pytest.raises(TypeError, match=message):
        attrax.from_nnx(given)
