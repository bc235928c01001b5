"""What is compared: each method of Captum, and the composition that gives its numbers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import captum.attr
import captum.metrics
import jax
import jax.numpy as jnp
import numpy as np
import torch

import attrax
from attrax import distributions, metrics, paths, quadrature, scores

from .twins import Twin, to_numpy, to_torch

# Both sides compute in float64, but for the weights of rules in Captum's integrated gradients.
ROUNDING = 1e-11
FLOAT32_WEIGHTS = 1e-6
# Of all entries that are compared, the one that is furthest off, in standard errors.
STANDARD_ERRORS = 6.0

RULES = {
    "gausslegendre": quadrature.gauss_legendre,
    "riemann_left": quadrature.riemann_left,
    "riemann_right": quadrature.riemann_right,
    "riemann_middle": quadrature.midpoint,
    "riemann_trapezoid": quadrature.trapezoid,
}
N = 20
GAUSS = quadrature.gauss_legendre(N)
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row of the table.

    `ours(model, x, baseline, target, at)` explains one example, x being the tuple of its inputs;
    `theirs(twin, layer)` explains all of them, layer being the arguments of Captum that choose it.
    `at` is None where no layer is chosen. Where `errors` is true `ours` returns an `Estimate`, and
    the difference is counted in standard errors.
    """

    name: str
    kinds: tuple[str, ...]
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    tolerance: float | None
    layers: bool = False
    smooth: bool = False
    samples: int | None = None  # of Captum, where it is random


COMPARISONS: list[Comparison] = []
INPUTS = ("dense", "convolutional")
EVERYTHING = (*INPUTS, "tokens")


def _add(name, ours, theirs, tolerance, kinds=INPUTS, **settings):
    COMPARISONS.append(Comparison(name, kinds, ours, theirs, tolerance, **settings))


def fn_of(model, target):
    return lambda x: scores.logit(target)(model(*x))


def split_of(model, target, at):
    def split(x):
        z, tail = attrax.cut(model, *x, at=at)
        return z, lambda z: scores.logit(target)(tail(z))

    return split


def target_of(twin):
    return torch.from_numpy(twin.targets)


# Input attribution.


def input_method(method, /, **options):
    """Captum's method of the inputs."""

    def theirs(twin, layer):
        explain = getattr(captum.attr, method)(twin.peer).attribute
        return explain(to_torch(twin.inputs), target=target_of(twin), **options)

    return theirs


def path_method(twin, layer, *, rule, baseline=True, multiply=True, delta=False):
    explain = captum.attr.IntegratedGradients(twin.peer, multiply_by_inputs=multiply).attribute
    return explain(
        to_torch(twin.inputs),
        baselines=to_torch(twin.baselines) if baseline else None,
        target=target_of(twin),
        n_steps=N,
        method=rule,
        return_convergence_delta=delta,
    )


def ours_gradient(model, x, baseline, target, at):
    return attrax.gradient(fn_of(model, target), x)


def ours_saliency(*args):
    return jax.tree.map(jnp.abs, ours_gradient(*args))


def ours_gradient_times_input(model, x, baseline, target, at):
    return attrax.gradient_times_input(fn_of(model, target), x)


def ours_integrated(model, x, baseline, target, at, *, rule):
    return attrax.integrated_gradients(fn_of(model, target), x, baseline, rule=rule, batch_size=N)


def ours_integrated_from_zero(model, x, baseline, target, at):
    return ours_integrated(model, x, None, target, at, rule=GAUSS)


def ours_with_delta(model, x, baseline, target, at):
    fn, found = fn_of(model, target), ours_integrated(model, x, baseline, target, at, rule=GAUSS)
    return found, metrics.completeness_gap(fn, found, x, baseline)


def theirs_with_delta(twin, layer):
    found, delta = path_method(twin, layer, rule="gausslegendre", delta=True)
    return (*found, delta)


def ours_influence(model, x, baseline, target, at):
    line = distributions.linear(baseline)
    return attrax.influence(fn_of(model, target), x, line, rule=GAUSS, batch_size=N)


def shrunk(theirs, by=(N - 1) / N):
    """Captum's numbers made larger by what its trapezoidal rule makes them too small."""
    return lambda twin, layer: tuple(part / by for part in _several(theirs(twin, layer)))


def _several(found):
    return found if isinstance(found, tuple | list) else (found,)


_add("Saliency", ours_saliency, input_method("Saliency"), ROUNDING)
_add("Saliency(abs=False)", ours_gradient, input_method("Saliency", abs=False), ROUNDING)
_add("InputXGradient", ours_gradient_times_input, input_method("InputXGradient"), ROUNDING)
for rule in RULES:
    theirs = functools.partial(path_method, rule=rule)
    trapezoid = rule == "riemann_trapezoid"
    _add(
        f"IntegratedGradients, {rule}" + (", times n/(n - 1)" if trapezoid else ""),
        functools.partial(ours_integrated, rule=RULES[rule](N)),
        shrunk(theirs) if trapezoid else theirs,
        FLOAT32_WEIGHTS,
    )
_add(
    "IntegratedGradients, baseline of zeros",
    ours_integrated_from_zero,
    functools.partial(path_method, rule="gausslegendre", baseline=False),
    FLOAT32_WEIGHTS,
)
_add("IntegratedGradients and its delta", ours_with_delta, theirs_with_delta, FLOAT32_WEIGHTS)
_add(
    "IntegratedGradients(multiply_by_inputs=False)",
    ours_influence,
    functools.partial(path_method, rule="gausslegendre", multiply=False),
    FLOAT32_WEIGHTS,
)


# Layer attribution.


def layer_method(method, /, *, baselines=False, init=None, **options):
    """Captum's method of a layer: `layer` is (name, whether its input is meant)."""

    def theirs(twin, layer):
        name, is_input = layer
        module = twin.peer.get_submodule(name)
        explain = getattr(captum.attr, method)(twin.peer, module, **(init or {})).attribute
        given = dict(options)
        if baselines:
            given["baselines"] = to_torch(twin.baselines)
        if method != "LayerActivation":
            given["target"] = target_of(twin)
        return explain(to_torch(twin.inputs), attribute_to_layer_input=is_input, **given)

    return theirs


def tail_of(model, x, target, at):
    """The activation at a layer, and the score as a function of it."""
    z, tail = attrax.cut(model, *x, at=at)
    return z, lambda z: scores.logit(target)(tail(z))


def ours_activation(model, x, baseline, target, at):
    return attrax.capture(model, *x, at=at)


def ours_layer_product(model, x, baseline, target, at):
    z, fn = tail_of(model, x, target, at)
    return attrax.gradient_times_input(fn, z)


def ours_two_layers(model, x, baseline, target, at):
    names = ["hidden0", "hidden1"]
    slopes = attrax.gradients_at(model, *x, score=scores.logit(target), at=names)
    values = attrax.capture(model, *x, at=names)
    return [values[name] * slopes[name] for name in names]


def theirs_two_layers(twin, layer):
    modules = [twin.peer.get_submodule(name) for name in ("hidden0", "hidden1")]
    explain = captum.attr.LayerGradientXActivation(twin.peer, modules).attribute
    return explain(to_torch(twin.inputs), target=target_of(twin))


def ours_grad_cam(model, x, baseline, target, at):
    z, fn = tail_of(model, x, target, at)
    return attrax.grad_cam(fn, z)[..., None]  # Captum keeps an axis of one channel


def ours_internal_influence(model, x, baseline, target, at, *, rule):
    split, line = split_of(model, target, at), distributions.linear(baseline)
    return attrax.internal_influence(split, x, line, rule=rule, batch_size=N)


def ours_layer_integrated(model, x, baseline, target, at, *, rule):
    z, fn = tail_of(model, x, target, at)
    start = attrax.capture(model, *baseline, at=at)
    return attrax.integrated_gradients(fn, z, start, rule=rule, batch_size=N)


_add(
    "LayerActivation",
    ours_activation,
    layer_method("LayerActivation"),
    ROUNDING,
    kinds=EVERYTHING,
    layers=True,
)
_add(
    "LayerGradientXActivation",
    ours_layer_product,
    layer_method("LayerGradientXActivation"),
    ROUNDING,
    kinds=EVERYTHING,
    layers=True,
)
_add(
    "LayerGradientXActivation, two layers at once",
    ours_two_layers,
    theirs_two_layers,
    ROUNDING,
    kinds=("dense",),
)
_add(
    "LayerGradCam",
    ours_grad_cam,
    layer_method("LayerGradCam"),
    ROUNDING,
    kinds=("convolutional",),
    layers=True,
)
for rule in ("gausslegendre", "riemann_middle"):
    _add(
        f"InternalInfluence, {rule}",
        functools.partial(ours_internal_influence, rule=RULES[rule](N)),
        layer_method("InternalInfluence", baselines=True, n_steps=N, method=rule),
        ROUNDING,
        layers=True,
    )
for rule in ("gausslegendre", "riemann_left"):
    _add(
        f"LayerIntegratedGradients, {rule}",
        functools.partial(ours_layer_integrated, rule=RULES[rule](N)),
        layer_method("LayerIntegratedGradients", baselines=True, n_steps=N, method=rule),
        FLOAT32_WEIGHTS,
        kinds=EVERYTHING,
        layers=True,
    )


# Conductance: Captum's sum of differences, and the integral.


def ours_sum_of_differences(model, x, baseline, target, at):
    """What Captum computes, from the activations and gradients at its nodes."""
    split = split_of(model, target, at)

    def at_node(point):
        z, fn = split(point)
        return z, attrax.gradient(fn, z)

    nodes = quadrature.gauss_legendre(N + 1).nodes
    z, slopes = jax.vmap(at_node)(paths.interpolate(x, baseline, nodes))
    return jnp.sum(slopes[:-1] * jnp.diff(z, axis=0), axis=0)


def ours_conductance(model, x, baseline, target, at, *, n=N):
    settings = {"rule": quadrature.gauss_legendre(n), "batch_size": n}
    return attrax.conductance(split_of(model, target, at), x, baseline, **settings)


def integral(twin, layer, n=100):
    """Conductance in PyTorch: the activation differentiated along the line, n Gauss nodes."""
    name, is_input = layer
    x, b = to_torch(twin.inputs), to_torch(twin.baselines)
    kept = []

    def keep(module, given, result):
        kept[:] = [given[0] if is_input else result]

    def activation(t):
        line = [start + t * (end - start) for start, end in zip(b, x, strict=True)]
        outputs = twin.peer(*line)
        chosen = outputs.gather(1, target_of(twin)[:, None]).sum()
        return kept[0], chosen

    nodes, weights = np.polynomial.legendre.leggauss(n)
    total, handle = 0.0, twin.peer.get_submodule(name).register_forward_hook(keep)
    for node, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
        t = torch.tensor(node, requires_grad=True)
        z, score = activation(t)
        (slope,) = torch.autograd.grad(score, z, retain_graph=True)
        _, velocity = torch.autograd.functional.jvp(
            lambda t: activation(t)[0], t.detach(), torch.tensor(1.0)
        )
        total = total + weight * slope * velocity
    handle.remove()
    return total


theirs_conductance = layer_method(
    "LayerConductance", baselines=True, n_steps=N, method="gausslegendre"
)
_add(
    "LayerConductance, as Captum sums it",
    ours_sum_of_differences,
    theirs_conductance,
    ROUNDING,
    layers=True,
)
_add(
    "`conductance`, 20 nodes, against the integral",
    ours_conductance,
    integral,
    1e-5,
    kinds=("dense",),
    layers=True,
    smooth=True,
)
_add(
    "LayerConductance, 20 steps, against the integral",
    functools.partial(ours_conductance, n=64),
    theirs_conductance,
    None,
    kinds=("dense",),
    layers=True,
    smooth=True,
)
_add(
    "`conductance`, 64 nodes, against the integral",
    functools.partial(ours_conductance, n=64),
    integral,
    1e-9,
    kinds=("dense",),
    layers=True,
    smooth=True,
)


# Neurons: the second entry of each axis of a layer.


def neuron_of(model, at):
    """The neuron, as a function of the tuple of inputs."""

    def fn(x):
        z = attrax.capture(model, *x, at=at)
        return scores.neuron(*[1] * z.ndim)(z)

    return fn


def neuron_method(method, /, *, baselines=False, target=False, **options):
    def theirs(twin, layer):
        name, is_input = layer
        explain = getattr(captum.attr, method)(twin.peer, twin.peer.get_submodule(name)).attribute
        given = dict(options)
        if baselines:
            given["baselines"] = to_torch(twin.baselines)
        if target:
            given["target"] = target_of(twin)
        index = (1,) if twin.kind.startswith("dense") else (1, 1, 1)
        return explain(
            to_torch(twin.inputs),
            neuron_selector=index,
            attribute_to_neuron_input=is_input,
            **given,
        )

    return theirs


def ours_neuron_gradient(model, x, baseline, target, at):
    return attrax.gradient(neuron_of(model, at), x)


def ours_neuron_integrated(model, x, baseline, target, at):
    fn = neuron_of(model, at)
    return attrax.integrated_gradients(fn, x, baseline, rule=GAUSS, batch_size=N)


def ours_neuron_conductance(model, x, baseline, target, at, *, rule):
    split = split_of(model, target, at)
    index = (1,) * jax.eval_shape(lambda x: split(x)[0], x).ndim
    settings = {"neuron": index, "rule": rule, "batch_size": N}
    return attrax.neuron_conductance(split, x, baseline, **settings)


_add(
    "NeuronGradient",
    ours_neuron_gradient,
    neuron_method("NeuronGradient"),
    ROUNDING,
    layers=True,
)
_add(
    "NeuronIntegratedGradients",
    ours_neuron_integrated,
    neuron_method("NeuronIntegratedGradients", baselines=True, n_steps=N),
    FLOAT32_WEIGHTS,
    layers=True,
)
for rule in ("gausslegendre", "riemann_trapezoid"):
    options = {"baselines": True, "target": True, "n_steps": N, "method": rule}
    theirs = neuron_method("NeuronConductance", **options)
    trapezoid = rule == "riemann_trapezoid"
    _add(
        f"NeuronConductance, {rule}" + (", times n/(n - 1)" if trapezoid else ""),
        functools.partial(ours_neuron_conductance, rule=RULES[rule](N)),
        shrunk(theirs) if trapezoid else theirs,
        ROUNDING,
        layers=True,
    )


# Noise. Without any, the numbers agree; with it, their means do.

SIGMA, DRAWS = 0.3, 2000


def ours_noise(model, x, baseline, target, at, *, method, sigma, draws):
    fn = fn_of(model, target)
    settings = {"key": KEY, "sigma": sigma, "num_samples": draws, "batch_size": min(draws, 500)}
    return method(lambda x: attrax.gradient(fn, x), x, **settings)


def theirs_noise(twin, layer, *, kind, sigma, draws):
    explain = captum.attr.NoiseTunnel(captum.attr.Saliency(twin.peer)).attribute
    return explain(
        to_torch(twin.inputs),
        nt_type=kind,
        nt_samples=draws,
        stdevs=sigma,
        target=target_of(twin),
        abs=False,
    )


NOISE = {
    "smoothgrad": attrax.smoothgrad,
    "smoothgrad_sq": attrax.smoothgrad_squared,
    "vargrad": attrax.vargrad,
}
for kind in ("smoothgrad", "smoothgrad_sq"):
    options = {"sigma": 0.0, "draws": 4}
    _add(
        f"NoiseTunnel(Saliency), {kind}, no noise",
        lambda *args, m=NOISE[kind], o=options: ours_noise(*args, method=m, **o).value,
        functools.partial(theirs_noise, kind=kind, **options),
        ROUNDING,
    )
# Where a ReLU switches in one draw of a thousand, the standard error of a square is itself rough.
for kind, method in NOISE.items():
    options = {"sigma": SIGMA, "draws": DRAWS}
    theirs = functools.partial(theirs_noise, kind=kind, **options)
    variance = kind == "vargrad"
    _add(
        f"NoiseTunnel(Saliency), {kind}" + (", times n/(n - 1)" if variance else ""),
        functools.partial(ours_noise, method=method, **options),
        shrunk(theirs, (DRAWS - 1) / DRAWS) if variance else theirs,
        STANDARD_ERRORS,
        kinds=INPUTS if kind == "smoothgrad" else ("dense",),
        samples=DRAWS,
    )


def combined(baselines):
    """All combinations of rows: Captum draws a row of each input for itself."""
    rows = jnp.meshgrid(*(jnp.arange(len(part)) for part in baselines))
    return tuple(part[row.ravel()] for part, row in zip(baselines, rows, strict=True))


def ours_expected(model, x, baselines, target, at, *, fn=None):
    settings = {"key": KEY, "sigma": SIGMA, "num_samples": DRAWS, "batch_size": 500}
    fn = fn or fn_of(model, target)
    return attrax.expected_gradients(fn, x, combined(baselines), **settings)


def ours_neuron_expected(model, x, baselines, target, at):
    return ours_expected(model, x, baselines, target, at, fn=neuron_of(model, at))


def theirs_expected(twin, layer):
    return captum.attr.GradientShap(twin.peer).attribute(
        to_torch(twin.inputs),
        baselines=to_torch(twin.baselines),
        target=target_of(twin),
        n_samples=DRAWS,
        stdevs=SIGMA,
    )


_add("GradientShap", ours_expected, theirs_expected, STANDARD_ERRORS, samples=DRAWS)
_add(
    "NeuronGradientShap",
    ours_neuron_expected,
    neuron_method("NeuronGradientShap", baselines=True, n_samples=DRAWS, stdevs=SIGMA),
    STANDARD_ERRORS,
    kinds=("dense",),
    layers=True,
    samples=DRAWS,
)


BLOCKS = 40


def ours_layer_expected(model, x, baselines, target, at):
    """The mean over all baselines, without drawing."""
    split = split_of(model, target, at)

    def of_one(b):
        line = distributions.linear(b)
        mean = attrax.internal_influence(split, x, line, rule=GAUSS, batch_size=N)
        return (split(x)[0] - split(b)[0]) * mean

    return jnp.mean(jax.vmap(of_one)(combined(baselines)), axis=0)


def theirs_layer_expected(twin, layer):
    """The mean of many short runs, and the standard error of that mean."""
    explain = layer_method("LayerGradientShap", baselines=True, n_samples=DRAWS // BLOCKS)
    runs = torch.stack([_several(explain(twin, layer))[0] for _ in range(BLOCKS)])
    return runs.mean(0), runs.std(0) / np.sqrt(BLOCKS)


_add(
    "LayerGradientShap",
    ours_layer_expected,
    theirs_layer_expected,
    STANDARD_ERRORS,
    kinds=("dense",),
    layers=True,
    smooth=True,
    samples=DRAWS,
)


# Metrics, at the perturbations that ours draws.

PERTURBATIONS = 16


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, None, 0, 0, 0))
def _measured(kind, model, i, x, target):
    def distribution(x):
        sampler = distributions.uniform_noise(0.1)(x)

        def drawn(t, key):
            point = sampler(t, key)
            jax.debug.callback(_record, i, point)
            return point

        return drawn

    fn = fn_of(model, target)
    settings = {"key": KEY, "num_samples": PERTURBATIONS, "batch_size": PERTURBATIONS}
    if kind == "infidelity":
        return metrics.infidelity(fn, attrax.gradient(fn, x), x, distribution, **settings).value
    explain = lambda x: attrax.gradient(fn, x)  # noqa: E731
    return metrics.max_sensitivity(explain, x, distribution, **settings)


_points: dict[int, list[Any]] = {}


def _record(i, point):
    _points.setdefault(int(i), []).append(point)


def metric(kind: str, twin: Twin) -> tuple[np.ndarray, np.ndarray]:
    """Ours and Captum's, at the same perturbed examples."""
    _points.clear()
    examples = len(twin.targets)
    ours = _measured(kind, twin.model, np.arange(examples), twin.inputs, twin.targets)
    jax.effects_barrier()
    rows = [point for i in range(examples) for point in _points[i]]
    assert [len(_points[i]) for i in range(examples)] == [PERTURBATIONS] * examples
    perturbed = to_torch(np.stack(part) for part in zip(*rows, strict=True))
    x, target = to_torch(twin.inputs), target_of(twin)
    saliency = captum.attr.Saliency(twin.peer).attribute
    if kind == "infidelity":
        slope = saliency(x, target=target, abs=False)
        theirs = captum.metrics.infidelity(
            twin.peer,
            lambda x: (
                tuple(a - b for a, b in zip(_several(x), perturbed, strict=True)),
                perturbed,
            ),
            x,
            slope,
            target=target,
            n_perturb_samples=PERTURBATIONS,
        )
    else:
        theirs = captum.metrics.sensitivity_max(
            saliency,
            x,
            lambda x: perturbed,
            n_perturb_samples=PERTURBATIONS,
            target=target,
            abs=False,
        )
    return np.asarray(ours), to_numpy(theirs)[0]


METRICS = ("infidelity", "sensitivity_max")
