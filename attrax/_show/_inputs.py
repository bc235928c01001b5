"""What plots and pages accept: every argument that holds numbers is checked here, once.

One rule for all of them. An argument is one array of finite real numbers, of one example, channels
last. Everything else raises, names the argument and says what to pass instead: a result object, a
dict or a list of arrays is never drawn as if it were an array, and NaN never as a colour.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]

Sprites: TypeAlias = ArrayLike | Mapping[int, ArrayLike]
"""A picture for each channel, or for some: `(N, h, w, C)`, or a mapping from channel to picture."""

# Float images that leave [0, 1] by rounding (bfloat16 has 8 bits) are clipped, not refused.
_ROUNDING = 2.0**-7
# Axes of 1 or 3 before two that look like a height and a width: at least so long, and no more than
# so many times as long as each other.
_SHORTEST, _LONGEST = 5, 3


def one_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """`value` as the one array that it is; `name` is the argument named in errors.

    Numbers in nested lists are an array. A list of arrays is not: stacked, the gradients of two
    inputs, or the fields of a result, would be drawn as rows of one.
    """
    _refuse_containers(name, value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be one array; got rows of different shapes: {error}"
        ) from error
    if array.dtype.kind == "O":
        advice = " Pass its `.value`." if hasattr(value, "value") else ""
        kind = f"dtype {array.dtype}" if array.ndim else f"a {type(value).__name__}"
        raise TypeError(f"`{name}` must hold real numbers; got {kind}.{advice}")
    return array


def stacked(name: str, value: ArrayLike) -> ArrayLike:
    """`value`, joined where it is a list of arrays: for arguments that are several of one kind."""
    if not isinstance(value, list | tuple) or hasattr(value, "_fields"):
        return value
    rows = [one_array(f"{name}[{i}]", row) for i, row in enumerate(value)]
    shapes = sorted({row.shape for row in rows})
    if len(shapes) > 1:
        raise ValueError(f"`{name}` must all have the same shape; got {shapes}.")
    return np.stack(rows) if rows else value


def _refuse_containers(name: str, value: object) -> None:
    if isinstance(value, Mapping):
        keys = ", ".join(repr(key) for key in list(value)[:4])
        raise TypeError(
            f"`{name}` must be one array; got a {type(value).__name__} of {keys or 'nothing'}. "
            "Pass one of its values."
        )
    fields = getattr(value, "_fields", None)
    if isinstance(value, tuple) and fields is not None:
        which = "its `.value`" if "value" in fields else f"one of them, such as `.{fields[0]}`"
        raise TypeError(
            f"`{name}` must be one array; got {type(value).__name__}({', '.join(fields)}). "
            f"Pass {which}."
        )
    if not isinstance(value, list | tuple):
        return
    for entry in value:
        if len(getattr(entry, "shape", ())):
            raise TypeError(
                f"`{name}` must be one array; got a {type(value).__name__} of {len(value)} arrays. "
                "Pass one of them, or join them with `np.stack`."
            )
        _refuse_containers(name, entry)


def real_array(name: str, value: ArrayLike) -> Floats:
    """`value` as one finite, non-empty float64 array; `name` is the argument named in errors."""
    array = one_array(name, value)
    # ml_dtypes.bfloat16 and its kin report kind "V".
    if array.dtype.kind not in "biufV":
        raise TypeError(f"`{name}` must hold real numbers; got dtype {array.dtype}.")
    if array.size == 0:
        raise ValueError(f"`{name}` must not be empty; got shape {array.shape}.")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`{name}` must be finite; {int(bad.sum())} of its {array.size} values are not, "
            f"the first at {first} is {array[first]}. `~np.isfinite({name})` can be drawn, and "
            "shows where they are."
        )
    return array


def shaped(name: str, value: ArrayLike, ndim: int, shape: str, hint: str = "") -> Floats:
    """`value` as a finite array with `ndim` axes; `shape` says which, `hint` how to get there."""
    array = real_array(name, value)
    if array.ndim != ndim:
        raise ValueError(f"`{name}` must have shape {shape}; got {array.shape}.{hint}")
    return array


def entries_of(name: str, value: Mapping[str, Any], what: str = "its values") -> dict[str, Any]:
    """The entries of a mapping from titles, under the names that errors use: `name['title']`."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f"`{name}` must map a title to {what}, such as {{'a title': ...}}; got a "
            f"{type(value).__name__}."
        )
    if not value:
        raise ValueError(f"`{name}` must hold at least one title and {what}; got none.")
    return {printable(str(title)): entry for title, entry in value.items()}


def alike(name: str, arrays: Mapping[str, Floats]) -> None:
    """Raises unless all arrays have one shape."""
    shapes = {title: array.shape for title, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"`{name}` must all have the same shape; got {shapes}.")


def channel_values(name: str, value: ArrayLike) -> Floats:
    """`(C,)`, one value a channel."""
    hint = " Reduce an attribution with `attrax.channels` first."
    return shaped(name, value, 1, "(C,), one value a channel", hint)


def columns_of(name: str, value: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    """Several attributions of the channels of one layer: title to `(C,)`."""
    columns = {
        title: channel_values(f"{name}[{title!r}]", values)
        for title, values in entries_of(name, value).items()
    }
    alike(name, columns)
    return columns


def map_array(name: str, value: ArrayLike, image: Floats | None = None) -> Floats:
    """An attribution of the positions of a picture as `(H, W, C)`; `(H, W)` gets one channel.

    Args:
        name: the argument named in errors.
        value: `(H, W, C)` or `(H, W)`.
        image: the picture that it covers; it tells which axes are height and width.
    """
    array = real_array(name, value)
    if array.ndim < 2:
        raise ValueError(
            f"`{name}` must be that of a picture, (H, W, C) or (H, W); got {array.shape}. "
            "`plot.time_series` draws a series, `plot.features` the columns of a table, "
            "`plot.tokens` a text."
        )
    if array.ndim > 3:
        raise ValueError(
            f"`{name}` must be that of one example, (H, W, C) or (H, W); got {array.shape}. "
            "Index the batch axis first; of a volume draw one slice at a time."
        )
    array = array if array.ndim == 3 else array[..., None]
    refuse_channels_first(name, array, image)
    return array


def refuse_channels_first(name: str, array: Floats, image: Floats | None = None) -> None:
    """Raises where `(C, H, W)` was given for `(H, W, C)`.

    Beside a picture the proportions tell: only the last two axes fit. Alone it is a first axis of 1
    or 3, as of the colours of a picture, before two that could be a height and a width.
    """
    first, second, third = array.shape
    if image is None:
        low, high = sorted((second, third))
        wrong = first in (1, 3) and low >= _SHORTEST and high <= _LONGEST * low
    else:
        wrong = fits_better(image, (second, third), (first, second))
    if wrong:
        raise ValueError(
            f"`{name}` must have its channels last, (H, W, C); {array.shape} has them first. Use "
            f"`np.moveaxis({name}, 0, -1)`; if {first} really is the height, sum over the channels."
        )


def fits_better(image: Floats, there: tuple[int, int], here: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of a picture as `there`, and by far not as `here`."""
    pixels = image.shape[:2]
    if pixels in (here, there):
        return pixels == there != here
    return _stretch(there, image) < 1.25 and _stretch(here, image) > 2


def _stretch(shape: tuple[int, int], image: Floats) -> float:
    """How far from square the cells are that a grid of `shape` cuts the picture into."""
    ratio = (image.shape[0] / shape[0]) / (image.shape[1] / shape[1])
    return max(ratio, 1 / ratio)


def image_shape(name: str, array: Floats) -> Floats:
    """`array` as `(H, W, 3)` or `(H, W)`, whatever its values."""
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        return array
    hint = ""
    if array.ndim == 3 and array.shape[0] in (1, 3):
        hint = f" Channels come last: `np.moveaxis({name}, 0, -1)`."
    elif array.ndim > 3:
        hint = " Index the batch axis first; of a volume draw one slice at a time."
    elif array.ndim == 1:
        hint = " `plot.time_series` draws a series."
    raise ValueError(
        f"`{name}` must be one image, (H, W, 3), (H, W, 1) or (H, W); got {array.shape}.{hint}"
    )


def image_array(name: str, image: ArrayLike) -> Floats:
    """`image` as `(H, W, 3)` or `(H, W)` in [0, 1]; uint8 is divided by 255."""
    raw = one_array(name, image)
    array = image_shape(name, real_array(name, raw))
    if raw.dtype == np.uint8:
        return array / 255.0
    if array.min() < -_ROUNDING or array.max() > 1.0 + _ROUNDING:
        raise ValueError(
            f"`{name}` must lie in [0, 1] or be uint8; got values from {array.min():.4g} to "
            f"{array.max():.4g}. {_out_of_range(array)}"
        )
    return array.clip(0.0, 1.0)


def _out_of_range(array: Floats) -> str:
    """What may be wrong with a picture whose values lie outside [0, 1]."""
    if array.ndim == 2 and array.shape[0] > 8 * array.shape[1]:
        return "A series of a few channels is drawn by `plot.time_series`."
    return "Undo the model's preprocessing before plotting."


def check_same_pixels(attribution: Floats, image: Floats) -> None:
    """Raises unless both have the same height and width."""
    if attribution.shape[:2] != image.shape[:2]:
        raise ValueError(
            "`attribution` and `image` must have the same height and width; "
            f"got {attribution.shape} against {image.shape}. "
            "Enlarge the attribution of an inner layer with "
            f"`attrax.upsample(attribution, {image.shape[:2]})`."
        )


def chosen_sprites(sprites: Sprites | None, n: int, shown: Iterable[int]) -> dict[int, Any]:
    """The sprites of the units that are shown, where there are any."""
    if sprites is None:
        return {}
    if not isinstance(sprites, Mapping):
        array = one_array("sprites", stacked("sprites", sprites))
        if array.ndim != 4 or len(array) != n:
            raise ValueError(
                "`sprites` must hold one picture for each, (N, h, w, 3), or map numbers to "
                f"pictures; got {array.shape} for {n}."
            )
        sprites = dict(enumerate(array))
    return {unit: sprites[unit] for unit in shown if unit in sprites}


def record(x: Sequence[object] | ArrayLike, n: int) -> list[str]:
    """The `n` entries of an example of a table, as text."""
    _refuse_containers("x", x)
    entries = np.asarray(x, object)
    if entries.shape != (n,):
        found = entries.shape if entries.ndim else f"a {type(x).__name__}"
        raise ValueError(f"`x` must hold one number or text a feature, ({n},); got {found}.")
    return [written("x", entry) for entry in entries]


def written(name: str, value: object) -> str:
    """An entry of an example as text: three significant digits, whole numbers below 1e6 all theirs.

    Example:
        >>> [written("x", value) for value in ("no", 61, -0.12345, 1234567.0)]
        ['no', '61', '−0.123', '1.23e+06']
    """
    if isinstance(value, str | bool | np.bool):
        return printable(str(value))
    number = real_array(name, np.asarray(value)).item()
    is_whole = number == round(number) and abs(number) < 1e6
    return (f"{number:.0f}" if is_whole else f"{number:.3g}").replace("-", "−")


def printable(text: str) -> str:
    r"""`text` without half surrogate pairs, which cannot be printed, drawn or written to a file.

    Tokenizers of bytes leave them. Two halves that belong together become their character.

    Example:
        >>> printable("a\ud83d"), printable("\ud83d\ude00")
        ('a�', '😀')
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check_fraction(name: str, value: float) -> None:
    """Raises unless `value` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"`{name}` must lie in [0, 1]; got {value}.")


def scale_limit(magnitudes: Floats, percentile: float, limit: float | None = None) -> float:
    """The value at the end of the colour scale; 0 only where everything is zero.

    `limit` where given, else the percentile of `magnitudes`; where that percentile is 0 but
    something is not (a map with very few non-zero pixels), the maximum.
    """
    if not 0.0 < percentile <= 100.0:
        raise ValueError(
            f"`percentile` must lie in (0, 100], where 100 clips nothing; got {percentile}."
        )
    if limit is not None:
        if not 0.0 < limit < float("inf"):
            raise ValueError(f"`limit` must be positive and finite; got {limit}.")
        return float(limit)
    return float(np.percentile(magnitudes, percentile)) or float(magnitudes.max())
