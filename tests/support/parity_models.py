"""The models of the parity files, as plain JAX functions of one example.

A specification is a list of operators with explicit weights. Every node passes its value through
`tap(name, value)`, so that with `attrax.tap` it can be cut; without, no tap is needed. The batch
axis of the files is left to the caller.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

Tap = Callable[[str, Any], Any]


def load(name: str) -> dict[str, Any]:
    """A file of `tests/data`."""
    return json.loads((Path(__file__).parents[1] / "data" / name).read_text())


def identity(case: dict[str, Any]) -> str:
    """What a case is called, or a row of a table of rules."""
    return case.get("name") or case.get("id") or f"{case['method']}({case['n']})"


def cases(file: str, *chosen: str) -> pytest.MarkDecorator:
    """Runs a test for every case of a file that has one of these names or methods."""
    found = [case for case in load(file)["cases"] if _labels(case) & set(chosen)]
    missing = set(chosen).difference(*map(_labels, found))
    assert not missing, f"{file} has no case {missing}"
    return pytest.mark.parametrize("case", found, ids=identity)


def _labels(case: dict[str, Any]) -> set[str]:
    return {identity(case), case.get("method", "")}


def no_tap(name: str, value: Any) -> Any:
    """The identity."""
    return value


def from_spec(spec: dict[str, Any], tap: Tap = no_tap) -> Callable[..., jax.Array]:
    """The model of a Captum case. Axis 1 of the file, after the batch, is axis 0 here."""

    def model(*inputs: jax.Array) -> jax.Array:
        values = dict(zip(spec["inputs"], inputs, strict=True))
        for node in spec["nodes"]:
            arguments = [values[name] for name in node["in"]]
            values[node["name"]] = tap(node["name"], OPERATORS[node["op"]](node, *arguments))
        return values[spec["output"]]

    return model


def producer(spec: dict[str, Any], name: str) -> str:
    """The node whose output is the input of node `name`."""
    (node,) = (node for node in spec["nodes"] if node["name"] == name)
    return node["in"][0]


def _dense(node: dict[str, Any], x: jax.Array) -> jax.Array:
    y = jnp.asarray(node["W"], x.dtype) @ x
    return y if node["b"] is None else y + jnp.asarray(node["b"], x.dtype)


def _conv2d(node: dict[str, Any], x: jax.Array) -> jax.Array:
    kernel = jnp.asarray(node["K"], x.dtype)
    y = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID")[0]
    return y + jnp.asarray(node["b"], x.dtype)[:, None, None]


def _affine(node: dict[str, Any], x: jax.Array) -> jax.Array:
    return node.get("scale", 1.0) * x + node.get("shift", 0.0)


def _mul(node: dict[str, Any], *factors: jax.Array) -> jax.Array:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def _outer(node: dict[str, Any], x: jax.Array) -> jax.Array:
    return x[:, None, None] * jnp.asarray(node["K"], x.dtype)[None]


OPERATORS: dict[str, Callable[..., jax.Array]] = {
    "add": lambda node, *terms: sum(terms[1:], terms[0]),
    "dense": _dense,
    "conv2d": _conv2d,
    "affine": _affine,
    "mul": _mul,
    "outer": _outer,
    "relu": lambda node, x: jax.nn.relu(x),
    "softmax": lambda node, x: jax.nn.softmax(x),
    "flatten": lambda node, x: x.reshape(-1),
    "sub": lambda node, x, y: x - y,
    "sum": lambda node, x: jnp.sum(x, axis=0),
    "take": lambda node, x: x[node["index"]],
}


def cnn(weights: dict[str, Any], tap: Tap = no_tap) -> Callable[[jax.Array], jax.Array]:
    """The small convolutional network of the Lucid and TruLens cases, on (8, 8, 3) images."""

    def conv(x: jax.Array, kernel: str, bias: str) -> jax.Array:
        k = jnp.asarray(np.array(weights[kernel]), x.dtype)
        dims = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x[None], k, (1, 1), "SAME", dimension_numbers=dims)
        return y[0] + jnp.asarray(weights[bias], x.dtype)[None, None]

    def model(x: jax.Array) -> jax.Array:
        h = tap("relu1", jax.nn.relu(tap("conv1", conv(x, "K1_HWIO", "c1"))))
        # The pooling primitive gives a tie to the first of its window, as PyTorch does; written as
        # a maximum it would split it, and at zero activations everything is a tie.
        window = (2, 2, 1)
        pooled = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, window, window, "VALID")
        h = tap("relu2", jax.nn.relu(tap("conv2", conv(pooled, "K2_HWIO", "c2"))))
        pooled = jnp.mean(h, axis=(0, 1))
        dense = pooled @ jnp.asarray(weights["Dk"], x.dtype) + jnp.asarray(weights["db"], x.dtype)
        return tap("logits", dense)

    return model
