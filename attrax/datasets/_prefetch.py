"""Reading ahead."""

import collections
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """`items`, up to `depth` of them read ahead in a thread; 0 reads in the caller's thread.

    What the iterable raises is raised here, after all items before it. When this is closed early,
    the thread ends with the read that is under way.
    """
    if not depth:
        yield from items
        return
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, "attrax.datasets") as thread:
        ahead: collections.deque[Any] = collections.deque()
        try:
            ahead.extend(thread.submit(next, iterator, end) for _ in range(depth))
            while (item := ahead.popleft().result()) is not end:
                ahead.append(thread.submit(next, iterator, end))
                yield item
        finally:
            for reading in ahead:
                reading.cancel()
