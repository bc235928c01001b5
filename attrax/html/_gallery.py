"""An index of pages: a card for each picture, with links to the pages that explain it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import quote

from numpy.typing import ArrayLike

from .._show._inputs import image_array
from ._page import Page, photograph, render

_THUMBNAIL = 320


@dataclass(frozen=True)
class Item:
    """A picture of a gallery, and its pages.

    Attributes:
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        links: text to file, relative to the gallery: `{"Channels": "coffee/channels.html"}`.
        title: above the links.
        text: below the title.
        alt: what the image shows, for those who do not see it.
    """

    image: ArrayLike
    links: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    text: str = ""
    alt: str = "A picture of the gallery"


def gallery(items: Sequence[Item], *, title: str = "Gallery", text: str = "") -> Page:
    """Pictures with links to their pages, which lie in files beside this one.

    Pictures are reduced to 320 pixels. Links are file names, and are quoted here, so that
    "relu6#0.html" works.

    Args:
        items: one for each picture.
        title: of the page.
        text: below the title.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: when there are no items, an image is outside [0, 1], or a link does not lead to
            a file below the folder of this page.

    Example:
        >>> import numpy as np
        >>> page = gallery([Item(np.zeros((20, 30)), {"Channels": "coffee/block 2.html"})])
        >>> 'href="coffee/block%202.html"' in page.html
        True
    """
    if not isinstance(items, Sequence):
        raise TypeError(f"`items` must be a sequence of `Item`; got a {type(items).__name__}.")
    if not items:
        raise ValueError("`items` must hold at least one picture.")
    wrong = [type(item).__name__ for item in items if not isinstance(item, Item)]
    if wrong:
        raise TypeError(f"`items` must hold `attrax.html.Item(image, links)`; got a {wrong[0]}.")
    return render(
        "gallery",
        title=title,
        text=text,
        items=[
            {
                "picture": photograph(
                    image_array(f"items[{i}].image", item.image), item.alt, _THUMBNAIL
                ),
                "title": item.title,
                "text": item.text,
                "links": {name: _address(file) for name, file in item.links.items()},
            }
            for i, item in enumerate(items)
        ],
    )


def _address(file: str) -> str:
    """A file as a link that stays below the folder of the page, whatever its name."""
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts:
        raise ValueError(
            f"`links` must be files below the folder of the gallery, such as 'coffee/a.html'; got "
            f"{file!r}."
        )
    # Quoted, a colon cannot make a scheme of the first part.
    return quote(str(path))
