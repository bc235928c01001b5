"""Does an explanation depend on what the model has learned?

An explanation that stays the same when the parameters are replaced by random ones, or by those of a
model that was trained on random labels, is a picture of the example and not of the model.
"""

import difflib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._loops import mapped
from .._core._types import Array, Estimate, PyTree
from ._correlation import rank_correlation
from ._samples import mean_of

Walk = Callable[[int, int | Array], bool | Array]
"""`(place, stage) -> bool`: is the parameter at this place of the order replaced at this stage?"""

Similarity = Callable[[PyTree, PyTree], Array]


def leaf_names(params: PyTree) -> tuple[str, ...]:
    """The path of each leaf, in the order of the tree, which need not be that of the layers.

    Args:
        params: any pytree: the parameters of a model, or an `attrax.Model`.

    Returns:
        One name for each leaf, its keys joined by slashes.

    Example:
        >>> leaf_names({"head": {"bias": 0.0, "kernel": 1.0}, "body": [2.0]})
        ('body/0', 'head/bias', 'head/kernel')
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves)


def cascading(place: int, stage: int | Array) -> bool | Array:
    """All parameters from the first of the order up to the stage: `place <= stage`.

    Example:
        >>> cascading(1, jnp.arange(3)).tolist()
        [False, True, True]

    References:
        Adebayo et al. (2018), arXiv:1810.03292, cascading randomization.
    """
    return place <= stage


def independent(place: int, stage: int | Array) -> bool | Array:
    """The parameters of the stage alone: `place == stage`.

    Example:
        >>> independent(1, jnp.arange(3)).tolist()
        [False, True, False]

    References:
        Adebayo et al. (2018), arXiv:1810.03292, independent randomization.
    """
    return place == stage


def randomised(
    params: PyTree,
    other: PyTree,
    stage: int | Array,
    *,
    order: Sequence[str],
    walk: Walk = cascading,
) -> PyTree:
    r"""`params` with those of one stage replaced by `other`.

    $$out_l = other_l \text{ where } walk(\text{place of } l, stage), params_l \text{ elsewhere}$$

    A leaf has the place of the first name in `order` that is part of its path, in whole keys:
    `"block3"` stands for `block3/conv/kernel`, and not for `block31/conv/kernel`. Leaves without a
    name, and those that are not floating, are never replaced.

    Args:
        params: any pytree of arrays: the parameters of a model, or an `attrax.Model`.
        other: the same structure and shapes: freshly initialised, `shuffled`, or trained on other
            labels.
        stage: from 0 to `len(order) - 1`; it may be traced, and all stages are one program.
        order: names of layers, the one nearest to the output first. `leaf_names` lists the
            paths; given one by one, they are replaced leaf by leaf.
        walk: `cascading`, `independent`, or another function `(place, stage) -> bool`.

    Returns:
        The structure, shapes and dtypes of `params`.

    Raises:
        ValueError: when `other` does not match the structure and shapes of `params`, `order` is
            empty, or a name in it is part of no path.

    Example:
        >>> params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
        >>> fresh = {"a": jnp.ones(2), "b": jnp.ones(1)}
        >>> randomised(params, fresh, 0, order=["b", "a"])
        {'a': Array([0., 0.], dtype=float32), 'b': Array([1.], dtype=float32)}

    References:
        Adebayo et al. (2018), arXiv:1810.03292, the model parameter randomization test.
    """
    _checks.same_structure(other, params, "other", "params")
    leaves, structure = jax.tree.flatten(params)
    names, out = leaf_names(params), []
    for name, place, leaf, new in zip(
        names, _places(names, order), leaves, jax.tree.leaves(other), strict=True
    ):
        if jnp.shape(new) != jnp.shape(leaf):
            raise ValueError(
                f"`other` must have the shapes of `params`; got {jnp.shape(new)} against "
                f"{jnp.shape(leaf)} at {name!r}."
            )
        if place is None or not _is_floating(leaf):
            out.append(leaf)
        else:
            leaf = jnp.asarray(leaf)
            out.append(jnp.where(walk(place, stage), jnp.asarray(new, leaf.dtype), leaf))
    return jax.tree.unflatten(structure, out)


def shuffled(params: PyTree, *, key: Array) -> PyTree:
    r"""Parameters whose entries change places within each leaf: random, yet of the same sizes.

    $$out_i = leaf_{\pi(i)} \text{ with a permutation } \pi \text{ of all entries of the leaf}$$

    For models that come without an initialiser. Leaves that are not floating stay as they are. A
    leaf of equal entries, such as a bias of zeros, stays the same too.

    Args:
        params: any pytree of arrays.
        key: each leaf gets a key of its own.

    Returns:
        The structure, shapes and dtypes of `params`.

    Example:
        >>> shuffled({"bias": jnp.array([1.0, 2.0, 3.0])}, key=jax.random.key(0))["bias"].sum()
        Array(6., dtype=float32)
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(_checks.random_key(key, "shuffled"), max(len(leaves), 1))
    return jax.tree.unflatten(
        structure,
        [
            jax.random.permutation(keys[i], jnp.ravel(leaf)).reshape(jnp.shape(leaf))
            if _is_floating(leaf)
            else leaf
            for i, leaf in enumerate(leaves)
        ],
    )


def parameter_randomisation(
    explain: Callable[[PyTree], PyTree],
    params: PyTree,
    other: PyTree,
    *,
    order: Sequence[str],
    walk: Walk = cascading,
    compare: Similarity = rank_correlation,
    batch_size: int = 1,
) -> Array:
    r"""How like itself the explanation stays while the parameters are replaced, layer by layer.

    $$out_k = compare(explain(params), explain(randomised(params, other, k)))$$

    A method that explains the model falls towards 0; one that stays high draws the example. The
    reverse does not hold: noise falls to 0 as well. Explanations with signs may fall to 0 while
    their absolute values do not: look at both.

    Args:
        explain: `params -> attribution`, a method for one example as a function of the parameters.
        params: any pytree of arrays: the parameters of a model, or an `attrax.Model`.
        other: the same structure and shapes: freshly initialised, `shuffled`, or trained on other
            labels.
        order: names of layers, the one nearest to the output first: see `randomised`.
        walk: `cascading`, or `independent`.
        compare: `(attribution, attribution) -> scalar`.
        batch_size: stages explained at once; each has parameters of its own.

    Returns:
        `(len(order),)`, in the units of `compare`.

    Raises:
        ValueError: when `other` does not match the structure and shapes of `params`, `order` is
            empty, or a name in it is part of no path.

    Example:
        >>> x = jnp.array([1.0, 2.0, 3.0])
        >>> params = {"body": jnp.array([1.0, 1.0, 1.0]), "head": jnp.array(2.0)}
        >>> fresh = {"body": jnp.array([3.0, 1.0, 0.0]), "head": jnp.array(5.0)}
        >>> explain = lambda params: params["head"] * params["body"] * x
        >>> parameter_randomisation(explain, params, fresh, order=["head", "body"]).round(4)
        Array([ 1., -1.], dtype=float32)

    References:
        Adebayo et al. (2018), arXiv:1810.03292, the model parameter randomization test.
    """
    attribution = explain(params)

    def similarity(stage: Array) -> Array:
        there = randomised(params, other, stage, order=order, walk=walk)
        return compare(attribution, explain(there))

    return mapped(similarity, jnp.arange(len(order) or 1), batch_size=batch_size)


def label_randomisation(
    explain: Callable[[PyTree], PyTree],
    fit: Callable[[Array], PyTree],
    labels: Array,
    *,
    key: Array,
    num_samples: int,
    compare: Similarity = rank_correlation,
    batch_size: int = 1,
) -> Estimate:
    r"""How like itself the explanation stays when the model is trained on permuted labels.

    $$\mathbb{E} \; compare(explain(fit(labels)), explain(fit(\text{permuted labels})))$$

    A method that explains what the model has learned falls towards 0. It trains `1 + num_samples`
    models, so `fit` should be small. Where the models are trained elsewhere, pass both sets of
    parameters to `parameter_randomisation`, whose last stage makes the same comparison.

    Args:
        explain: `params -> attribution`, a method for one example as a function of the parameters.
        fit: `labels -> params`, the training; the same start and the same inputs each time.
        labels: of the training examples, with a leading axis of their number.
        key: each permutation gets a key of its own.
        num_samples: how many permutations, at least 2.
        compare: `(attribution, attribution) -> scalar`.
        batch_size: models trained at once.

    Returns:
        An `Estimate` of two scalars, in the units of `compare`.

    Raises:
        ValueError: when `labels` has no leading axis.

    Example:
        >>> inputs = jax.random.normal(jax.random.key(0), (64, 8))
        >>> fit = lambda labels: labels @ inputs / 64
        >>> labels = inputs @ jnp.arange(1.0, 9.0)
        >>> found = label_randomisation(lambda w: w, fit, labels, key=jax.random.key(1),
        ...                             num_samples=20)
        >>> bool(jnp.abs(found.value) < 4 * found.standard_error)
        True

    References:
        Adebayo et al. (2018), arXiv:1810.03292, the data randomization test.
    """
    labels = jnp.asarray(labels)
    if labels.ndim < 1:
        raise ValueError("`labels` must have a leading axis of examples; got shape ().")
    n = _checks.count(num_samples, "num_samples", least=2)
    keys = jax.random.split(_checks.random_key(key, "label_randomisation"), n)
    attribution = explain(fit(labels))

    def similarity(key: Array) -> Array:
        return compare(attribution, explain(fit(jax.random.permutation(key, labels))))

    return mean_of(mapped(similarity, keys, batch_size=batch_size))


def _places(names: Sequence[str], order: Sequence[str]) -> list[int | None]:
    """For each leaf, the place of the first name in `order` that is part of its path."""
    if isinstance(order, str) or not order:
        raise ValueError(f"`order` must be a sequence of at least one name; got {order!r}.")
    parts = [[f"/{part}/" in f"/{name}/" for part in order] for name in names]
    for part, found in zip(order, np.any(np.array(parts, bool), axis=0), strict=True):
        if not found:
            known = sorted({key for name in names for key in (name, *name.split("/"))})
            near = difflib.get_close_matches(part, known, n=3, cutoff=0.0)
            raise ValueError(
                f"`order` names {part!r}, which is part of no path in `params`; "
                f"the nearest are {', '.join(near)}."
            )
    return [found.index(True) if any(found) else None for found in parts]


def _is_floating(leaf: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
