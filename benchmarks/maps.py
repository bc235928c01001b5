"""Every method of the library that gives a map of the input, and what its authors claim for it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

import attrax
from attrax import paths, scores

SIZE = 224
BLUR = 10.0  # pixels
NOISE = 0.15  # standard deviation over the range of the picture
LAST_CONVOLUTION = "relu6#1"


class Effort(NamedTuple):
    """How many of everything: a number of gradients or forward passes for each photograph."""

    photos: int
    randomised: int  # photographs with a random network, each its own
    nodes: int  # of integrated gradients
    steps: int  # of the other paths
    samples: int  # of noise or baselines
    channels: int  # of Score-CAM
    points: int  # of a curve, less one
    rankings: int  # random ones


class Seen(NamedTuple):
    """What a method may look at: one photograph, its class, the network, other photographs."""

    module: nn.Module
    variables: Any
    x: jax.Array
    label: jax.Array
    key: jax.Array
    others: jax.Array

    @property
    def model(self) -> attrax.Model:
        return attrax.from_linen(self.module, self.variables)

    def fn(self, x: jax.Array) -> jax.Array:
        """The logit of the class."""
        return scores.logit(self.label)(self.model(x))


class Method(NamedTuple):
    """A map of the input, `Seen -> (224, 224)`, and what is said about it."""

    explain: Callable[[Seen], jax.Array]
    passes: str  # gradients (g) and forward passes (f)
    claims: str = ""  # why it has to be better than chance; empty: it does not say so
    signed: bool = True  # has the map two signs, for and against?
    layer: bool = False  # is it a map of the last convolution, 7 x 7?
    start: str = ""  # where a complete method starts from: grey, blurred, others


def methods(effort: Effort) -> dict[str, Method]:
    """Every method of the library that gives a map of the input, by name."""
    nodes, steps, samples = effort.nodes, effort.steps, effort.samples
    line = attrax.quadrature.gauss_legendre(steps)
    complete = "complete: it says what the score is made of"
    return {
        "gradient, magnitude": Method(
            lambda s: magnitude(attrax.gradient(s.fn, s.x)), "1 g", signed=False
        ),
        "gradient x input": Method(
            lambda s: attrax.positions(attrax.gradient_times_input(s.fn, s.x)), "1 g"
        ),
        "integrated gradients": Method(
            lambda s: attrax.positions(
                attrax.integrated_gradients(
                    s.fn, s.x, rule=attrax.quadrature.gauss_legendre(nodes), batch_size=1
                )
            ),
            f"{nodes} g",
            complete,
            start="grey",
        ),
        "blur integrated gradients": Method(
            lambda s: attrax.positions(
                attrax.path_integrated_gradients(
                    s.fn, s.x, path=paths.blur(BLUR), rule=line, batch_size=1
                )
            ),
            f"{steps} g",
            complete,
            start="blurred",
        ),
        "guided integrated gradients": Method(
            lambda s: attrax.positions(
                attrax.guided_integrated_gradients(s.fn, s.x, steps=steps - 1)
            ),
            f"{steps} g",
            complete,
            start="grey",
        ),
        "IDGI": Method(
            lambda s: attrax.positions(attrax.idgi(s.fn, s.x, steps=steps - 1, batch_size=4)),
            f"{steps} g",
            complete,
            start="grey",
        ),
        "decision gradients (IDG)": Method(
            lambda s: attrax.positions(
                attrax.integrated_decision_gradients(s.fn, s.x, rule=line, batch_size=1)
            ),
            f"{steps} g",
            "measured by insertion and deletion by its authors",
        ),
        "expected gradients": Method(
            lambda s: attrax.positions(
                attrax.expected_gradients(
                    s.fn, s.x, s.others, key=s.key, num_samples=samples, batch_size=1
                ).value
            ),
            f"{samples} g",
            complete,
            start="others",
        ),
        "SmoothGrad, magnitude": Method(
            lambda s: magnitude(noisy(attrax.smoothgrad, s, samples)), f"{samples} g", signed=False
        ),
        "SmoothGrad squared": Method(
            lambda s: attrax.positions(noisy(attrax.smoothgrad_squared, s, samples)),
            f"{samples} g",
            "found better than random by removal and retraining, Hooker et al. (2019)",
            signed=False,
        ),
        "VarGrad": Method(
            lambda s: attrax.positions(noisy(attrax.vargrad, s, samples)),
            f"{samples} g",
            "found better than random by removal and retraining, Hooker et al. (2019)",
            signed=False,
        ),
        "CAM": Method(
            lambda s: large(attrax.cam(activation(s), column(s)), s),
            "1 f",
            "exact: its mean and the bias are the logit",
            layer=True,
        ),
        "Grad-CAM": Method(
            by_gradient(attrax.grad_cam), "1 f", "compared with occlusion", layer=True
        ),
        "Grad-CAM++": Method(
            by_gradient(attrax.grad_cam_plus_plus),
            "1 f",
            "measured by the drop of the score",
            signed=False,
            layer=True,
        ),
        "HiResCAM": Method(
            by_gradient(attrax.hires_cam),
            "1 f",
            "exact: its mean and the bias are the logit",
            layer=True,
        ),
        "LayerCAM": Method(by_gradient(attrax.layer_cam), "1 f", signed=False, layer=True),
        "Score-CAM": Method(
            functools.partial(score_cam, channels=effort.channels),
            f"{effort.channels} f",
            "measured by the drop of the score, insertion and deletion",
            signed=False,
            layer=True,
        ),
        "FullGrad": Method(
            full_gradient, "1 g", "measured by removing the least salient pixels", signed=False
        ),
    }


def magnitude(attribution: jax.Array) -> jax.Array:
    """The sum of absolute values over the colours."""
    return attrax.positions(jnp.abs(attribution))


def noisy(average: Callable[..., attrax.Estimate], s: Seen, samples: int) -> jax.Array:
    """An average of the gradient over noise around the photograph."""
    sigma = NOISE * (jnp.max(s.x) - jnp.min(s.x))
    explain = functools.partial(attrax.gradient, s.fn)
    return average(explain, s.x, key=s.key, sigma=sigma, num_samples=samples, batch_size=1).value


def activation(s: Seen) -> jax.Array:
    """What the network takes the mean of: (7, 7, 1280)."""
    return attrax.capture(s.model, s.x, at=LAST_CONVOLUTION)


def column(s: Seen) -> jax.Array:
    """The weights of the class in the last layer."""
    return s.variables["params"]["classifier"]["kernel"][:, s.label]


def large(values: jax.Array, s: Seen) -> jax.Array:
    """A map of a layer, at the size of the photograph."""
    return attrax.upsample(values, s.x.shape[:2])


def by_gradient(explain: Callable[..., jax.Array]) -> Callable[[Seen], jax.Array]:
    """A map of the last convolution from the gradient there."""

    def program(s: Seen) -> jax.Array:
        z, tail = attrax.cut(s.model, s.x, at=LAST_CONVOLUTION)
        return large(explain(lambda z: scores.logit(s.label)(tail(z)), z), s)

    return program


def score_cam(s: Seen, channels: int) -> jax.Array:
    """Score-CAM of the channels that vary most from position to position."""
    z = activation(s)
    _, most = jax.lax.top_k(jnp.std(z, axis=(0, 1)), channels)
    return large(attrax.score_cam(s.fn, s.x, z[..., most], batch_size=1), s)


def full_gradient(s: Seen) -> jax.Array:
    """The saliency map of FullGrad, the biases being those of the batch norms."""
    flat = flatten_dict(s.variables, sep="/")
    names = [path[len("batch_stats/") : -len("/mean")] for path in flat if path.endswith("/mean")]
    score, at = scores.logit(s.label), ["stem:in", *names]  # one backward pass for all of them
    slopes = attrax.gradients_at(s.model, s.x, score=score, at=at)
    parts = [slopes["stem:in"] * s.x]
    for name in names:
        deviation = jnp.sqrt(flat[f"batch_stats/{name}/var"] + 1e-3)
        shift = flat[f"batch_stats/{name}/mean"] * flat[f"params/{name}/scale"] / deviation
        bias = flat[f"params/{name}/bias"] - shift
        parts.append(slopes[name] * jax.lax.expand_dims(bias, (0, 1)))
    return large(attrax.full_gradient_map(parts, (SIZE // 4, SIZE // 4)), s)
