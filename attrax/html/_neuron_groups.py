"""Groups of neurons as a page: where each is, what it looks for, and what it speaks for."""

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .._show._arrays import real_array
from ._page import (
    Page,
    Pictures,
    names_of,
    packed,
    percent,
    photograph,
    positions_array,
    render,
    room_for,
    sprite_urls,
)

# Okabe and Ito (2008), which stay apart for colour-blind eyes, without their black.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def neuron_groups(
    image: ArrayLike,
    positions: ArrayLike,
    icons: Pictures | None = None,
    *,
    attributions: Mapping[str, ArrayLike] | None = None,
    alt: str = "The picture that is explained",
    credit: str = "",
    names: Sequence[str] | None = None,
    layer: str = "",
    units: str = "",
    title: str = "Groups of neurons",
) -> Page:
    """The picture in the colours of its groups, and each group with its icon and its attribution.

    `colour[p] = sum_k positions[k, p] colour_k / sum_k positions[k, p]`, as opaque as the strongest
    group at p; opacity ends at the 99th percentile of `positions`

    Point at a group to see it alone, at a position to see how strong every group is there. The
    share of a group is its part of the sum of `positions`. What the groups add to a score need not
    add up to its change: negative activations belong to none, and groups only approximate the rest.

        groups = attrax.visualise.neuron_groups(z, 6)  # needs scikit-learn, the extra `groups`
        effect = np.einsum("khw,kc,hwc->k", *groups, gradient)  # of the score at z
        page = attrax.html.neuron_groups(image, groups.positions, attributions={"castle": effect})

    Args:
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        positions: `(n, h, w)`, not negative; the grid of `h` by `w` positions covers the image.
        icons: what each group looks for: `(n, h, w, 3)`, or a mapping from group to picture.
        attributions: class to `(n,)`, what each group adds to the score of that class.
        alt: what the image shows, for those who do not see it.
        credit: whose picture it is, written below it.
        names: of the groups; their numbers where not given.
        layer: its name.
        units: what attributions are measured in, such as "logit".
        title: of the page.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, negative `positions`,
            pictures outside [0, 1].

    Example:
        >>> effects = {"castle": [1.0, -3.0]}
        >>> page = neuron_groups(np.zeros((20, 20)), np.ones((2, 4, 4)), attributions=effects)
        >>> "−3.00" in page.html
        True

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "Making Things Human-Scale".
    """
    values = positions_array("positions", positions, 3, "(n, h, w)")
    if values.min() < 0:
        raise ValueError(f"`positions` must not be negative; got {values.min():g}.")
    n, rows, columns = values.shape
    called = names_of(names, n, "group")
    effects = {}
    for name, effect in (attributions or {}).items():
        effects[name] = real_array(f"attributions[{name!r}]", effect)
        if effects[name].shape != (n,):
            raise ValueError(
                f"`attributions[{name!r}]` must hold one value a group, ({n},); got "
                f"{effects[name].shape}."
            )
    limit = max([float(np.abs(effect).max()) for effect in effects.values()], default=1.0) or 1.0
    sums = values.sum(axis=(1, 2))
    shares = sums / (sums.sum() or 1.0)
    colours = [group_colour(i) for i in range(n)]
    groups = [
        {
            "name": called[i],
            "colour": colours[i],
            "share": f"{100 * shares[i]:.0f} %",
            "width": percent(shares[i] / (shares.max() or 1.0)),
            "effects": [
                {
                    "name": name,
                    "value": float(effect[i]),
                    "width": percent(abs(effect[i]) / limit / 2),
                }
                for name, effect in effects.items()
            ],
        }
        for i in range(n)
    ]
    return render(
        "neuron_groups",
        title=title,
        credit=credit,
        scripts=("common.js", "neuron_groups.js"),
        data={
            "rows": rows,
            "columns": columns,
            "positions": packed(values),
            "scale": float(np.percentile(values, 99)) or float(values.max()) or 1.0,
            "shares": [group["share"] for group in groups],
            "widths": [group["width"] for group in groups],
            "colours": colours,
            "names": called,
        },
        picture=photograph(image, alt),
        groups=groups,
        icons=sprite_urls(icons, n, list(range(n)), name="icons"),
        classes=list(effects),
        room=room_for(value for effect in effects.values() for value in effect),
        rows=rows,
        columns=columns,
        layer=layer,
        units=units,
    )


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
