"""Spritemaps: the sprites of a layer as one picture with its layout, and a folder of them.

A spritemap is two files: a PNG, whose text chunk `attrax` holds the layout, and the same layout as
JSON beside it, for pages that do not read pictures. The folder is the registry:
`FOLDER/MODEL/LAYER.VARIANT.png`.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from .._core import _checks
from ._sprites import as_bytes

FORMAT = 1
LIGHT = 0.9
"""The brightness behind what is transparent, and where a row has no more sprites."""


@dataclass(frozen=True, eq=False)
class Spritemap:
    """The sprites of one layer, and where each is in the picture.

    Sprite k is in row `k // columns` and column `k % columns`; the last row may be short.

    Attributes:
        sprites: `(n, H, W, C)`, uint8 or in [0, 1]; C is 1, 3, or 4 with opacity.
        model: a name.
        layer: its name in the model.
        variant: what of the layer: "channel", "neuron", "direction".
        units: which channel each sprite shows; `range(n)` if not given.
        columns: sprites in a row; `floor(sqrt(n))` if not given, as in the spritemaps of Lucid.
        recipe: how they were made: whatever JSON can hold.
    """

    sprites: np.ndarray
    model: str
    layer: str
    variant: str = "channel"
    units: Sequence[int] = ()
    columns: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        sprites = as_bytes("sprites", self.sprites)
        if sprites.ndim != 4 or not len(sprites) or sprites.shape[-1] not in (1, 3, 4):
            raise ValueError(
                "`sprites` must have shape (n, H, W, C), with 1, 3 or 4 channels; got "
                f"{sprites.shape}."
            )
        units = tuple(int(unit) for unit in self.units) or tuple(range(len(sprites)))
        if len(units) != len(sprites) or len(set(units)) != len(units):
            raise ValueError(
                "`units` must be different, one for each sprite; got "
                f"{len(set(units))} different of {len(units)} for {len(sprites)} sprites."
            )
        columns = self.columns or math.isqrt(len(sprites))
        object.__setattr__(self, "sprites", sprites)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "columns", _checks.count(columns, "columns"))
        object.__setattr__(self, "recipe", dict(self.recipe))

    @property
    def rows(self) -> int:
        """Rows of the picture."""
        return -(-len(self.sprites) // self.columns)

    def position(self, unit: int) -> tuple[int, int]:
        """The row and the column of a unit in the picture."""
        return divmod(self._place(unit), self.columns)

    def tile(self, unit: int) -> np.ndarray:
        """The sprite of a unit, uint8 `(H, W, C)`."""
        return self.sprites[self._place(unit)]

    def picture(self) -> np.ndarray:
        """All sprites as one picture, uint8 `(rows * H, columns * W, C)`."""
        n, height, width, channels = self.sprites.shape
        missing = self.rows * self.columns - n
        filling = np.full((missing, height, width, channels), round(255 * LIGHT), np.uint8)
        grid = np.concatenate([self.sprites, filling]).reshape(
            self.rows, self.columns, height, width, channels
        )
        return grid.swapaxes(1, 2).reshape(self.rows * height, self.columns * width, channels)

    def layout(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON can hold it."""
        _, height, width, channels = self.sprites.shape
        return {
            "format": FORMAT,
            "model": self.model,
            "layer": self.layer,
            "variant": self.variant,
            "tile": [height, width],
            "channels": channels,
            "count": len(self.sprites),
            "columns": self.columns,
            "rows": self.rows,
            "units": list(self.units),
            "recipe": self.recipe,
        }

    def png(self) -> bytes:
        """The picture as a PNG that holds the layout.

        Raises:
            ImportError: when pillow is not installed.
        """
        image, information = _pillow()
        text = information.PngInfo()
        text.add_text("attrax", json.dumps(self.layout()))
        text.add_text("Title", f"{self.model}, {self.layer}, {self.variant}")
        pixels = self.picture()
        stream = io.BytesIO()
        image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
            stream, "PNG", pnginfo=text, optimize=True
        )
        return stream.getvalue()

    def save(self, folder: str | Path) -> Path:
        """Write the picture and its layout into the registry in `folder`.

        Returns:
            The file of the picture.

        Raises:
            ImportError: when pillow is not installed.
        """
        file = spritemap_file(folder, self.model, self.layer, self.variant)
        data = self.png()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.with_suffix(".json").write_text(json.dumps(self.layout(), indent=1) + "\n", "utf-8")
        return file

    def _place(self, unit: int) -> int:
        if unit not in self.units:
            raise ValueError(
                f"No sprite of unit {unit} in {self.layer!r}; there are {len(self.units)}, from "
                f"{min(self.units)} to {max(self.units)}."
            )
        return self.units.index(unit)


class SpritemapName(NamedTuple):
    """What a spritemap is registered under."""

    model: str
    layer: str
    variant: str


def spritemap_file(folder: str | Path, model: str, layer: str, variant: str = "channel") -> Path:
    """The file of a spritemap in a registry, whether or not it exists.

    Example:
        >>> spritemap_file("sprites", "lite0", "block1/relu6#0").as_posix()
        'sprites/lite0/block1%2Frelu6%230.channel.png'
    """
    parts = [_quoted(part) for part in (model, layer, variant)]
    return Path(folder) / parts[0] / f"{parts[1]}.{parts[2]}.png"


def spritemaps(folder: str | Path) -> list[SpritemapName]:
    """The spritemaps registered in a folder, sorted; none if there is no folder.

    Example:
        >>> spritemaps("a folder that is not there")
        []
    """
    found = []
    for file in Path(folder).glob("*/*.*.png"):
        layer, variant = file.stem.rsplit(".", 1)
        found.append(SpritemapName(*map(unquote, (file.parent.name, layer, variant))))
    return sorted(found)


def load_spritemap(
    folder: str | Path, model: str, layer: str, variant: str = "channel"
) -> Spritemap:
    """A spritemap from the registry in `folder`.

    Args:
        folder: where spritemaps were saved.
        model: its name.
        layer: its name.
        variant: "channel", "neuron", "direction".

    Returns:
        A `Spritemap`.

    Raises:
        ImportError: when pillow is not installed.
        FileNotFoundError: when it is not registered.
        ValueError: when the picture does not have the size that its layout says.
    """
    image, _ = _pillow()
    file = spritemap_file(folder, model, layer, variant)
    if not file.exists():
        there = ", ".join(f"{m} {name} {kind}" for m, name, kind in spritemaps(folder)) or "none"
        raise FileNotFoundError(
            f"No spritemap of {model!r}, {layer!r}, {variant!r} in {str(folder)!r}; registered: "
            f"{there}."
        )
    with image.open(file) as opened:
        layout = json.loads(opened.text["attrax"])
        pixels = np.asarray(opened)
    (height, width), count = layout["tile"], layout["count"]
    rows, columns, channels = layout["rows"], layout["columns"], layout["channels"]
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    expected = (rows * height, columns * width, channels)
    if pixels.shape != expected:
        raise ValueError(
            f"The picture {str(file)!r} must have shape {expected} by its layout; got "
            f"{pixels.shape}."
        )
    grid = pixels.reshape(rows, height, columns, width, channels).swapaxes(1, 2)
    return Spritemap(
        sprites=grid.reshape(-1, height, width, channels)[:count],
        model=layout["model"],
        layer=layout["layer"],
        variant=layout["variant"],
        units=layout["units"],
        columns=columns,
        recipe=layout["recipe"],
    )


def over_background(image: np.ndarray, background: float = LIGHT) -> np.ndarray:
    r"""A transparent image over one brightness.

    $$a \, image + (1 - a) \, background$$

    Args:
        image: `(..., H, W, C + 1)`, in [0, 1]; the last channel is the opacity a.
        background: in [0, 1].

    Returns:
        `(..., H, W, C)`.

    Example:
        >>> over_background(np.array([[[0.0, 0.25]]]), 1.0).item()
        0.75
    """
    opacity = image[..., -1:]
    return opacity * image[..., :-1] + (1 - opacity) * background


def _quoted(name: str) -> str:
    """A name as a part of a file's name: no separators, no dots that could be taken for ours."""
    if not name:
        raise ValueError("The names of a model, a layer and a variant must not be empty.")
    return quote(name, safe="").replace(".", "%2E")


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, PngImagePlugin
    except ImportError:
        raise ImportError("Spritemaps are PNG files: pip install pillow", name="PIL") from None
    return Image, PngImagePlugin
