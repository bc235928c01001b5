"""A semantic dictionary: what a layer sees at every position of a picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ._page import Page, Pictures, photograph, render, shown_at, strongest


def semantic_dictionary(
    image: ArrayLike,
    activation: ArrayLike,
    sprites: Pictures | None = None,
    *,
    k: int = 4,
    alt: str = "The picture that is explained",
    credit: str = "",
    names: Sequence[str] | None = None,
    word: str = "channel",
    layer: str = "",
    units: str = "",
    title: str = "What the layer sees",
) -> Page:
    """The picture; point at a position, and the `k` strongest channels there are shown as sprites.

    `top_k over n of activation[row, column, n]`, bars as long as `|activation| / limit`

    `limit` is the largest absolute value that is shown at any position: bars can be compared
    between positions. It begins at the largest activation of all. Of equal values the lower channel
    comes first.

    Channels are one basis of many. Directions: give `activation @ directions.T`, and `sprites` of
    the directions. Groups of neurons: `numpy.moveaxis(groups.positions, 0, -1)`, and a picture a
    group.

    Args:
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        activation: `(h, w, N)`; the grid of `h` by `w` positions covers the image.
        sprites: what each channel looks for: `(N, h, w, 3)`, or a mapping from channel to picture.
        k: how many channels are shown.
        alt: what the image shows, for those who do not see it.
        credit: whose picture it is, written below it.
        names: of the channels; `word` and their numbers where not given.
        word: what the last axis is made of: "channel", "direction", "group".
        layer: its name.
        units: what activations are measured in.
        title: of the page.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, pictures outside [0, 1],
            `k` outside [1, N].

    Example:
        >>> activation = np.zeros((2, 3, 4))
        >>> activation[1, 2, 3] = 5.0
        >>> page = semantic_dictionary(np.zeros((20, 30)), activation, k=1)
        >>> 'row <span id="row">2</span>, column <span id="column">3</span>' in page.html
        True

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "Making Sense of Hidden Layers".
    """
    data = strongest(activation, sprites, k, names, word)
    values = np.asarray(activation, np.float64)
    peaks = values.max(axis=-1)
    row, column = (int(i) for i in np.unravel_index(peaks.argmax(), peaks.shape))
    return render(
        "semantic_dictionary",
        title=title,
        credit=credit,
        scripts=("common.js", "semantic_dictionary.js"),
        data={**data, "start": [row, column]},
        picture=photograph(image, alt),
        **shown_at(values, data, row, column),
        word=word,
        layer=layer,
        units=units,
    )
