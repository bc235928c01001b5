"""Attributions of a picture as maps over it, side by side."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from .._show._inputs import alike, entries_of, image_array, map_array, scale_limit
from ._caption import PLAIN, Caption
from ._page import Page, packed, photograph, render, total


def attribution_maps(
    attributions: Mapping[str, ArrayLike],
    image: ArrayLike,
    *,
    percentile: float = 99.0,
    classes: tuple[str, str] = ("for the class", "against it"),
    caption: Caption = PLAIN,
) -> Page:
    """The picture under the attribution of each method or class; point at one to read all.

    `m[p] = sum_c a[p, c]`; blue where `m > 0`, red where `m < 0`, as strong as `min(|m| / s, 1)`

    The scale `s` of a map is its own `percentile` of `|m|`; it is written below the map, with the
    sum over all positions. The page opens at the largest `|m|` of the first map.

    Args:
        attributions: title to `(h, w, C)` or `(h, w)`, all of one height and width; the grid of `h`
            by `w` positions covers the image.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        percentile: where the colours end; 100 clips nothing.
        classes: what blue (positive) and red (negative) stand for.
        caption: what is written on the page.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, no attribution at all,
            an image outside [0, 1], `percentile` outside (0, 100].

    Example:
        >>> page = attribution_maps({"Gradient": [[0.0, 1.0, -3.0]]}, np.zeros((20, 30)))
        >>> "sum −2.00" in page.html
        True
    """
    picture = image_array("image", image)
    maps = {
        name: map_array(f"attributions[{name!r}]", value, picture).sum(axis=-1)
        for name, value in entries_of("attributions", attributions).items()
    }
    alike("attributions", maps)
    first = next(iter(maps.values()))
    rows, columns = first.shape
    start = [int(i) for i in np.unravel_index(np.abs(first).argmax(), first.shape)]
    scales = {name: scale_limit(np.abs(m), percentile) or 1.0 for name, m in maps.items()}
    return render(
        "attribution_maps",
        scripts=("common.js", "attribution_maps.js"),
        data={
            "rows": rows,
            "columns": columns,
            "start": start,
            "maps": [{"scale": scales[name], **packed(m)} for name, m in maps.items()],
        },
        picture=photograph(picture, caption.alt),
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
        **caption.on_page("Which parts of the picture speak for it"),
    )
