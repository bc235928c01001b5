"""Groups of neurons as a page: where each is, what it looks for, and what it speaks for."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._show._inputs import (
    Floats,
    Sprites,
    entries_of,
    fits_better,
    image_array,
    real_array,
    shaped,
)
from ._caption import PLAIN, Caption
from ._page import (
    Page,
    names_of,
    packed,
    percent,
    photograph,
    render,
    room_for,
    sprite_urls,
)

# Okabe and Ito (2008), which stay apart for colour-blind eyes, without their black.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def neuron_groups(
    positions: ArrayLike,
    image: ArrayLike,
    sprites: Sprites | None = None,
    *,
    attributions: Mapping[str, ArrayLike] | None = None,
    names: Sequence[str] | None = None,
    caption: Caption = PLAIN,
) -> Page:
    """The picture in the colours of its groups, with the sprite and attribution of each group.

    `colour[p] = sum_k positions[k, p] colour_k / sum_k positions[k, p]`, as opaque as the strongest
    group at p; opacity ends at the 99th percentile of `positions`

    Point at a group to see it alone, or at a position to see how strong each group is there. The
    share of a group is its part of the sum of `positions`. What the groups add to a score need not
    add up to its change: negative activations belong to no group, and groups only approximate the
    rest.

        groups = attrax.visualise.neuron_groups(z, 6, key=key)  # needs scikit-learn
        effect = np.einsum("khw,kc,hwc->k", *groups, gradient)  # of the score at z
        page = attrax.html.neuron_groups(groups.positions, image, attributions={"castle": effect})

    Args:
        positions: `(n, h, w)`, not negative; the grid of `h` by `w` positions covers the image.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        sprites: what each group looks for: `(n, h, w, 3)`, or a mapping from group to picture.
        attributions: class to `(n,)`, what each group adds to the score of that class.
        names: of the groups; their numbers if not given.
        caption: what is written on the page.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, negative `positions`,
            pictures outside [0, 1].

    Example:
        >>> effects = {"castle": [1.0, -3.0]}
        >>> page = neuron_groups(np.ones((2, 4, 4)), np.zeros((20, 20)), attributions=effects)
        >>> "−3.00" in page.html
        True

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "Making Things Human-Scale".
    """
    picture, texts = image_array("image", image), caption.on_page("Groups of neurons", "group")
    values = _checked_positions(positions, picture)
    n, rows, columns = values.shape
    called = names_of(names, n, texts["word"])
    effects = {} if attributions is None else _effects(attributions, n)
    groups = _groups(values, called, effects)
    return render(
        "neuron_groups",
        scripts=("common.js", "neuron_groups.js"),
        data={
            "rows": rows,
            "columns": columns,
            "positions": packed(values),
            "scale": float(np.percentile(values, 99)) or float(values.max()) or 1.0,
            "shares": [group["share"] for group in groups],
            "widths": [group["width"] for group in groups],
            "colours": [group["colour"] for group in groups],
            "names": called,
        },
        picture=photograph(picture, caption.alt),
        groups=groups,
        sprites=sprite_urls(sprites, n, range(n)),
        classes=list(effects),
        room=room_for(value for effect in effects.values() for value in effect),
        rows=rows,
        columns=columns,
        **texts,
    )


def _checked_positions(positions: ArrayLike, image: Floats) -> Floats:
    values = shaped("positions", positions, 3, "(n, h, w)")
    n, rows, columns = values.shape
    if fits_better(image, (n, rows), (rows, columns)):
        raise ValueError(
            f"`positions` must have its groups first, (n, h, w); {values.shape} has them last. Use "
            "`np.moveaxis(positions, -1, 0)`."
        )
    if values.min() < 0:
        raise ValueError(f"`positions` must not be negative; got {values.min():g}.")
    return values


def _effects(attributions: Mapping[str, ArrayLike], n: int) -> dict[str, Floats]:
    """Class to what each group adds to its score."""
    effects = {}
    for name, effect in entries_of("attributions", attributions).items():
        effects[name] = real_array(f"attributions[{name!r}]", effect)
        if effects[name].shape != (n,):
            raise ValueError(
                f"`attributions[{name!r}]` must hold one value a group, ({n},); got "
                f"{effects[name].shape}."
            )
    return effects


def _groups(
    positions: Floats, names: Sequence[str], effects: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """The groups as the template draws them."""
    limit = max([float(np.abs(effect).max()) for effect in effects.values()], default=1.0) or 1.0
    sums = positions.sum(axis=(1, 2))
    shares = sums / (sums.sum() or 1.0)
    return [
        {
            "name": name,
            "colour": group_colour(i),
            "share": f"{100 * shares[i]:.0f} %",
            "width": percent(shares[i] / (shares.max() or 1.0)),
            "effects": [
                {
                    "name": title,
                    "value": float(effect[i]),
                    "width": percent(abs(effect[i]) / limit / 2),
                }
                for title, effect in effects.items()
            ],
        }
        for i, name in enumerate(names)
    ]


def group_colour(i: int) -> str:
    """The colour of group `i`: the first seven stay apart for colour-blind eyes.

    Example:
        >>> group_colour(0), group_colour(7)
        ('#e69f00', '#d94c4c')
    """
    if i < len(_COLOURS):
        return _COLOURS[i]
    # Steps of the golden ratio never come close to an earlier hue.
    hue = (i - len(_COLOURS)) * 0.6180339887 % 1.0
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, 0.575, 0.65))
