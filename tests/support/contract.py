"""What each method promises: one table, checked by `test_contract.py` and printed in the README.

A row gives the method as `explain(fn, x)` for a scalar function and one example, and what holds:

- `jit`: inside `jax.jit` it gives what it gives outside;
- `vmap`: over a batch of examples it gives what a loop gives, and a batch divided among devices
  stays divided;
- `grad`: the attribution can be differentiated twice;
- `batch_sum`: explaining the sum of the scores of a whole batch gives each example's attribution;
- `pytree`: `x` may be any pytree, and the attribution has its structure;
- `zero`: a score that does not depend on `x` has an attribution of zeros.

All of them keep the floating dtype of `x`, those that are `wide` excepted, which return float32 or
wider; all pass under the switches of JAX for debugging, and lower for CPU, GPU and TPU.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

import attrax
from attrax import concepts, distributions, metrics, paths, quadrature

PROPERTIES = ("jit", "vmap", "grad", "batch_sum", "pytree", "zero")


class Method(NamedTuple):
    """One row of the table; the name is the public one, and what is special behind a comma."""

    name: str
    explain: Callable[[Callable[[Any], jax.Array], Any], Any]
    holds: frozenset[str]
    wide: bool = False
    random: bool = False
    together: bool = False
    """It loops until every example of a batch has converged: devices wait for one another."""

    @property
    def public(self) -> str:
        """The name without what stands behind the comma."""
        return self.name.partition(",")[0]


def _row(name: str, explain: Callable[..., Any], holds: str, **traits: Any) -> Method:
    assert set(holds.split()) <= set(PROPERTIES)
    return Method(name, explain, frozenset(holds.split()), **traits)


def _influence(distribution: Any) -> Callable[..., Any]:
    rule = quadrature.midpoint(3)
    return lambda fn, x: attrax.influence(fn, x, distribution, rule=rule, key=_key(), batch_size=2)


def _curved(x: Any, baseline: Any) -> Callable[[jax.Array], Any]:
    return lambda t: jax.tree.map(lambda x, b: b + t * t * (x - b), x, baseline)


_RULE = quadrature.gauss_legendre(3)


def _key() -> jax.Array:
    """A new key for every call: `jax_debug_key_reuse` allows one use of each."""
    return jax.random.key(7)


def _random() -> Any:
    return {"key": _key(), "num_samples": 3, "batch_size": 2}


def _noise(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method over noise, of the gradient."""
    return lambda fn, x: method(lambda x: attrax.gradient(fn, x), x, sigma=0.3, **_random()).value


def _expected(fn: Callable[..., Any], x: Any) -> Any:
    baselines = jax.tree.map(lambda leaf: jnp.stack([0 * leaf, leaf / 2]), x)
    return attrax.expected_gradients(fn, x, baselines, **_random()).value


def _at_a_layer(method: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A method at a layer that is cut behind one nonlinearity."""

    def explain(fn: Callable[..., Any], x: Any) -> Any:
        def split(x: Any) -> tuple[Any, Any]:
            return jax.tree.map(jnp.tanh, x), fn

        return method(split, x, *arguments, rule=_RULE, batch_size=2)

    return explain


def _neuron(fn: Callable[..., Any], x: Any) -> Any:
    restore = ravel_pytree(x)[1]

    def split(x: Any) -> tuple[Any, Any]:
        return jnp.tanh(ravel_pytree(x)[0]), lambda z: fn(restore(z))

    return attrax.neuron_conductance(split, x, neuron=1, rule=_RULE, batch_size=2)


def _interaction(fn: Callable[..., Any], x: Any) -> Any:
    return attrax.integrated_hessian_product(
        fn, x, jax.tree.map(jnp.cos, x), rule=quadrature.gauss_logarithmic(3), batch_size=2
    )


def _interactions(fn: Callable[..., Any], x: Any) -> Any:
    """The sums of the rows of the whole matrix."""
    matrix = attrax.integrated_hessians(fn, x, rule=quadrature.gauss_logarithmic(2), batch_size=2)

    def sums(leaf: jax.Array, rows: Any) -> jax.Array:
        behind = lambda block: tuple(range(leaf.ndim, block.ndim))  # noqa: E731
        return sum(jnp.sum(block, axis=behind(block)) for block in jax.tree.leaves(rows))

    return jax.tree.map(sums, x, matrix)


def _path(path: Any, rule: quadrature.Rule) -> Callable[..., Any]:
    return lambda fn, x: attrax.path_integrated_gradients(fn, x, path=path, rule=rule, batch_size=2)


def _cam(fn: Callable[..., Any], z: Any) -> Any:
    return attrax.cam(z, jnp.asarray([1.0, -1.0, 2.0], z.dtype))


def _score_cam(fn: Callable[..., Any], x: Any) -> Any:
    return attrax.score_cam(fn, x, jnp.cos(x), batch_size=2)


def _full_gradient(fn: Callable[..., Any], x: Any) -> Any:
    bias = jnp.asarray(0.5, jax.tree.leaves(x)[0].dtype)
    shifted = lambda x, b: fn(jax.tree.map(lambda leaf: leaf + b, x))  # noqa: E731
    return attrax.full_gradient(shifted, x, bias).input


def _attention(x: Any) -> Any:
    """The weights of two layers with one head over three tokens."""
    return jax.nn.softmax(x[:, None, :, None] * x[:, None, None, :])


def _strongest(fn: Callable[..., Any], x: Any) -> Any:
    model = attrax.as_model(lambda x: attrax.tap("z", jnp.tanh(x)))
    return attrax.strongest_channel(
        model, x, score=fn, at="z", explain=attrax.gradient_times_input
    ).attribution


def _certified(fn: Callable[..., Any], x: Any) -> Any:
    """A batch of one example."""
    xs = jax.tree.map(lambda leaf: leaf[None], x)
    found = attrax.certified_integrated_gradients(
        fn, xs, tolerance=0.1, max_evaluations=9, batch_size=9
    )
    return jax.tree.map(lambda leaf: leaf[0], found.value)


def _certified_conductance(fn: Callable[..., Any], x: Any) -> Any:
    xs = jax.tree.map(lambda leaf: leaf[None], x)
    found = attrax.certified_conductance(
        lambda x: (jax.tree.map(jnp.tanh, x), fn),
        xs,
        tolerance=0.1,
        max_evaluations=9,
        batch_size=9,
    )
    return jax.tree.map(lambda leaf: leaf[0], found.value)


_NEAR = distributions.uniform_noise(0.1)


def _judged(measure: Callable[..., Any]) -> Callable[..., Any]:
    """A metric `(fn, attribution, x)`, of gradient times input."""

    def explain(fn: Callable[..., Any], x: Any) -> Any:
        found = measure(fn, attrax.gradient_times_input(fn, x), x)
        return found.value if isinstance(found, attrax.Estimate) else found

    return explain


def _region(a: Any) -> Any:
    return jnp.asarray([[True, False, True], [False, True, False]])


def _randomised(fn: Callable[..., Any], a: Any, x: Any) -> Any:
    return metrics.parameter_randomisation(
        lambda p: p["s"] * x, {"s": a}, {"s": x}, order=["s"], compare=metrics.rank_correlation
    )


def _relabelled(fn: Callable[..., Any], a: Any, x: Any) -> Any:
    return metrics.label_randomisation(
        lambda p: p, lambda labels: labels, a.reshape(-1), **_random()
    )


def _filled(fn: Callable[..., Any], x: Any) -> Any:
    return metrics.noisy_linear_imputation(x, _region(x), key=_key())


_ENGINE = {"together": True}
_LINEAR = "jit vmap grad batch_sum pytree zero"
_OWN = "jit vmap grad pytree zero"

METHODS = (
    _row("gradient", attrax.gradient, _LINEAR),
    _row("gradient_times_input", attrax.gradient_times_input, _LINEAR),
    _row(
        "integrated_gradients",
        lambda fn, x: attrax.integrated_gradients(fn, x, rule=_RULE, batch_size=2),
        _LINEAR,
    ),
    _row("path_integrated_gradients", _path(_curved, _RULE), _LINEAR),
    _row("path_integrated_gradients, blur", _path(paths.blur(1.0, axes=(-2, -1)), _RULE), _LINEAR),
    # The tokens of a batch are not those of its examples.
    _row(
        "path_integrated_gradients, tokenwise",
        _path(paths.tokenwise([1, 0]), quadrature.composite(quadrature.gauss_legendre(2), 2)),
        _OWN,
    ),
    # These three choose by the gradient, or divide by its norm: they see the whole batch.
    _row(
        "guided_integrated_gradients",
        lambda fn, x: attrax.guided_integrated_gradients(fn, x, steps=4, fraction=0.3),
        _OWN,
    ),
    _row("idgi", lambda fn, x: attrax.idgi(fn, x, steps=3, batch_size=2), _OWN),
    _row(
        "integrated_decision_gradients",
        lambda fn, x: attrax.integrated_decision_gradients(fn, x, rule=_RULE, batch_size=2),
        _OWN,
    ),
    _row("influence, linear", _influence(distributions.linear()), _LINEAR),
    # The noise of one example does not have the shape of the noise of a batch.
    _row("influence, gaussian", _influence(distributions.gaussian(0.3)), _OWN, random=True),
    _row("smoothgrad", _noise(attrax.smoothgrad), _OWN, random=True),
    _row("smoothgrad_squared", _noise(attrax.smoothgrad_squared), _OWN, random=True),
    _row("vargrad", _noise(attrax.vargrad), _OWN, random=True),
    _row("expected_gradients", _expected, _LINEAR, random=True),
    # A loop with an end that is not known beforehand has no reverse derivative.
    _row("certified_integrated_gradients", _certified, "jit vmap pytree zero", **_ENGINE),
    _row("certified_conductance", _certified_conductance, "jit vmap pytree zero", **_ENGINE),
    _row("conductance", _at_a_layer(attrax.conductance), _LINEAR),
    _row(
        "internal_influence",
        _at_a_layer(attrax.internal_influence, distributions.linear()),
        _LINEAR,
    ),
    # One neuron of a batch is a neuron of its first example.
    _row("neuron_conductance, one", _neuron, _OWN),
    _row("integrated_hessian_product", _interaction, _LINEAR),
    # The matrix of a batch pairs features of different examples.
    _row("integrated_hessians", _interactions, _OWN),
    _row("full_gradient", _full_gradient, _LINEAR),
    _row(
        "full_gradient_map",
        lambda fn, x: attrax.full_gradient_map([attrax.gradient_times_input(fn, x)], (2,)),
        "jit vmap grad zero",
        wide=True,
    ),
    # What is pooled over positions mixes the examples of a batch.
    _row("cam", _cam, "jit vmap grad batch_sum"),
    _row("grad_cam", attrax.grad_cam, "jit vmap grad zero"),
    _row("grad_cam_plus_plus", attrax.grad_cam_plus_plus, "jit vmap grad zero"),
    _row("hires_cam", attrax.hires_cam, "jit vmap grad batch_sum zero"),
    _row("layer_cam", attrax.layer_cam, "jit vmap grad batch_sum zero"),
    _row("score_cam", _score_cam, "jit vmap grad"),
    _row("upsample", lambda fn, x: attrax.upsample(x, (4, 3)), "jit vmap grad"),
    _row(
        "attention_rollout", lambda fn, x: attrax.attention_rollout(_attention(x)), "jit vmap grad"
    ),
    _row(
        "gradient_weighted_attention",
        lambda fn, x: attrax.gradient_weighted_attention(_attention(x), jnp.cos(_attention(x))),
        "jit vmap grad",
    ),
    _row("strongest_channel", _strongest, "jit vmap grad"),
    _row(
        "channels",
        lambda fn, x: attrax.channels(attrax.gradient_times_input(fn, x)),
        "jit vmap grad zero",
    ),
    _row(
        "positions",
        lambda fn, x: attrax.positions(attrax.gradient_times_input(fn, x)),
        "jit vmap grad batch_sum zero",
    ),
    _row(
        "rank_channels",
        lambda fn, x: attrax.rank_channels(attrax.channels(x), 2).positive_values,
        "jit vmap grad",
    ),
    _row(
        "concepts.concept_sensitivity",
        lambda fn, x: concepts.concept_sensitivity(fn, x, jnp.cos(x)),
        "jit vmap grad zero",
        wide=True,
    ),
    _row(
        "concepts.tcav_score",
        lambda fn, x: concepts.tcav_score(x.reshape(-1)),
        "jit vmap grad",
        wide=True,
    ),
    _row(
        "concepts.tcav_magnitude",
        lambda fn, x: concepts.tcav_magnitude(x.reshape(-1)),
        "jit vmap grad",
        wide=True,
    ),
    _row(
        "concepts.tcav_significance",
        lambda fn, x: concepts.tcav_significance(x[0], x[1]).statistic,
        "jit vmap grad",
        wide=True,
    ),
    *[
        _row(
            f"metrics.{name}",
            _judged(measure),
            "jit vmap",
            wide=True,
            random=True,
            together=name == "road",
        )
        for name, measure in {
            "completeness_gap": metrics.completeness_gap,
            "infidelity": lambda fn, a, x: metrics.infidelity(fn, a, x, _NEAR, **_random()),
            "mufidelity": lambda fn, a, x: metrics.mufidelity(fn, a, x, subset_size=2, **_random()),
            "sensitivity_n": lambda fn, a, x: metrics.sensitivity_n(
                fn, a, x, sizes=(1, 2), **_random()
            ),
            "insertion_curve": lambda fn, a, x: metrics.insertion_curve(fn, a, x, steps=3),
            "deletion_curve": lambda fn, a, x: metrics.deletion_curve(fn, a, x, steps=3),
            "area": lambda fn, a, x: metrics.area(a.reshape(-1)),
            "road": lambda fn, a, x: metrics.road(fn, a, x, fractions=(0.3,), **_random()),
            "max_sensitivity": lambda fn, a, x: metrics.max_sensitivity(
                lambda x: attrax.gradient(fn, x), x, _NEAR, **_random()
            ),
            "parameter_randomisation": _randomised,
            "label_randomisation": _relabelled,
            "pointing_game": lambda fn, a, x: metrics.pointing_game(a, _region(a)),
            "relevance_mass": lambda fn, a, x: metrics.relevance_mass(a, _region(a)),
            "relevance_rank": lambda fn, a, x: metrics.relevance_rank(a, _region(a)),
            "gini": lambda fn, a, x: metrics.gini(a),
            "complexity": lambda fn, a, x: metrics.complexity(a),
            "rank_correlation": lambda fn, a, x: metrics.rank_correlation(a, x),
        }.items()
    ],
    _row("metrics.noisy_linear_imputation", _filled, "jit vmap", random=True, together=True),
)


def markdown() -> str:
    """The table as Markdown."""
    lines = ["| method | " + " | ".join(PROPERTIES).replace("_", "-") + " |"]
    lines.append("|---" * (len(PROPERTIES) + 1) + "|")
    for method in METHODS:
        marks = ("yes" if name in method.holds else "" for name in PROPERTIES)
        lines.append(f"| {method.name} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
