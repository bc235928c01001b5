"""Reading ahead."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """`items`, up to `depth` of them read ahead in a thread; 0 reads in the caller's thread.

    What the iterable raises is raised here, after all items before it. When this is closed early,
    the thread ends with the read that is under way.
    """
    if not depth:
        yield from items
        return
    ready: queue.SimpleQueue[tuple[str, T | BaseException | None]] = queue.SimpleQueue()
    places, stopped = threading.Semaphore(depth), threading.Event()

    def read() -> None:
        try:
            for item in items:
                ready.put(("item", item))
                places.acquire()
                if stopped.is_set():
                    return
            ready.put(("end", None))
        except BaseException as error:
            ready.put(("error", error))

    thread = threading.Thread(target=read, name="attrax.datasets", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            places.release()
            if kind == "end":
                return
            if isinstance(item, BaseException) and kind == "error":
                raise item
            yield item  # pyright: ignore[reportReturnType]
    finally:
        stopped.set()
        places.release()
        thread.join()
