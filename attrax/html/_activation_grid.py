"""An activation grid: the picture redrawn as what each position of a layer sees."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .._show._inputs import Sprites, image_array, one_array
from ._caption import PLAIN, Caption
from ._page import (
    Page,
    compressed,
    packed,
    percent,
    photograph,
    picture_url,
    render,
    shown_at,
    strongest,
)

# What all tiles together may take of a page, in bytes, before they are compressed further.
_ROOM = 1_000_000
_TITLE = "The picture as the layer sees it"


def activation_grid(
    activation: ArrayLike,
    image: ArrayLike,
    tiles: ArrayLike,
    sprites: Sprites | None = None,
    *,
    k: int = 4,
    names: Sequence[str] | None = None,
    caption: Caption = PLAIN,
) -> Page:
    """The picture redrawn with a tile at each position; point at one to enlarge it.

    `tiles[i, j]` shows the direction `activation[i, j]`; its strength is `|activation[i, j]|`

    Point at the grid or at the picture. Beside the tile are its strength, as a share of the largest
    one, and the `k` strongest channels, as in `semantic_dictionary`. A switch scales every tile by
    the strength of its position. The page opens at the strongest position.

        z = attrax.capture(model, x, at="block5")
        draw = visualise.sprite("block5", prepare=prepare, objective=visualise.cosine_direction)
        tiles = visualise.activation_tiles(draw, model, z, key=key)
        page = attrax.html.activation_grid(z, image, tiles)

    Args:
        activation: `(h, w, N)`; the grid of `h` by `w` positions covers the image.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        tiles: a picture for each position, `(h, w, th, tw, 3)`, or with 1 channel; in [0, 1] or
            uint8.
        sprites: what each channel looks for: `(N, h, w, 3)`, or a mapping from channel to picture.
        k: how many channels are shown.
        names: of the channels; the word of the caption and their numbers if not given.
        caption: what is written on the page; its word says what the last axis is made of.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, pictures outside [0, 1],
            `k` outside [1, N].

    Example:
        >>> activation = np.zeros((2, 3, 4))
        >>> activation[1, 2, 3] = 5.0
        >>> page = activation_grid(activation, np.zeros((20, 30)), np.zeros((2, 3, 8, 8, 3)), k=1)
        >>> 'row <span id="row">2</span>, column <span id="column">3</span>' in page.html
        True

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "What Does the Network See?".
    """
    picture, texts = image_array("image", image), caption.on_page(_TITLE)
    values, data = strongest(activation, picture, sprites, k, names, texts["word"])
    rows, columns = data["rows"], data["columns"]
    pictures = one_array("tiles", tiles)
    if pictures.ndim != 5 or pictures.shape[:2] != (rows, columns):
        raise ValueError(
            f"`tiles` must hold one picture a position, ({rows}, {columns}, th, tw, 3); got "
            f"{pictures.shape}."
        )
    height, width = pictures.shape[2:4]
    joined = pictures.swapaxes(1, 2).reshape(rows * height, columns * width, -1)
    strengths = np.linalg.norm(values, axis=-1)
    largest = float(strengths.max())
    shares = strengths / (largest or 1.0)
    row, column = (int(i) for i in np.unravel_index(strengths.argmax(), (rows, columns)))
    return render(
        "activation_grid",
        scripts=("common.js", "activation_grid.js"),
        data={
            **data,
            "start": [row, column],
            "tile": [height, width],
            "largest": largest,
            "shares": packed(shares),
        },
        picture=photograph(picture, caption.alt),
        mosaic={
            "url": compressed({"tiles": joined}, _ROOM)[0],
            "alt": f"{caption.alt}, redrawn in {rows} × {columns} tiles",
            "width": columns * width,
            "height": rows * height,
        },
        tile=picture_url("tiles", pictures[row, column], quality=85),
        strength=largest,
        share=percent(float(shares[row, column])),
        **shown_at(values, data, row, column),
        **texts,
    )
