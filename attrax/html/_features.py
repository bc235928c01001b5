"""Attributions of features that have names, as a page."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .._show._inputs import Floats, alike, entries_of, record, shaped
from ._page import Page, names_of, percent, render, room_for, total


def features(
    attributions: Mapping[str, ArrayLike],
    x: Sequence[object] | ArrayLike | None = None,
    names: Sequence[str] | None = None,
    *,
    k: int = 12,
    classes: tuple[str, str] = ("raises the score", "lowers it"),
    units: str = "",
    title: str = "Which features speak for it",
) -> Page:
    """The features of one example with their attributions, one column per class or method.

    `rows = argsort(-max over columns |a|)[:k]`, and below them the sum of all others

    All bars share one scale, the largest absolute value in them, and the numbers in a column add up
    to its sum. Features of equal magnitude keep their order.

    Args:
        attributions: title to `(N,)` values, one a feature.
        x: the example: `(N,)` numbers or texts, written after the names.
        names: of the features; their numbers if not given.
        k: how many features have a row of their own.
        classes: what blue (positive) and red (negative) mean.
        units: what attributions are measured in, such as "logit".
        title: of the page.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        TypeError: when an entry of `x` is neither a text nor a real number.
        ValueError: on shapes that do not fit, values that are not finite, no attribution at all,
            `k` below 1.

    Example:
        >>> page = features({"ill": [0.5, -3.0, 0.25]}, ["no", 61, 0.1], ["smokes", "age", "fat"],
        ...                 k=1)
        >>> [text in page.html for text in ("age", "= 61", "−3.00", "2 others", "+0.750")]
        [True, True, True, True, True]
    """
    columns = {
        name: shaped(f"attributions[{name!r}]", values, 1, "(N,), one value a feature")
        for name, values in entries_of("attributions", attributions).items()
    }
    alike("attributions", columns)
    if k < 1:
        raise ValueError(f"`k` must be at least 1; got {k}.")
    table = np.stack(list(columns.values()))
    n = table.shape[1]
    called = names_of(names, n, "feature")
    entries = [None] * n if x is None else record(x, n)
    order = np.argsort(-np.abs(table).max(axis=0), kind="stable")
    # A single feature that is left over is shown by itself.
    shown, others = (order, order[:0]) if n <= k + 1 else (order[:k], order[k:])
    rows: list[tuple[str, str | None, Floats]] = [
        (called[i], entries[i], table[:, i]) for i in shown
    ]
    if len(others):
        left_over = np.array([total(column) for column in table[:, others]])
        rows.append((f"{len(others)} others", None, left_over))
    limit = max(float(np.abs(values).max()) for _, _, values in rows) or 1.0
    sums = [total(values) for values in columns.values()]
    return render(
        "features",
        title=title,
        columns=[{"name": name, "sum": value} for name, value in zip(columns, sums, strict=True)],
        rows=[
            {
                "name": name,
                "value": value,
                "cells": [(float(v), percent(abs(v) / limit / 2)) for v in values],
            }
            for name, value, values in rows
        ],
        left_over=len(others),
        room=room_for([*sums, *(v for _, _, values in rows for v in values)]),
        classes=classes,
        units=units,
    )
