"""Attributions of a picture as maps over it, side by side."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from .._show._arrays import real_array, scale_limit
from ._page import Page, packed, photograph, render, total


def attribution_maps(
    image: ArrayLike,
    attributions: Mapping[str, ArrayLike],
    *,
    percentile: float = 99.0,
    classes: tuple[str, str] = ("for the class", "against it"),
    alt: str = "The picture that is explained",
    credit: str = "",
    units: str = "",
    title: str = "Which parts of the picture speak for it",
) -> Page:
    """The picture once a method or class, under its attribution; point at one to read all of them.

    `m[p] = sum_c a[p, c]`; blue where `m > 0`, red where `m < 0`, as strong as `min(|m| / s, 1)`

    The scale `s` of a map is its own `percentile` of `|m|`, and stands below it with the sum of all
    positions. It begins at the largest `|m|` of the first map.

    Args:
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        attributions: title to `(h, w, C)` or `(h, w)`, all of one height and width; the grid of `h`
            by `w` positions covers the image.
        percentile: where the colours end; 100 clips nothing.
        classes: what blue (positive) and what red (negative) speaks for.
        alt: what the image shows, for those who do not see it.
        credit: whose picture it is, written below it.
        units: what attributions are measured in, such as "logit".
        title: of the page.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, no attribution at all,
            an image outside [0, 1], `percentile` outside (0, 100].

    Example:
        >>> page = attribution_maps(np.zeros((20, 30)), {"Gradient": [[0.0, 1.0, -3.0]]})
        >>> "sum −2.00" in page.html
        True
    """
    if not attributions:
        raise ValueError("`attributions` must hold at least one title and its values.")
    maps = {name: _map(name, value) for name, value in attributions.items()}
    shapes = {name: values.shape for name, values in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"`attributions` must have one height and width; got {shapes}.")
    first = next(iter(maps.values()))
    rows, columns = first.shape
    start = [int(i) for i in np.unravel_index(np.abs(first).argmax(), first.shape)]
    scales = {name: scale_limit(np.abs(m), percentile) or 1.0 for name, m in maps.items()}
    return render(
        "attribution_maps",
        title=title,
        credit=credit,
        scripts=("common.js", "attribution_maps.js"),
        data={
            "rows": rows,
            "columns": columns,
            "start": start,
            "maps": [{"scale": scales[name], **packed(m)} for name, m in maps.items()],
        },
        picture=photograph(image, alt),
        maps=[
            {
                "name": name,
                "sum": total(m),
                "scale": scales[name],
                "value": float(m[tuple(start)]),
            }
            for name, m in maps.items()
        ],
        classes=classes,
        start=start,
        rows=rows,
        columns=columns,
        units=units,
    )


def _map(name: str, value: ArrayLike) -> np.ndarray:
    array = real_array(f"attributions[{name!r}]", value)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"`attributions[{name!r}]` must have shape (h, w, C) or (h, w); got {array.shape}."
        )
    return array if array.ndim == 2 else array.sum(axis=-1)
