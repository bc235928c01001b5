"""What is no model, or given to the wrong adapter, is told what to write."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.errors import InvalidRngError, ModifyScopeVariableError, ScopeParamShapeError
from flax.training.train_state import TrainState

import attrax
from attrax import scores

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
        (nn.Dense, r"Dense is a class: .* attrax\.from_linen\(module, variables\)"),
        (nnx.Linear, r"Linear is a class: .* attrax\.from_nnx\(module\)"),
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


class Flat(nn.Module):
    """Takes a batch of pictures, or of anything else."""

    train: bool = False

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(4)(x.reshape(x.shape[0], -1))
        return nn.Dense(3)(nn.BatchNorm(use_running_average=not self.train)(h))


class Pooled(nn.Module):
    """Takes a batch of pictures; with a further axis they pass, and come out as something else."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.mean(axis=(1, 2)))


class FlatNnx(nnx.Module):
    def __init__(self, train=False):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(32, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=not train, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.first(x.reshape(x.shape[0], -1)))


def _unpacked(x):
    n, height, width = x.shape
    return x.reshape(n, height * width)


PICTURE = jnp.ones((8, 4))
FLAT = Flat().init(jax.random.key(0), PICTURE[None])
POOLED = Pooled().init(jax.random.key(0), jnp.ones((1, 5, 4, 2)))
BATCHED = {
    "linen": attrax.from_linen(Flat(), FLAT),
    "nnx": attrax.from_nnx(FlatNnx()),
    "function": attrax.as_model(lambda x: Flat().apply(FLAT, x)),
    "axes": attrax.as_model(lambda x: jnp.mean(x, axis=(1, 2))),
    "unpacked": attrax.as_model(_unpacked),
    "index": attrax.as_model(lambda x: x.reshape(x.shape[0], x.shape[1] * x.shape[2])),
}


@pytest.mark.parametrize("model", BATCHED.values(), ids=BATCHED.keys())
@pytest.mark.parametrize(
    "ask",
    [
        lambda model, x: model(x),
        lambda model, x: jax.jit(model)(x),
        lambda model, x: attrax.layers(model, x),
        lambda model, x: attrax.cut(model, x, at="Dense_0"),
        lambda model, x: attrax.gradient(model.then(scores.logit(0)), x),
    ],
)
def test_an_example_without_batch_axis_is_told_of_unbatched(model, ask):
    with pytest.raises(
        Exception, match=r"the shapes \(8, 4\)\. .*`attrax\.unbatched\(model\)`"
    ) as found:
        ask(model, PICTURE)
    (note,) = _notes(found.value)
    assert "unbatched" in note
    nested = attrax.as_model(lambda x: model(x))
    with pytest.raises(type(found.value)) as again:
        ask(nested, PICTURE)
    assert _notes(again.value) == [note]


def _notes(error):
    """The notes of attrax: JAX adds one on its tracebacks."""
    return [note for note in error.__notes__ if "attrax" in note]


def test_the_error_stays_that_of_flax():
    with pytest.raises(ScopeParamShapeError, match="existing parameter"):
        BATCHED["linen"](PICTURE)


@pytest.mark.parametrize("model", list(BATCHED.values())[:3], ids=list(BATCHED)[:3])
def test_an_example_with_batch_axis_is_told_of_unbatched(model):
    with pytest.raises(ValueError, match=r"scores one example.*unbatched\(model\)`.*\n.*`x\[0\]`"):
        attrax.gradient(model.then(scores.logit(0)), PICTURE[None])


def test_unbatched_says_that_it_adds_the_batch_axis():
    flat = attrax.unbatched(BATCHED["unpacked"])
    for ask in (flat, lambda x: attrax.layers(flat, x)):
        with pytest.raises(
            ValueError, match=r"the shapes \(1, 1, 8, 4\)\. .* pass `x\[0\]`"
        ) as found:
            ask(PICTURE[None])
        assert len(_notes(found.value)) == 1
    pooled = attrax.unbatched(attrax.from_linen(Pooled(), POOLED))
    x = jnp.ones((5, 4, 2))
    assert attrax.gradient(pooled.then(scores.logit(0)), x).shape == x.shape
    with pytest.raises(ValueError, match=r"got \(4, 3\).*\n.*shape \(1, 5, 4, 2\) .*`x\[0\]`"):
        attrax.gradient(pooled.then(scores.logit(0)), x[None])
    with pytest.raises(
        ValueError, match=r"got \(4, 3\)\. .*unbatched.* without that axis, `x\[0\]`"
    ):
        attrax.gradient(lambda x: scores.logit(0)(pooled(x)), x[None])


def test_errors_of_other_kinds_get_no_advice():
    def traced(x):
        return x if x.sum() > 0 else -x

    def wrong(x):
        raise ValueError("the tokenizer is missing")

    for model in (traced, wrong):
        with pytest.raises((TypeError, ValueError)) as found:
            attrax.layers(model, PICTURE)
        assert not any("unbatched" in note for note in getattr(found.value, "__notes__", ()))


TRAINING = {
    "statistics": (attrax.from_linen(Flat(train=True), FLAT), ModifyScopeVariableError, "discard"),
    "dropout": (
        attrax.from_linen(nn.Dropout(0.5), {}, deterministic=False),
        InvalidRngError,
        r"rngs=\{'dropout': key\}",
    ),
}


@pytest.mark.parametrize(("model", "error", "other"), TRAINING.values(), ids=TRAINING.keys())
@pytest.mark.parametrize("wrap", [lambda model: model, attrax.unbatched])
def test_a_linen_module_in_training_is_told_of_its_switch(model, error, other, wrap):
    x = PICTURE if wrap is attrax.unbatched else PICTURE[None]
    switch = r"train=False\)`, .*`deterministic=True` or `use_running_average=True`"
    for ask in (wrap(model), lambda x: attrax.layers(wrap(model), x)):
        with pytest.raises(error, match=rf"(?s)^(Cannot|None needs) .*\n.*{switch}.*{other}"):
            ask(x)


def test_an_nnx_module_in_training_is_told_of_eval_first():
    one = attrax.unbatched(attrax.from_nnx(FlatNnx(train=True)))
    for ask in (one, lambda x: attrax.layers(one, x)):
        with pytest.raises(ValueError, match=r"^the call changes .*`module\.eval\(\)`"):
            ask(PICTURE)


@pytest.mark.parametrize(
    "params",
    [
        FLAT["params"],
        {"encoder": {"Dense_0": {"kernel": X}}},
        {"encoder": {"inner": {"scale": X}}},
        {"Mixer_0": {"w": X}},
        {"w": X},
    ],
)
def test_from_linen_takes_parameters_in_their_collection(params):
    with pytest.raises(
        ValueError, match=r"no collection 'params', .* write \{'params': variables\}"
    ):
        attrax.from_linen(Flat(), params)
    attrax.from_linen(Flat(), {"params": {}, **params})


def test_from_linen_takes_a_module_without_parameters():
    module = nn.BatchNorm(use_running_average=True, use_bias=False, use_scale=False)
    model = attrax.from_linen(module, module.init(jax.random.key(0), X))
    assert model(X).shape == X.shape


def test_a_missing_collection_is_named():
    model = attrax.from_linen(Flat(), {"params": FLAT["params"]})
    with pytest.raises(Exception, match=r"collections \['params'\]\. .* all that `init` returns"):
        model(PICTURE[None])


def test_a_function_without_layers_is_told_of_the_adapters():
    with pytest.raises(ValueError, match=r"`attrax\.tap`, or .*from_linen\(.*from_nnx\(module\)`"):
        attrax.capture(lambda x: x, X, at="Dense_0")
