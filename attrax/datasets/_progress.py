"""A bar with examples per second and the time that is left."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(shown: bool, total: int | None) -> Iterator[Callable[[int], None]]:
    """`advance(examples)`, which moves the bar; it does nothing where none is shown."""
    if not shown:
        yield lambda examples: None
        return
    try:
        from rich import progress
    except ImportError as error:
        raise ImportError("`progress=True` needs rich: pip install rich") from error

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> str:
            return f"{task.completed / task.elapsed:.3g} examples/s" if task.elapsed else ""

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    # A batch may take minutes, and several are needed to tell a speed.
    with progress.Progress(*columns, speed_estimate_period=600) as shown_bar:
        task = shown_bar.add_task("explaining", total=total)
        yield lambda examples: shown_bar.advance(task, examples)
        done = shown_bar.tasks[task].completed
        shown_bar.update(task, total=done)  # a short last batch, or a length that was not known
