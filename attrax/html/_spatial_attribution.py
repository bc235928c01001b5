"""Spatial attribution: which positions of one layer the positions of another draw on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._show._inputs import Floats, Sprites, entries_of, image_array, shaped
from ._caption import PLAIN, Caption
from ._page import (
    Page,
    packed,
    photograph,
    render,
    sprite_urls,
)


def spatial_attribution(
    between: ArrayLike | None,
    image: ArrayLike,
    sprites: Sprites | None = None,
    *,
    outputs: Mapping[str, ArrayLike] | None = None,
    layers: tuple[str, str] = ("earlier layer", "later layer"),
    output: str = "output",
    caption: Caption = PLAIN,
) -> Page:
    """The picture for each layer; point at a position to see what it draws on in the other.

    `between[i, j, p, q]` is how much position `(i, j)` of the later layer draws on `(p, q)` of the
    earlier one, `sum_c a[p, c] d||b[i, j]|| / d a[p, c]`. The other way round, a position of the
    earlier layer shows every `(i, j)` that draws on it.

    The output is a layer too: its positions are the classes of `outputs`, linked to the later
    layer. Classes are one basis among many. For groups of neurons of a layer further on, give what
    the score of each draws on, with its sprite, such as `outputs={"group 0": a, "group 1": b}` and
    `Caption(word="group")`.

    Each map is coloured by its own largest absolute value, which is written below it. The page
    opens at the position of the later layer that the first of `outputs` draws on most, in absolute
    value; without `outputs`, at the position that draws most; without `between`, at that class.

    Args:
        between: `(h2, w2, h1, w1)`, from the later layer to the earlier one; None shows `outputs`
            alone.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        sprites: what each of `outputs` looks for: `(n, h, w, 3)`, or a mapping from its number to a
            picture.
        outputs: class to `(h2, w2)`, attributions of its score at the later layer, as
            `attrax.positions` gives them.
        layers: names of the earlier and of the later layer.
        output: name of the output.
        caption: what is written on the page; its word says what `outputs` are.

    Returns:
        The page: both layers and the output, or one layer and the output if `between` is None.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, an image outside [0, 1],
            or when neither `between` nor `outputs` is given.

    Example:
        >>> between = np.arange(24.0).reshape(1, 2, 3, 4)
        >>> page = spatial_attribution(between, np.zeros((30, 40)))
        >>> "1 × 2" in page.html, "3 × 4" in page.html
        (True, True)

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "What Does the Network See?", attribution to
        spatial locations.
    """
    if between is None and outputs is None:
        raise ValueError("One of `between` and `outputs` must be given; got neither.")
    picture = image_array("image", image)
    panels: list[dict[str, Any]] = []
    links: list[Floats] = []
    if between is not None:
        values = shaped("between", between, 4, "(h2, w2, h1, w1)")
        h2, w2, h1, w1 = values.shape
        panels = [_panel(layers[0], h1, w1), _panel(layers[1], h2, w2)]
        links = [values.reshape(h2 * w2, h1 * w1)]
    maps = {} if outputs is None else _output_maps(outputs, panels)
    if maps:
        panels = panels or [_panel(layers[1], *next(iter(maps.values())).shape)]
        panels.append({**_panel(output, len(maps), 1), "names": list(maps)})
        links.append(np.stack([value.ravel() for value in maps.values()]))
    most = np.abs(links[-1][0]) if len(links) == 2 else np.abs(links[0]).sum(axis=1)
    return render(
        "spatial_attribution",
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
        picture=photograph(picture, caption.alt),
        layers=panels[: len(panels) - bool(maps)],
        outputs=list(maps),
        output_name=output,
        sprites=sprite_urls(sprites, len(maps), range(len(maps))),
        **caption.on_page("Where it comes from", "class"),
    )


def _output_maps(
    outputs: Mapping[str, ArrayLike], panels: Sequence[Mapping[str, Any]]
) -> dict[str, Floats]:
    """Class to its map, each with the shape of the later layer, the last of `panels`."""
    maps = {
        name: shaped(f"outputs[{name!r}]", value, 2, "(h2, w2)")
        for name, value in entries_of("outputs", outputs).items()
    }
    first = next(iter(maps.values())).shape
    shape = (panels[-1]["rows"], panels[-1]["columns"]) if panels else first
    wrong = [value.shape for value in maps.values() if value.shape != shape]
    if wrong:
        raise ValueError(
            f"`outputs` must all have the shape of the later layer, {shape}; got {wrong[0]}."
        )
    return maps


def _panel(name: str, rows: int, columns: int) -> dict[str, Any]:
    return {"name": name, "rows": rows, "columns": columns}
