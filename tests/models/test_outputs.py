"""Outputs that are no pytrees are refused while the model is read, and say what to do."""

import collections
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

import attrax
from comparisons import close

X = jnp.array([0.3, -0.5, 0.8])


@dataclasses.dataclass
class Result:
    logits: object
    name: str = "result"


class Plain:
    def __init__(self, logits):
        self.parts = {"logits": [logits]}


class Slots:
    __slots__ = ("logits",)

    def __init__(self, logits):
        self.logits = logits


class Named(NamedTuple):
    logits: jax.Array
    name: str


READ = {
    "layers": lambda model: attrax.layers(model, X),
    "capture": lambda model: attrax.capture(model, X, at="h"),
    "cut": lambda model: attrax.cut(model, X, at="h"),
    "intervene": lambda model: attrax.intervene(model, X, at={"h": X}),
    "gradients_at": lambda model: attrax.gradients_at(model, X, score=lambda y: y, at="h"),
    "check": lambda model: attrax.check(model, X),
    "unbatched": lambda model: attrax.layers(attrax.unbatched(model), X),
}


def returning(make):
    return lambda x: make(attrax.tap("h", 2 * x))


@pytest.mark.parametrize("read", READ.values(), ids=READ.keys())
def test_everything_that_reads_refuses_a_hidden_array(read):
    with pytest.raises((TypeError, ValueError), match=r"returns a Result, .*register_dataclass"):
        read(returning(Result))


@pytest.mark.parametrize(
    "make",
    [
        Plain,
        Slots,
        lambda h: {"inner": Plain(h)},
        lambda h: collections.deque([h]),
    ],
)
def test_whatever_holds_an_array_unseen_is_refused(make):
    with pytest.raises(TypeError, match=r"in which JAX does not see the arrays: register it"):
        attrax.layers(returning(make), X)


@pytest.mark.parametrize(
    "make",
    [lambda h: lambda: h, lambda h: lambda y=h: y, lambda h: functools.partial(jnp.add, h)],
)
def test_functions_that_hold_arrays_are_refused(make):
    with pytest.raises(TypeError, match="the model returns a"):
        attrax.layers(returning(make), X)


def test_objects_without_arrays_pass_as_they_are():
    label = Result("text")

    def model(x):
        return Named(attrax.tap("h", 2 * x), "text"), label, None, jnp.sin, 3

    z, tail = attrax.cut(model, X, at="h")
    found = tail(z)
    close(found[0].logits, 2 * X)
    assert found[0].name == "text" and found[1] is label and found[2:4] == (None, jnp.sin)
