"""The names of Captum, TruLens and Lucid, and what each is here.

A row holds the expression that a reader copies, as it stands in `docs/coming_from.md`, and another
way to its value: plain JAX on the two halves of a small network, without attrax.
`test_coming_from.py` evaluates all of them. `python tests/coming_from.py` prints the tables.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np

PLANNED = "planned"


class Row(NamedTuple):
    """One name of a peer.

    `reference(r)` is the value of `ours` by other means; where that one is an estimate, its
    expectation. None where no numbers come out. `ours` may also be a script of `examples/`.
    """

    theirs: str
    ours: str
    note: str = ""
    reference: Callable[[Any], Any] | None = None

    @property
    def is_example(self) -> bool:
        """Whether `ours` is a script, and no expression."""
        return self.ours.startswith("examples/")


def unknown(r: Any) -> None:
    """No mean is known: the numbers are looked at only."""


# The network of the examples, and its two halves as plain functions of weights.


class Network(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = jnp.tanh(linen.Dense(3, name="early")(x))
        x = jnp.tanh(linen.Dense(4, name="late")(x.reshape(2, 2, 12)))
        return linen.Dense(3, name="logits")(x.reshape(-1))


class Reader(linen.Module):
    """Of four tokens."""

    @linen.compact
    def __call__(self, tokens):
        x = jnp.tanh(linen.Embed(7, 5, name="embed")(tokens))
        return linen.Dense(3, name="logits")(jnp.prod(x, axis=0))


def gauss(n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (1 + nodes) / 2, weights / 2


def ends(n):
    """TruLens' rule: both ends, all nodes of equal weight."""
    return np.linspace(0, 1, n), np.full(n, 1 / n)


def lefts(n):
    return np.arange(n) / n, np.full(n, 1 / n)


@functools.cache
def modules() -> dict[str, Any]:
    """The models that the document begins with."""
    words = ["not", "a", "good", "film"]
    return {"net": Network(), "text_net": Reader(), "words": words, "i": 1, "j": 2}


@functools.cache
def arrays() -> dict[str, Any]:
    """Their weights, and what is explained."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), "float32")

    x, b, tokens = draw(4, 4, 2), draw(4, 4, 2), jnp.array([3, 1, 5, 2])
    fill = functools.partial(jax.tree.map, lambda leaf: draw(*leaf.shape) / 2)
    variables = fill(jax.eval_shape(Network().init, jax.random.key(0), x))
    words = fill(jax.eval_shape(Reader().init, jax.random.key(0), tokens))
    return {
        "variables": variables,
        "text_variables": words,
        "x": x,
        "xs": jnp.stack([x, x[::-1]]),
        "targets": jnp.array([1, 2]),
        "b": b,
        "bs": jnp.stack([b, b / 2, 0 * b]),
        "v": draw(4, 4, 3),
        "tokens": tokens,
        "picture": jnp.asarray(rng.uniform(size=(4, 4, 3))),
        "key": jax.random.key(0),
    }


class Reference:
    """The same network without attrax: `before` the layer and `after` it."""

    def __init__(self, given: dict[str, Any]):
        self.__dict__.update(given)
        self.weights = given["variables"]["params"]
        self.z = self.before(self.x)

    def before(self, x):
        return x @ self.weights["early"]["kernel"] + self.weights["early"]["bias"][None, None]

    def late(self, z):
        late = self.weights["late"]
        return jnp.tanh(z).reshape(2, 2, 12) @ late["kernel"] + late["bias"][None, None]

    def logits(self, z):
        last = self.weights["logits"]
        return jnp.tanh(self.late(z)).reshape(-1) @ last["kernel"] + last["bias"]

    def after(self, z):
        return self.logits(z)[self.i]

    def fn(self, x):
        return self.after(self.before(x))

    def neuron(self, x):
        return self.before(x)[0, 1, 2]

    def mean(self, integrand, table=None):
        """The weighted mean over nodes on [0, 1]."""
        nodes, weights = (jnp.asarray(part, "float32") for part in table or gauss(32))
        return jnp.tensordot(weights, jax.vmap(integrand)(nodes), 1, precision="highest")

    def slope(self, fn, x, b=0.0, table=None):
        """The gradient averaged over the line from b to x."""
        return self.mean(lambda t: jax.grad(fn)(b + t * (x - b)), table)

    def integrated(self, fn, x, b=0.0, table=None):
        return (x - b) * self.slope(fn, x, b, table)

    def on_line(self, at_point, b=0.0, table=None):
        """`at_point(point, velocity)` averaged over the line to x in input space."""
        step = self.x - b
        return self.mean(lambda t: at_point(b + t * step, step), table)

    def inner_slope(self, b=0.0, table=None):
        return self.on_line(lambda p, v: jax.grad(self.after)(self.before(p)), b, table)

    def conductance(self, b, table=None):
        def at_point(p, v):
            z, velocity = jax.jvp(self.before, (p,), (v,))
            return jax.grad(self.after)(z) * velocity

        return self.on_line(at_point, b, table)

    def doubled(self, values):
        """A map of (4, 4) at (8, 8), linear between the centres of its pixels."""
        at = jnp.clip((jnp.arange(8) + 0.5) / 2 - 0.5, 0, 3)
        weights = jnp.maximum(1 - jnp.abs(at[:, None] - jnp.arange(4)[None]), 0)
        return weights @ values @ weights.T

    def noisy(self, statistic, sigma, n=1000):
        """A statistic of the gradients at n noisy inputs."""
        noise = np.random.default_rng(1).normal(size=(n, *self.x.shape)).astype("float32")
        return statistic(jax.vmap(jax.grad(self.fn))(self.x[None] + sigma * noise))

    def infidelity(self, sigma, n=1000):
        noise = sigma * np.random.default_rng(2).normal(size=(n, *self.x.shape))
        noise = jnp.asarray(noise, "float32")
        drops = self.fn(self.x) - jax.vmap(self.fn)(self.x[None] - noise)
        predicted = jnp.tensordot(noise, jax.grad(self.fn)(self.x), 3, precision="highest")
        return jnp.mean((predicted - drops) ** 2)


# What the words of a text add to a score.
WORD_SCORES = "attrax.positions(attrax.gradient_times_input(at_words, embedded))"
INPUTS = (
    Row(
        "`Saliency`",
        "jnp.abs(attrax.gradient(fn, x))",
        "Captum takes the absolute value unless `abs=False`.",
        lambda r: jnp.abs(jax.grad(r.fn)(r.x)),
    ),
    Row(
        "`InputXGradient`",
        "attrax.gradient_times_input(fn, x)",
        "A baseline may be given: `(x - b)` times the gradient.",
        lambda r: r.x * jax.grad(r.fn)(r.x),
    ),
    Row(
        "`IntegratedGradients`, baselines, n_steps=50",
        "attrax.integrated_gradients(fn, x, b, rule=quadrature.gauss_legendre(50))",
        "The rule is a value; by default `gauss_legendre(32)`.",
        lambda r: r.integrated(r.fn, r.x, r.b, gauss(50)),
    ),
    Row(
        '`method="riemann_left"`',
        "attrax.integrated_gradients(fn, x, b, rule=quadrature.riemann_left(50))",
        "Also `riemann_right`, `midpoint` (`riemann_middle`), `trapezoid`, `simpson`, "
        "`clenshaw_curtis`, `gauss_kronrod`. `riemann_trapezoid` differs: see below.",
        lambda r: r.integrated(r.fn, r.x, r.b, lefts(50)),
    ),
    Row(
        "`multiply_by_inputs=False`",
        "attrax.influence(fn, x, distributions.linear(b), rule=quadrature.gauss_legendre(50))",
        "The average that is multiplied by nothing is a method of its own.",
        lambda r: r.slope(r.fn, r.x, r.b, gauss(50)),
    ),
    Row(
        "`return_convergence_delta`, `compute_convergence_delta`",
        "metrics.completeness_gap(fn, attrax.gradient_times_input(fn, x, b), x, b)",
        "The same sign. Methods return one thing, diagnostics are functions.",
        lambda r: jnp.sum((r.x - r.b) * jax.grad(r.fn)(r.x)) - (r.fn(r.x) - r.fn(r.b)),
    ),
    Row(
        "`internal_batch_size=20`",
        "attrax.integrated_gradients(fn, x, b, batch_size=20)",
        "Points evaluated at once for each example. Memory never grows with the number of steps.",
        lambda r: r.integrated(r.fn, r.x, r.b),
    ),
    Row(
        "`target=[1, 2]`, one for each example",
        "jax.vmap(lambda x, i: attrax.gradient(lambda x: model(x)[i], x))(xs, targets)",
        "Methods take one example; a batch is a `vmap`.",
        lambda r: jnp.stack(
            [
                jax.grad(lambda x: r.logits(r.before(x))[1])(r.xs[0]),
                jax.grad(lambda x: r.logits(r.before(x))[2])(r.xs[1]),
            ]
        ),
    ),
    Row(
        "one call for each target",
        "jax.vmap(lambda i: attrax.gradient(lambda x: model(x)[i], x))(jnp.arange(3))",
        "All targets share the forward pass: 1 + K passes, not 2 K.",
        lambda r: jax.jacrev(lambda x: r.logits(r.before(x)))(r.x),
    ),
    Row(
        "`target=(0, 1, 2)`, for outputs with several axes",
        "attrax.gradient(lambda x: scores.neuron(0, 1, 2)(early(x)), x)",
        "A score is any function from outputs to a scalar. Here the outputs are those of a layer.",
        lambda r: jax.grad(r.neuron)(r.x),
    ),
    Row(
        "several inputs: `attribute((x, b))`",
        "attrax.integrated_gradients(lambda pair: fn(pair[0] * pair[1]), (x, b))",
        "Any pytree: tuples, dicts, dataclasses.",
        lambda r: tuple(
            a * r.mean(lambda t, k=k: jax.grad(lambda *p: r.fn(p[0] * p[1]), k)(t * r.x, t * r.b))
            for k, a in enumerate((r.x, r.b))
        ),
    ),
    Row(
        "`baselines=0.5`",
        "attrax.integrated_gradients(fn, x, jnp.full_like(x, 0.5))",
        "Nothing is broadcast: a baseline has the shape of its input, or is None, for zeros.",
        lambda r: r.integrated(r.fn, r.x, 0.5),
    ),
    Row(
        "`additional_forward_args=(mask,)`",
        "attrax.gradient(lambda x: fn(jnp.where(x > 0, x, 0)), x)",
        "Close over them in `fn`, or hand them to `cut` and `capture` with the inputs, keywords "
        "too: `cut(model, x, mask, train=False, at=...)`.",
        lambda r: jnp.where(r.x > 0, jax.grad(r.fn)(jnp.where(r.x > 0, r.x, 0)), 0),
    ),
    Row(
        '`NoiseTunnel(...)`, nt_type="smoothgrad"',
        "attrax.smoothgrad(lambda x: attrax.gradient(fn, x), x, key=key, sigma=0.1, "
        "num_samples=16)",
        "Over any method. Returns an `Estimate`: the value and its standard error. Random numbers "
        "have a key.",
        lambda r: r.noisy(lambda g: g.mean(0), 0.1),
    ),
    Row(
        '`nt_type="smoothgrad_sq"`',
        "attrax.smoothgrad_squared(lambda x: attrax.gradient(fn, x), x, key=key, sigma=0.1, "
        "num_samples=16)",
        "",
        lambda r: r.noisy(lambda g: (g**2).mean(0), 0.1),
    ),
    Row(
        '`nt_type="vargrad"`',
        "attrax.vargrad(lambda x: attrax.gradient(fn, x), x, key=key, sigma=0.1, num_samples=16)",
        "Divides by n - 1, so that it is unbiased; Captum divides by n.",
        lambda r: r.noisy(lambda g: g.var(0), 0.1),
    ),
    Row(
        "`GradientShap`, n_samples=16, stdevs=0.0",
        "attrax.expected_gradients(fn, x, bs, key=key, num_samples=16)",
        "`sigma=` is `stdevs`. Of several inputs one row of baselines is drawn together; Captum "
        "draws a row of each input for itself, and so mixes examples.",
        lambda r: jnp.mean(jnp.stack([r.integrated(r.fn, r.x, b) for b in r.bs]), 0),
    ),
    Row("`DeepLift`, `DeepLiftShap`", PLANNED),
    Row("`LRP`", PLANNED),
    Row("`GuidedBackprop`, `Deconvolution`, `GuidedGradCam`", PLANNED),
    Row("`FeatureAblation`, `FeaturePermutation`, `Occlusion`", PLANNED),
    Row("`ShapleyValueSampling`, `ShapleyValues`, `Lime`, `KernelShap`", PLANNED),
)

LAYERS = (
    Row(
        "`LayerActivation(net, net.early)`",
        'attrax.capture(model, x, at="early")',
        "Layers have names: `attrax.layers(model, x)` lists them. Functional operations have some "
        "too (`relu#0`), and a module that is called twice has one for each call.",
        lambda r: r.z,
    ),
    Row(
        "`attribute_to_layer_input=True`",
        'attrax.capture(model, x, at="late:in")',
        "`:in` is the input of a module, anywhere a layer is named.",
        lambda r: jnp.tanh(r.z).reshape(2, 2, 12),
    ),
    Row(
        "a list of layers",
        'attrax.gradients_at(model, x, score=scores.logit(i), at=["early", "late"])',
        "One backward pass for all, also where one feeds another. `capture` takes a list too.",
        lambda r: {
            "early": jax.grad(r.after)(r.z),
            "late": jax.grad(
                lambda y: jnp.tanh(y).reshape(-1) @ r.weights["logits"]["kernel"][:, r.i]
            )(r.late(r.z)),
        },
    ),
    Row(
        "`LayerGradientXActivation`",
        "attrax.gradient_times_input(at_z, z)",
        "With `multiply_by_inputs=False` it is `attrax.gradient(at_z, z)`.",
        lambda r: r.z * jax.grad(r.after)(r.z),
    ),
    Row(
        "`LayerGradCam`",
        "attrax.grad_cam(at_z, z)",
        "Signed, channels last, without the axis of one channel. `relu_attributions=True` is "
        "`jax.nn.relu` of it. Also `hires_cam`, `layer_cam`, `grad_cam_plus_plus`, `score_cam`.",
        lambda r: r.z @ jax.grad(r.after)(r.z).mean((0, 1)),
    ),
    Row(
        "`LayerAttribution.interpolate`",
        "attrax.upsample(attrax.grad_cam(at_z, z), (8, 8))",
        "Linear by default, where Captum takes the nearest pixel.",
        lambda r: r.doubled(r.z @ jax.grad(r.after)(r.z).mean((0, 1))),
    ),
    Row(
        "`InternalInfluence`",
        "attrax.internal_influence(split, x, distributions.linear(b), "
        "rule=quadrature.gauss_legendre(50))",
        "",
        lambda r: r.inner_slope(r.b, gauss(50)),
    ),
    Row(
        "`LayerConductance`",
        "attrax.conductance(split, x, b)",
        "Differs: the activation is differentiated along the path, so that a rule keeps its order. "
        "See below.",
        lambda r: r.conductance(r.b),
    ),
    Row(
        "`LayerIntegratedGradients`",
        'attrax.integrated_gradients(at_z, z, attrax.capture(model, b, at="early"))',
        "The path runs at the layer, and nothing before the layer is computed again.",
        lambda r: r.integrated(r.after, r.z, r.before(r.b)),
    ),
    Row(
        "`LayerIntegratedGradients` at an embedding, for token ids",
        "attrax.integrated_gradients(lambda z: scores.logit(i)(text_tail(z)), embedded)",
        'After `embedded, text_tail = attrax.cut(text_model, tokens, at="embed")`. No module is '
        "swapped, as `configure_interpretable_embedding_layer` does.",
        lambda r: r.integrated(
            lambda e: (
                jnp.prod(jnp.tanh(e), axis=0)
                @ r.text_variables["params"]["logits"]["kernel"][:, r.i]
            ),
            r.text_variables["params"]["embed"]["embedding"][r.tokens],
        ),
    ),
    Row(
        "`LayerGradientShap`",
        "jnp.mean(jax.vmap(lambda b: (z - early(b)) * attrax.internal_influence("
        "split, x, distributions.linear(b), "
        "rule=quadrature.gauss_legendre(16)))(bs), 0)",
        "The mean over all baselines. Captum draws them, and the points.",
        lambda r: jnp.mean(
            jnp.stack([(r.z - r.before(b)) * r.inner_slope(b, gauss(16)) for b in r.bs]), 0
        ),
    ),
    Row(
        "`LayerFeatureAblation`, one neuron",
        'fn(x) - scores.logit(i)(attrax.intervene(model, x, at={"early": '
        "lambda z: z.at[0, 1, 2].set(0.0)}))",
        "`intervene` replaces activations by any value or function. Masks of features, for inputs "
        "and layers: planned.",
        lambda r: r.after(r.z) - r.after(r.z.at[0, 1, 2].set(0.0)),
    ),
    Row("`LayerFeaturePermutation`", PLANNED),
    Row("`LayerDeepLift`, `LayerDeepLiftShap`, `LayerLRP`", PLANNED),
)

NEURONS = (
    Row(
        "`NeuronGradient`, neuron_selector=(0, 1, 2)",
        "attrax.gradient(neuron, x)",
        "A neuron is a score of a captured activation: any method explains it.",
        lambda r: jax.grad(r.neuron)(r.x),
    ),
    Row(
        "neuron_selector with slices, or a function",
        "attrax.gradient(lambda x: scores.channel(2)(early(x)), x)",
        "`scores.channel` sums a channel; `direction`, `norm` or any function will do.",
        lambda r: jax.grad(lambda x: r.before(x)[..., 2].sum())(r.x),
    ),
    Row(
        "`NeuronIntegratedGradients`",
        "attrax.integrated_gradients(neuron, x, b)",
        "",
        lambda r: r.integrated(r.neuron, r.x, r.b),
    ),
    Row(
        "`NeuronConductance`",
        "attrax.neuron_conductance(split, x, b, neuron=(0, 1, 2))",
        "`neuron=None` is all neurons in one call. Captum's default rule is its trapezoidal one, "
        "2 % too small at 50 steps.",
        lambda r: r.on_line(
            lambda p, v: jax.grad(r.after)(r.before(p))[0, 1, 2] * jax.grad(r.neuron)(p) * v, r.b
        ),
    ),
    Row(
        "`NeuronGradientShap`",
        "attrax.expected_gradients(neuron, x, bs, key=key, num_samples=16)",
        "",
        lambda r: jnp.mean(jnp.stack([r.integrated(r.neuron, r.x, b) for b in r.bs]), 0),
    ),
    Row("`NeuronDeepLift`, `NeuronDeepLiftShap`", PLANNED),
    Row("`NeuronGuidedBackprop`, `NeuronDeconvolution`", PLANNED),
    Row("`NeuronFeatureAblation`", PLANNED),
)

METRICS = (
    Row(
        "`infidelity`",
        "metrics.infidelity(fn, attrax.gradient(fn, x), x, distributions.gaussian(0.1), key=key, "
        "num_samples=64)",
        "A distribution gives the perturbed examples; the perturbation follows. An attribution in "
        "units of the score is divided by `x - b` first. No `normalize`.",
        lambda r: r.infidelity(0.1),
    ),
    Row(
        "`sensitivity_max`",
        "metrics.max_sensitivity(lambda x: attrax.gradient(fn, x), x, "
        "distributions.uniform_noise(0.02), key=key, num_samples=10)",
        "Infinite where the explanation itself is zero; Captum divides by 1 there.",
        unknown,
    ),
    Row(
        "`TCAV`, `sign_count`",
        "attrax.concepts.tcav_score(jax.vmap(lambda x: attrax.concepts.concept_sensitivity("
        "lambda z: scores.logit(i)(tail(z)), early(x), v))(xs))",
        "With `v` like the activation, fitted by any linear classifier. `tcav_magnitude` is "
        "`magnitude`, `tcav_significance` the t-test.",
        lambda r: jnp.mean(
            jnp.stack([jnp.sum(jax.grad(r.after)(r.before(x)) * r.v) > 0 for x in r.xs])
        ),
    ),
    Row(
        '`visualize_image_attr(method="heat_map")`',
        "attrax.plot.signed(attrax.gradient(fn, x))",
        'With `sign="absolute_value"` it is `plot.heatmap`. Blue is positive, red negative.',
    ),
    Row(
        '`method="blended_heat_map"`, `method="masked_image"`',
        "attrax.plot.overlay(attrax.gradient(fn, x), picture)",
        "`plot.mask` shows the picture where the attribution is.",
    ),
    Row(
        "`visualize_timeseries_attr`",
        "attrax.plot.time_series(attrax.gradient(fn, x)[0], x[0])",
        "The shape of the attribution says how: `(T, C)` is `overlay_individual`, `(T,)`, such as "
        "its sum over channels, `overlay_combined`. With `on_line=True` it is `colored_graph`.",
    ),
    Row(
        "`visualize_text`, `VisualizationDataRecord`",
        f"attrax.html.tokens([attrax.text.Text(words, {WORD_SCORES})])",
        "Blue and red, not green and red. Markup in a word does nothing. `plot.tokens` is a "
        "picture.",
    ),
    Row(
        "`LLMGradientAttribution`",
        "examples/generated_text.py",
        "One matrix for all generated tokens, in one program; `cut` at the embedding.",
    ),
    Row("`LLMAttribution`, `RemoteLLMAttribution`", PLANNED),
)

TRULENS = (
    Row(
        "`ModelWrapper(net)`, `get_model_wrapper`",
        "attrax.from_linen(net, variables)",
        "`attrax.from_nnx(module)` for NNX, `attrax.as_model` for any function. No input shape.",
    ),
    Row("`model.print_layer_names()`", "attrax.layers(model, x)", "With shapes and dtypes."),
    Row(
        '`model.fprop((x,), to_cut=Cut("early"))`',
        'attrax.capture(model, x, at="early")',
        "",
        lambda r: r.z,
    ),
    Row(
        '`fprop(..., doi_cut=Cut("early"), intervention=2 * z)`',
        'attrax.intervene(model, x, at={"early": 2 * z})',
        "",
        lambda r: r.logits(2 * r.z),
    ),
    Row(
        "`InputAttribution(model)`",
        "attrax.gradient_times_input(lambda x: scores.max_logit()(model(x)), x)",
        "The default multiplies by the input. The plain gradient is `gradient`.",
        lambda r: r.x * jax.grad(lambda x: r.logits(r.before(x)).max())(r.x),
    ),
    Row(
        "`IntegratedGradients(model, baseline, resolution=50)`",
        "attrax.integrated_gradients(fn, x, b, rule=quadrature.endpoint_mean(50))",
        "TruLens' rule counts both ends in full, an error of 1/n; leave `rule` out for a better "
        "one.",
        lambda r: r.integrated(r.fn, r.x, r.b, ends(50)),
    ),
    Row(
        '`InternalInfluence(model, "early", qoi, "point")`',
        "attrax.gradient_times_input(at_z, z)",
        "With `multiply_activation=False` it is `attrax.gradient(at_z, z)`.",
        lambda r: r.z * jax.grad(r.after)(r.z),
    ),
    Row(
        '`InternalInfluence(model, "early", qoi, "linear")`',
        "attrax.integrated_gradients(at_z, z, rule=quadrature.endpoint_mean(10))",
        "The path runs at the layer: complete.",
        lambda r: r.integrated(r.after, r.z, 0.0, ends(10)),
    ),
    Row(
        '`InternalInfluence(model, "early", qoi, LinearDoi())`',
        "z * attrax.internal_influence(split, x, distributions.linear(), "
        "rule=quadrature.endpoint_mean(10))",
        "An object, and the path runs in the input: not complete. Here the two have different "
        "names; `conductance` is the complete one in input space.",
        lambda r: r.z * r.inner_slope(0.0, ends(10)),
    ),
    Row(
        '`Cut("late", anchor="in")`',
        'attrax.cut(model, x, at="late:in")[0]',
        "The output and the input of the model need no cut.",
        lambda r: jnp.tanh(r.z).reshape(2, 2, 12),
    ),
    Row(
        '`Slice(Cut("early"), Cut("late"))`',
        'attrax.gradient(lambda z: scores.channel(3)(attrax.capture(tail, z, at="late")), z)',
        "A tail is a model: capture in it, or cut it again.",
        lambda r: jax.grad(lambda z: r.late(z)[..., 3].sum())(r.z),
    ),
    Row(
        '`Cut(["early", "late"])`',
        'attrax.gradients_at(model, x, score=scores.logit(i), at=["early", "late"])["early"]',
        "",
        lambda r: jax.grad(r.after)(r.z),
    ),
    Row(
        '`MaxClassQoI()`, `"max"`',
        "scores.max_logit()(model(x))",
        "Chosen anew at each point of a path, as in TruLens. For the class predicted at the "
        "example take `scores.logit(model(x).argmax())`.",
        lambda r: r.logits(r.z).max(),
    ),
    Row(
        '`MaxClassQoI(activation="softmax")`',
        "jnp.max(jax.nn.softmax(model(x)))",
        "`scores.probability(i)` and `scores.log_probability(i)` for one class.",
        lambda r: jax.nn.softmax(r.logits(r.z)).max(),
    ),
    Row("`ClassQoI(i)`", "scores.logit(i)(model(x))", "", lambda r: r.logits(r.z)[r.i]),
    Row(
        "`ComparativeQoI(i, j)`",
        "scores.contrast(i, j)(model(x))",
        "",
        lambda r: r.logits(r.z)[r.i] - r.logits(r.z)[r.j],
    ),
    Row(
        "`InternalChannelQoI(2)`",
        "scores.channel(2)(early(x))",
        "The last axis unless `axis=` says otherwise; `reduce=` is `agg_fn`.",
        lambda r: r.z[..., 2].sum(),
    ),
    Row(
        "`LambdaQoI(f)`",
        "(lambda y: y[0] - 0.5 * y[2])(model(x))",
        "Any function is a score. A batch axis is not part of it.",
        lambda r: r.logits(r.z)[0] - 0.5 * r.logits(r.z)[2],
    ),
    Row(
        "`ThresholdQoI(t)`",
        "scores.threshold(0.1)(model(x))",
        "`low_minus_high=True` is its negative.",
        lambda r: jnp.sum(jnp.sign(r.logits(r.z) - 0.1) * r.logits(r.z)),
    ),
    Row(
        "`ClassSeqQoI(targets)`",
        "jax.vmap(lambda x, i: scores.logit(i)(model(x)))(xs, targets)",
        "One class for each example, as its documentation says. See below.",
        lambda r: jnp.stack([r.logits(r.before(r.xs[0]))[1], r.logits(r.before(r.xs[1]))[2]]),
    ),
    Row(
        "a QoI that returns a list",
        "jax.vmap(lambda k: attrax.gradient(lambda x: scores.one_of("
        "scores.logit(i), scores.max_logit())(k)(model(x)), x))(jnp.arange(2))",
        "One attribution for each score, from one forward pass.",
        lambda r: jnp.stack(
            [
                jax.grad(r.fn)(r.x),
                jax.grad(lambda x: r.logits(r.before(x)).max())(r.x),
            ]
        ),
    ),
    Row(
        "`PointDoi()`",
        "attrax.influence(fn, x, distributions.point, rule=quadrature.midpoint(1))",
        "Which is `attrax.gradient(fn, x)`.",
        lambda r: jax.grad(r.fn)(r.x),
    ),
    Row(
        "`LinearDoi(baseline, resolution=10)`",
        "attrax.influence(fn, x, distributions.linear(b), rule=quadrature.endpoint_mean(10))",
        "The distribution says where, the rule how many and with which weights. At a layer "
        "`linear` takes a function of the activation as well.",
        lambda r: r.slope(r.fn, r.x, r.b, ends(10)),
    ),
    Row(
        "`GaussianDoi(var=0.01, resolution=16)`",
        "attrax.smoothgrad(lambda x: attrax.gradient(fn, x), x, key=key, sigma=0.1, "
        "num_samples=16)",
        "`sigma` is the standard deviation, not the variance. Without a standard error: "
        "`influence` with `distributions.gaussian(0.1)`.",
        lambda r: r.noisy(lambda g: g.mean(0), 0.1),
    ),
    Row(
        "your own `DoI`",
        "attrax.influence(fn, x, lambda x: lambda t, key: x * t**2, rule=quadrature.midpoint(8))",
        "`distribution(x) -> ((t, key) -> point)`. A mass that is not uniform is a rule with other "
        "weights.",
        lambda r: r.mean(
            lambda t: jax.grad(r.fn)(r.x * t**2), ((np.arange(8) + 0.5) / 8, np.full(8, 1 / 8))
        ),
    ),
    Row(
        "`rebatch_size`",
        "attrax.integrated_gradients(fn, x, batch_size=4)",
        "Points of one example at once; they never share a batch with other examples.",
        lambda r: r.integrated(r.fn, r.x),
    ),
    Row(
        "`MaskVisualizer(blur=1, threshold=0.5)(attributions, x)`",
        "attrax.plot.mask(attrax.gradient(fn, x), picture, blur=1, threshold=0.5)",
        "The same numbers: `plot.mask_array`.",
    ),
    Row(
        "`HeatmapVisualizer`, `Visualizer`",
        "attrax.plot.overlay(attrax.gradient(fn, x), picture)",
        "`plot.heatmap` and `plot.signed` without the picture. Scales end at a percentile and are "
        "shown; there are no types of normalisation.",
    ),
    Row(
        '`ChannelMaskVisualizer(model, "early", 2)(x)`',
        "attrax.plot.mask(attrax.gradient_times_input("
        "lambda x: scores.channel(2)(early(x)), x), picture)",
        "`attrax.strongest_channel` finds the channel and explains it, in one call.",
    ),
    Row(
        "`NLP(model, wrapper, ..., output=HTML())`, `IPython()`",
        f"attrax.html.tokens([attrax.text.Text(words, {WORD_SCORES})])",
        "A page of its own, shown in a notebook too. It colours what it is given: any attribution "
        "of any number of texts, with a row for each class.",
    ),
    Row(
        "`output=PlainText()`",
        f"attrax.html.plain_tokens([attrax.text.Text(words, {WORD_SCORES})])",
        "Three significant digits, and what controls a terminal is shown.",
    ),
)

LUCID = (
    Row(
        "channel attribution, linear",
        "attrax.channels(attrax.gradient_times_input(at_z, z))",
        "Of any model and layer, not of the model zoo.",
        lambda r: (r.z * jax.grad(r.after)(r.z)).sum((0, 1)),
    ),
    Row(
        "channel attribution along a path of 100 points",
        "attrax.channels(attrax.integrated_gradients(at_z, z, rule=quadrature.riemann_left(100)))",
        "16 nodes of the default rule are closer to the integral on a smooth network.",
        lambda r: r.integrated(r.after, r.z, 0.0, lefts(100)).sum((0, 1)),
    ),
    Row(
        "the stochastic path",
        "attrax.channels(z * attrax.influence(at_z, z, distributions.stochastic_channels(), "
        "rule=quadrature.riemann_left(100), key=key))",
        "With a key.",
        unknown,
    ),
    Row(
        "`class1`, `class2`",
        "attrax.gradient(lambda z: scores.contrast(i, j)(tail(z)), z)",
        "A second class of None is no contrast.",
        lambda r: jax.grad(lambda z: r.logits(z)[r.i] - r.logits(z)[r.j])(r.z),
    ),
    Row(
        "the top and bottom channels",
        "attrax.rank_channels(attrax.channels(attrax.gradient_times_input(at_z, z)), 2)",
        "Both ends begin with the most extreme channel. `plot.channel_ranking` draws them.",
        unknown,
    ),
    Row(
        "spatial attribution to a class",
        "attrax.positions(attrax.gradient_times_input(at_z, z))",
        "Signed.",
        lambda r: (r.z * jax.grad(r.after)(r.z)).sum(-1),
    ),
    Row(
        "spatial attribution between layers",
        "jax.vmap(lambda p: attrax.positions(attrax.gradient_times_input(lambda z: scores.norm()("
        'attrax.capture(tail, z, at="late").reshape(4, 4)[p]), z)))(jnp.arange(4))',
        "The norm of one position of the later layer, for all positions at once.",
        lambda r: jnp.stack(
            [
                (
                    r.z
                    * jax.grad(lambda z, p=p: jnp.sqrt((r.late(z).reshape(4, 4)[p] ** 2).sum()))(
                        r.z
                    )
                ).sum(-1)
                for p in range(4)
            ]
        ),
    ),
    Row(
        "`objectives.direction`, a neuron group's factor",
        "attrax.gradient_times_input(lambda x: scores.direction([1.0, 0.0, -1.0])(early(x)), x)",
        "`attrax.visualise.neuron_groups` factorises a layer.",
        lambda r: (
            r.x * jax.grad(lambda x: r.before(x)[..., 0].sum() - r.before(x)[..., 2].sum())(r.x)
        ),
    ),
    Row(
        "`render.render_vis`, spritemaps",
        "attrax.visualise.render",
        "With an objective, a parameterisation, a transform and a key. `sprites` draws all "
        "channels of a layer, `Spritemap` keeps them.",
    ),
    Row(
        "semantic dictionary",
        "attrax.html.semantic_dictionary(early(x), picture, k=2)",
        "With `sprites`, pictures of channels: those of a `Spritemap`. Bars end at the largest "
        "activation that is shown.",
    ),
    Row(
        "`BarsWidget`, the channels with their sprites",
        'attrax.html.channel_attribution({"linear": attrax.channels('
        "attrax.gradient_times_input(at_z, z))}, k=1)",
        "Several methods side by side; as a picture `plot.channel_comparison`.",
    ),
)

TABLES = {
    "captum-inputs": ("Captum", INPUTS),
    "captum-layers": ("Captum", LAYERS),
    "captum-neurons": ("Captum", NEURONS),
    "captum-metrics": ("Captum", METRICS),
    "trulens": ("TruLens", TRULENS),
    "lucid": ("Lucid", LUCID),
}


def markdown(name: str) -> str:
    """One of the tables as Markdown."""
    peer, rows = TABLES[name]
    lines = [f"| {peer} | attrax | what differs |", "|---|---|---|"]
    for row in rows:
        ours = f"`{row.ours}`"
        if row.ours == PLANNED:
            ours = PLANNED
        elif row.is_example:
            ours = f"[{row.ours}](../{row.ours})"
        lines.append(f"| {row.theirs} | {ours} | {row.note} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for name in TABLES:
        print(f"<!-- {name} -->\n{markdown(name)}\n<!-- /{name} -->\n")
