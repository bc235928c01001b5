"""Spatial attribution: which positions of one layer the positions of another draw on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._page import (
    Page,
    Pictures,
    packed,
    photograph,
    positions_array,
    render,
    sprite_urls,
)


def spatial_attribution(
    image: ArrayLike,
    between: ArrayLike | None = None,
    *,
    outputs: Mapping[str, ArrayLike] | None = None,
    layers: tuple[str, str] = ("earlier layer", "later layer"),
    output: str = "output",
    icons: Pictures | None = None,
    word: str = "class",
    alt: str = "The picture that is explained",
    credit: str = "",
    units: str = "",
    title: str = "Where it comes from",
) -> Page:
    """The picture once a layer; point at a position of one to see what it draws on in the other.

    `between[i, j, p, q]`: what position `(i, j)` of the later layer draws on at `(p, q)` of the
    earlier one, `sum_c a[p, c] d||b[i, j]|| / d a[p, c]`. The other way round, a position of the
    earlier layer shows every `(i, j)` that draws on it.

    The output is a layer too: its places are the classes of `outputs`, joined to the later layer.
    Classes are one basis of many. Groups of neurons, of a layer behind: what the score of each
    draws on, with its icon, such as `outputs={"group 0": a, "group 1": b}, word="group"`.

    Each map is coloured by its own largest absolute value, which is written below it. It begins
    with the position of the later layer that the first of `outputs` draws on most, in absolute
    values; without `outputs` with the position, without `between` with the class that draws most.

    Args:
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        between: `(h2, w2, h1, w1)`, from the later layer to the earlier one.
        outputs: class to `(h2, w2)`, attributions of its score at the later layer, as
            `attrax.positions` gives them.
        layers: names of the earlier and of the later layer.
        output: name of the output.
        icons: what each of `outputs` looks for: `(n, h, w, 3)`, or a mapping from its number to a
            picture.
        word: what `outputs` are: "class", "direction", "group".
        alt: what the image shows, for those who do not see it.
        credit: whose picture it is, written below it.
        units: what attributions are measured in.
        title: of the page.

    Returns:
        The page: both layers, the output, or one layer and the output where `between` is not given.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, an image outside [0, 1],
            or when neither `between` nor `outputs` is given.

    Example:
        >>> between = np.arange(24.0).reshape(1, 2, 3, 4)
        >>> page = spatial_attribution(np.zeros((30, 40)), between)
        >>> "1 × 2" in page.html, "3 × 4" in page.html
        (True, True)

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "What Does the Network See?", attribution to
        spatial locations.
    """
    if between is None and not outputs:
        raise ValueError("One of `between` and `outputs` must be given; got neither.")
    panels: list[dict[str, Any]] = []
    links: list[np.ndarray] = []
    if between is not None:
        values = positions_array("between", between, 4, "(h2, w2, h1, w1)")
        h2, w2, h1, w1 = values.shape
        panels = [_panel(layers[0], h1, w1), _panel(layers[1], h2, w2)]
        links = [values.reshape(h2 * w2, h1 * w1)]
    if outputs:
        maps = [
            positions_array(f"outputs[{name!r}]", value, 2, "(h2, w2)")
            for name, value in outputs.items()
        ]
        shape = (panels[-1]["rows"], panels[-1]["columns"]) if panels else maps[0].shape
        wrong = [value.shape for value in maps if value.shape != shape]
        if wrong:
            raise ValueError(
                f"`outputs` must all have the shape of the later layer, {shape}; got {wrong[0]}."
            )
        panels = panels or [_panel(layers[1], *shape)]
        panels.append({**_panel(output, len(maps), 1), "names": list(outputs)})
        links.append(np.stack([value.ravel() for value in maps]))
    most = np.abs(links[-1][0]) if len(links) == 2 else np.abs(links[0]).sum(axis=1)
    return render(
        "spatial_attribution",
        title=title,
        credit=credit,
        scripts=("common.js", "spatial_attribution.js"),
        data={
            "panels": panels,
            # A row is a map: packed by itself, it has its digits however small it is.
            "links": [
                {"left": i, "right": i + 1, "rows": [packed(row) for row in matrix]}
                for i, matrix in enumerate(links)
            ],
            "start": {"panel": 1, "place": int(most.argmax())},
        },
        picture=photograph(image, alt),
        layers=panels[: len(panels) - bool(outputs)],
        outputs=list(outputs or ()),
        output_name=output,
        icons=sprite_urls(icons, len(outputs or ()), list(range(len(outputs or ()))), name="icons"),
        word=word,
        units=units,
    )


def _panel(name: str, rows: int, columns: int) -> dict[str, Any]:
    return {"name": name, "rows": rows, "columns": columns}
