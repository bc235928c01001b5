"""The largest `batch_size` whose program fits into a given memory."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from .._core import _checks

_SECOND = 4
"""The second size that is compiled. A line through 1 and 2 would say little about 30."""

_MOST_COMPILED = 6
"""Where memory grows by a line, three are enough."""


class FittingBatchSize(NamedTuple):
    """What `fitting_batch_size` found.

    `memory` holds every size that was compiled, with the bytes that its program needs:
    `memory[batch_size]` is what the choice costs.
    """

    batch_size: int
    memory: dict[int, int]


def fitting_batch_size(
    explain: Callable[..., Any], *args: Any, budget: int, most: int = 256
) -> FittingBatchSize:
    """The largest `batch_size` with which an explanation fits into a given memory.

    `max b <= most with memory(b) <= budget`; `memory(b)` is what `explain(*args, batch_size=b)`
    needs for arguments, results and temporaries

    It compiles, and runs nothing: the compiler says how many bytes a program needs
    (`compiled.memory_analysis()`). Sizes 1 and 4 give a line, the line gives the size to try, and
    what is returned has been compiled and fits. Where memory does not grow by a line the search
    goes on, up to six programs in all; then a size somewhat larger may fit too. Each costs one
    compilation of the whole explanation, so choose once and keep the number.

    The largest size is not always the fastest: on a CPU it seldom is. `most` bounds the search,
    and the number of points of the rule is enough. What the compiler does not count is the memory
    of the code itself, of other arrays of the process, and what an allocator loses; leave a tenth
    of the device to them. Of a program on several devices the bytes are those of one device.

    Args:
        explain: a function of `args` and of a keyword `batch_size`, such as
            `lambda model, x, batch_size: attrax.integrated_gradients(..., batch_size=batch_size)`;
            the whole of what will be compiled, `jax.vmap` over examples included.
        *args: its arguments: pytrees of arrays, or of `jax.ShapeDtypeStruct`.
        budget: bytes. A GPU has `jax.devices()[0].memory_stats()["bytes_limit"]`.
        most: no larger size is tried.

    Returns:
        `FittingBatchSize(batch_size, memory)`.

    Raises:
        ValueError: when not even `batch_size=1` fits.
        RuntimeError: when the backend does not say how much memory a program needs.

    Example:
        >>> import jax.numpy as jnp
        >>> def explain(x, batch_size):  # 4000 bytes of x, and as many of results for each point
        ...     return x + jnp.ones((batch_size, 1))
        >>> fitting_batch_size(explain, jnp.ones((1, 1000)), budget=45_000).batch_size
        10
    """
    budget, most = _checks.count(budget, "budget"), _checks.count(most, "most")
    memory = {1: _bytes(explain, args, 1)}
    if memory[1] > budget:
        raise ValueError(
            f"`budget` must hold the program at `batch_size=1`, which needs {memory[1]:,} bytes; "
            f"got {budget:,}. Explain fewer examples at once, or cut the model at a later layer."
        )
    fits, beyond = 1, most + 1
    while beyond - fits > 1 and len(memory) < _MOST_COMPILED:
        size = _guess(memory, budget, fits, beyond) if len(memory) > 1 else min(_SECOND, most)
        if size == fits:
            break
        memory[size] = _bytes(explain, args, size)
        fits, beyond = (size, beyond) if memory[size] <= budget else (fits, size)
    return FittingBatchSize(fits, memory)


def _guess(memory: dict[int, int], budget: int, fits: int, beyond: int) -> int:
    """The size at which a line meets the budget; `fits` where the line says that no more do.

    The line goes through the two sizes on both sides of the budget, or else the largest two.
    """
    low, high = (fits, beyond) if beyond in memory else sorted(memory)[-2:]
    slope = (memory[high] - memory[low]) / (high - low)
    if slope <= 0:
        return beyond - 1
    return min(max(low + int((budget - memory[low]) / slope), fits), beyond - 1)


def _bytes(explain: Callable[..., Any], args: tuple[Any, ...], size: int) -> int:
    program = functools.partial(explain, batch_size=size)
    found = jax.jit(program).lower(*args).compile().memory_analysis()
    if found is None:
        raise RuntimeError(
            f"The backend {jax.default_backend()!r} does not say how much memory a program needs."
        )
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return kept + found.temp_size_in_bytes
