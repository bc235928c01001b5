"""The same function, in a form that XLA's CPU backend runs faster."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from .._core._types import PyTree
from .._models import _program
from .._models._model import Model, divide
from ._convolutions import rule


def for_cpu(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with its convolutions written so that a CPU runs them faster.

    `for_cpu(fn)(*args) = fn(*args)` to rounding, and so are all derivatives

    That is for finite values. Of an infinite one Winograd's convolution makes NaN, and the phases
    of few features make NaN of its neighbours too: they take differences, and products with zeros.

    XLA's CPU backend runs some equations far below the speed of the machine. Where `fn` is traced
    they are replaced, inside of loops, branches and nested compiled functions too:

    - a grouped convolution with few features a group (depthwise ones), by a sum of shifted inputs
      times weights;
    - a convolution of one point, by a product of matrices;
    - a convolution of 3 x 3 points with 64 features or more in and out, in float32 or float64, by
      Winograd's with 16 products in place of 36;
    - a convolution whose kernel has its feature axes exchanged, as the derivative of one has, by
      one of a kernel laid out anew;
    - a convolution of an input spread out with zeros, as the derivative of a strided one is, by one
      dense convolution for each phase, or for all phases of few features;
    - the derivative of max-pooling, by selections of shifted inputs. Of several equal values of a
      window the first keeps the gradient, as before.

    In a loop over the points of a path, what concerns weights alone is computed before the loop.

    Give it the whole function that is compiled, the attribution included, so that it sees the
    derivatives as well: `jax.jit(attrax.for_cpu(explain))`. Given a model alone, only the forward
    pass is rewritten; derivatives then follow from what it is replaced by. What stands inside of a
    function with its own derivative rule is rewritten in its value and not in its rule; what stands
    inside of `jax.shard_map` is left as it is: there call `for_cpu` inside.

    On other backends it returns `fn`: there XLA does better. The backend is the one that
    `jax.default_backend()` names when `for_cpu` is called.

    Args:
        fn: any function of pytrees of arrays, or an `attrax.Model`. A callable that holds arrays is
            to be given as `attrax.as_model(fn)`, so that they stay inputs of the program.

    Returns:
        A function of the same arguments; of a `Model` again a `Model`, with the same weights and
        the same layers.

    Example:
        >>> import attrax, jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> module = nn.Conv(4, (3, 3), feature_group_count=4)
        >>> variables = module.init(jax.random.key(0), jnp.ones((8, 8, 4)))
        >>> model = attrax.from_linen(module, variables)
        >>> explain = lambda model, x: attrax.gradient(lambda x: model(x).sum(), x)
        >>> fast = jax.jit(attrax.for_cpu(explain))(model, jnp.ones((8, 8, 4)))
        >>> bool(jnp.allclose(fast, explain(model, jnp.ones((8, 8, 4))), atol=1e-5))
        True
    """
    if jax.default_backend() != "cpu":
        return fn
    if isinstance(fn, Model):
        return Model(fn.weights, _ForCpu(fn.program))
    if not callable(fn):
        raise TypeError(f"`fn` must be a function; got {type(fn).__name__}.")
    if hasattr(fn, "__name__"):
        return functools.wraps(fn)(lambda *args, **kwargs: _call(fn, args, kwargs))
    return lambda *args, **kwargs: _call(fn, args, kwargs)


@dataclass(frozen=True)
class _ForCpu:
    """The program of a model, rewritten where it is traced."""

    program: Callable[..., Any]

    def __call__(self, weights: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        return _call(self.program, (weights, *inputs), kwargs)


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    arrays, static = divide((args, kwargs))
    outputs = []

    def flat(*arrays: Any) -> list[Any]:
        args, kwargs = static.join(arrays)
        leaves, rest = divide(fn(*args, **kwargs))
        outputs[:] = [rest]
        return leaves

    traced = _program.trace(flat, [jax.typeof(array) for array in arrays])
    return outputs[0].join(_program.rewritten(traced.jaxpr, [*traced.consts, *arrays], rule))
