"""What every page shares: the value that is returned, templates, numbers, pictures as text."""

import base64
import functools
import hashlib
import html
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._show._inputs import (
    Floats,
    Sprites,
    chosen_sprites,
    image_array,
    one_array,
    printable,
    refuse_channels_first,
    shaped,
)

_FOLDER = Path(__file__).parent / "templates"

# The longer side of a photograph, in pixels: about the width of the widest page.
_LONGEST = 1024

# What sprites may take of a page together, in bytes, before they are compressed further: a layer of
# 480 channels with sprites of 100 by 100 pixels still makes a page below 3 MB.
_ROOM = 1_600_000
_QUALITIES = (85, 75, 60, 45, 30)

# The frame of a notebook becomes as high as the page in it, now and when its width changes.
_FIT = (
    "const page = this.contentDocument.documentElement, "
    "fit = () => this.style.height = Math.ceil(page.getBoundingClientRect().height) + 'px'; "
    "new ResizeObserver(fit).observe(page)"
)


@dataclass(frozen=True, repr=False)
class Page:
    """A self-contained page.

    Attributes:
        title: as the browser shows it.
        html: the whole document.
    """

    title: str
    html: str

    def save(self, path: str | Path) -> Path:
        """Writes the page into a file, as UTF-8.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Page("Nothing", "<!doctype html>").save(f"{folder}/nothing.html").name
            'nothing.html'
        """
        path = Path(path)
        # In bytes: the hash of the script, in the page's policy, is that of these line ends.
        path.write_bytes(self.html.encode("utf-8"))
        return path

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.title)}" '
            f'style="width: 100%; height: 600px; border: 0" onload="{_FIT}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Page({self.title!r}, {len(self.html.encode()) / 1000:.0f} kB)"


def render(
    template: str,
    *,
    title: str,
    credit: str = "",
    scripts: tuple[str, ...] = (),
    data: Any = None,
    **values: Any,
) -> Page:
    """The page `template`, with the text of `scripts` in it, and `data` for them to read."""
    environment = _environment()
    from markupsafe import Markup

    script = "\n".join(_source(name) for name in scripts)
    document = environment.get_template(f"{template}.html.jinja").render(
        title=title,
        credit=credit,
        style=Markup(_source("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode(),
        data=data,
        **values,
    )
    return Page(printable(title), printable(document))


@functools.cache
def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ImportError(
            "Pages are written with Jinja2: pip install 'attrax[html]'", name="jinja2"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `tojson` escapes <, >, & and ': nothing in the data can end the element that holds it.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters |= {"number": number, "signed": signed}
    return environment


@functools.cache
def _source(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8").replace("\r\n", "\n").strip()


def number(value: float) -> str:
    """Three significant digits, as `number` in `common.js` writes them."""
    size = abs(float(f"{value:.2e}"))  # rounded first: 0.9996 is 1.00
    if size == 0.0:
        return "0"
    if not 1e-3 <= size < 1e6:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits}e{int(exponent)}".replace("-", "−")
    return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}".replace("-", "−")


def signed(value: float) -> str:
    """`number` with its sign, also where it is positive."""
    return f"+{number(value)}" if value > 0 else number(value)


def room_for(values: Iterable[float]) -> float:
    """The width of a column of `signed` numbers, in widths of a digit.

    One width wherever they stand on a page, so that the bars beside them have one scale too.
    """
    # A sign can be wider than a digit; there are at most two.
    return max((len(signed(value)) for value in values), default=0) + 0.6


def total(values: np.ndarray) -> float:
    """The sum, 0 where it is less than the rounding of float32 leaves of parts that cancel."""
    found = float(values.sum())
    return 0.0 if abs(found) < 2.0**-23 * float(np.abs(values).sum()) else found


def percent(value: float) -> float:
    """A share as the percentage of a style, without noise digits."""
    return round(100.0 * value, 3)


def picture_url(name: str, picture: ArrayLike, *, quality: int = 90) -> str:
    """A picture as a `data:` URL of a WebP file.

    Args:
        name: the argument that errors name.
        picture: `(H, W, 3)`, `(H, W, 1)`, `(H, W)`, or `(H, W, 4)` with opacity; in [0, 1] or
            uint8.
        quality: of the file, up to 100.
    """
    # Comes with matplotlib. WebP, because hundreds of sprites as PNG would be too much for a page.
    from PIL import Image

    array = one_array(name, picture)
    if array.ndim == 3 and array.shape[-1] == 4:
        colours = image_array(name, array[..., :3])
        opacity = image_array(name, array[..., 3])
        array = np.concatenate([colours, opacity[..., None]], axis=-1)
    else:
        array = image_array(name, array)
    file = io.BytesIO()
    Image.fromarray(np.rint(255.0 * array).astype(np.uint8)).save(file, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def photograph(image: Floats, alt: str, longest: int = _LONGEST) -> dict[str, Any]:
    """What the macro `photograph` draws: at most `longest` pixels along the longer side."""
    from PIL import Image

    picture = Image.fromarray(np.rint(255.0 * image).astype(np.uint8))
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    url = picture_url("image", np.asarray(picture))
    return {"url": url, "alt": alt, "width": picture.width, "height": picture.height}


def sprite_urls(sprites: Sprites | None, n: int, shown: Iterable[int]) -> dict[int, str]:
    """The sprites of the units that are shown, where there are any, as URLs."""
    found = chosen_sprites(sprites, n, shown)
    urls = compressed({f"sprites[{unit}]": sprite for unit, sprite in found.items()}, _ROOM)
    return dict(zip(found, urls, strict=True))


def compressed(pictures: Mapping[str, ArrayLike], room: int) -> list[str]:
    """Pictures as `data:` URLs, in the best of a few qualities that keeps all within `room` bytes.

    Args:
        pictures: the argument that errors name, to the picture.
        room: in bytes; with the lowest quality they may take more.
    """
    urls: list[str] = []
    for quality in _QUALITIES:
        urls = [picture_url(name, picture, quality=quality) for name, picture in pictures.items()]
        if sum(map(len, urls)) <= room:
            break
    return urls


def strongest(
    activation: ArrayLike,
    image: Floats,
    sprites: Sprites | None,
    k: int,
    names: Any,
    word: str,
) -> tuple[Floats, dict[str, Any]]:
    """The activation, and its `k` strongest units at every position for `strongest` in `common.js`.

    Only the sprites of those units are in it.
    """
    values = shaped("activation", activation, 3, "(h, w, N)")
    refuse_channels_first("activation", values, image)
    rows, columns, n = values.shape
    if not 1 <= k <= n:
        raise ValueError(f"`k` must lie in [1, {n}], the number of {word}s; got {k}.")
    # Stable: of equal values the lower index comes first.
    top = np.argsort(-values, axis=-1, kind="stable")[..., :k]
    found = np.take_along_axis(values, top, axis=-1)
    called = names_of(names, n, word)
    shown = np.unique(top).tolist()
    return values, {
        "rows": rows,
        "columns": columns,
        "k": k,
        "limit": float(np.abs(found).max()) or 1.0,
        "units": top.ravel().tolist(),
        "values": packed(found),
        "names": {i: called[i] for i in shown},
        "sprites": sprite_urls(sprites, n, shown),
    }


def shown_at(activation: Floats, data: Mapping[str, Any], row: int, column: int) -> dict[str, Any]:
    """What a template draws of `strongest` at first: one position, with its values as they are."""
    k = data["k"]
    first = (row * data["columns"] + column) * k
    here = activation[row, column]
    return {
        "entries": [(i, float(here[i])) for i in data["units"][first : first + k]],
        "start": (row, column),
        **{name: data[name] for name in ("names", "sprites", "limit", "rows", "columns")},
    }


def names_of(names: Any, n: int, word: str) -> list[str]:
    """A name for each of `n` things: `names`, or `word` and a number."""
    if names is None:
        return [f"{word} {i}" for i in range(n)]
    found = [printable(str(name)) for name in names]
    if isinstance(names, str) or len(found) != n:
        raise ValueError(f"`names` must hold {n} names, one for each {word}; got {names!r}.")
    return found


def packed(values: np.ndarray) -> dict[str, Any]:
    """An array as text: 16-bit integers in base64, and what 1 of them stands for."""
    unit = float(np.abs(values).max()) / 32767 or 1.0
    whole = np.rint(values / unit).astype("<i2")
    return {"unit": unit, "values": base64.b64encode(whole.tobytes()).decode("ascii")}
