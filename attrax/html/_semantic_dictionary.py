"""A semantic dictionary: what a layer sees at every position of a picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .._show._inputs import Sprites, image_array
from ._caption import PLAIN, Caption
from ._page import Page, photograph, render, shown_at, strongest


def semantic_dictionary(
    activation: ArrayLike,
    image: ArrayLike,
    sprites: Sprites | None = None,
    *,
    k: int = 4,
    names: Sequence[str] | None = None,
    caption: Caption = PLAIN,
) -> Page:
    """The picture; point at a position to see the `k` strongest channels there as sprites.

    `top_k over n of activation[row, column, n]`, bars as long as `|activation| / limit`

    `limit` is the largest absolute value shown at any position, so bars can be compared between
    positions. The page opens at the largest activation. Among equal values the lower channel comes
    first.

    Channels are one basis among many. For directions, give `activation @ directions.T` and sprites
    of the directions; for groups of neurons, `numpy.moveaxis(groups.positions, 0, -1)` and a sprite
    for each group.

    Args:
        activation: `(h, w, N)`; the grid of `h` by `w` positions covers the image.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
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
        >>> page = semantic_dictionary(activation, np.zeros((20, 30)), k=1)
        >>> 'row <span id="row">2</span>, column <span id="column">3</span>' in page.html
        True

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "Making Sense of Hidden Layers".
    """
    picture, texts = image_array("image", image), caption.on_page("What the layer sees")
    values, data = strongest(activation, picture, sprites, k, names, texts["word"])
    peaks = values.max(axis=-1)
    row, column = (int(i) for i in np.unravel_index(peaks.argmax(), peaks.shape))
    return render(
        "semantic_dictionary",
        scripts=("common.js", "semantic_dictionary.js"),
        data={**data, "start": [row, column]},
        picture=photograph(picture, caption.alt),
        **shown_at(values, data, row, column),
        **texts,
    )
