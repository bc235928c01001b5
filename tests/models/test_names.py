"""Names: one grammar, and whatever `layers` prints can be captured and cut."""

import jax
import jax.numpy as jnp
import pytest

import attrax
from attrax._models._address import Address, Loop, parse, words_of
from comparisons import close
from networks import ZOO, X


@pytest.mark.parametrize(
    "text",
    [
        "block3/conv",
        "block3/conv#1:in",
        "layers[0:12]/attention.scores:div#1",
        "a[3][0:2]/b[1]:relu[0:7]#0",
        ".encode:in",
        ":softmax#0",
        "a.b/c:scatter-add#12",
    ],
)
def test_the_printer_and_the_parser_undo_one_another(text):
    address = parse(text)
    assert str(address) == text
    assert parse(str(address)) == address


def test_what_is_no_address_bears_a_name_of_nothing():
    for text in ("", "a#", "a#x", "a[", "a[1", "a]b", "#1", "a[1:2:3]"):
        assert parse(text).means(parse("a")) is None
        with pytest.raises(ValueError, match="no layer"):
            attrax.capture(lambda x: attrax.tap("a", x), X, at=text)


def test_words_keep_no_character_that_addresses_use():
    assert words_of(("a#1", "b:c[2]"), ".f") == ("/a_1", "/b_c_2_", ".f")
    assert words_of(()) == ()


def test_iterations_of_an_address():
    template = parse("layers[2:6]/ff[0:3]#1")
    assert template.means(parse("layers/ff#1")) == (None, None)
    assert template.means(parse("layers[3]/ff[2]")) == (3, 2)
    assert template.means(parse("layers[2:6]/ff[0]")) == (None, 0)
    for other in ("layers[1]/ff", "layers[6]/ff", "layers/ff#0", "layers/ff[3]", "ff", "layers"):
        assert template.means(parse(other)) is None
    assert str(template.at((3, None))) == "layers[3]/ff[0:3]#1"
    assert template.covers(parse("layers[3]/ff[0]#1"))
    assert not template.covers(parse("layers[6]/ff[0]#1"))
    assert str(template.narrowed(4, None)) == "layers[4]/ff[0:3]#1"


def test_a_scan_further_out_is_written_further_out():
    address = Address(("/a", "/b"), (Loop(1, 0, 2),))
    assert str(address.inside(Loop(2, 0, 5))) == "a[0:5][0:2]/b"


def is_shape(value):
    return isinstance(value, tuple) and all(isinstance(n, int) for n in value)


@pytest.mark.parametrize("name", ZOO)
def test_every_row_that_layers_prints_can_be_captured(name):
    model, x = ZOO[name]()
    rows = attrax.layers(model, x)
    names = [row.name for row in rows]
    assert names
    assert len(set(names)) == len(names)
    assert all(len(line) < 140 for line in str(rows).splitlines())
    found = jax.jit(lambda x: attrax.capture(model, x, at=names))(x)
    for row in rows:
        lengths = [loop.length for loop in parse(row.name).ranges]
        shapes = jax.tree.leaves(row.shape, is_leaf=is_shape)
        for leaf, shape in zip(jax.tree.leaves(found[row.name]), shapes, strict=True):
            assert leaf.shape == (*lengths, *shape)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found[row.name]))


@pytest.mark.parametrize("name", ZOO)
def test_one_iteration_of_every_row_is_one_of_its_stack(name):
    model, x = ZOO[name]()
    names = [row.name for row in attrax.layers(model, x) if parse(row.name).ranges]
    single = {name: str(parse(name).at([r.low for r in parse(name).ranges])) for name in names}
    if names:
        stacked = attrax.capture(model, x, at=names)
        for row in names[:3]:
            depth = len(parse(row).ranges)
            first = jax.tree.map(lambda leaf, depth=depth: leaf[(0,) * depth], stacked[row])
            close(attrax.capture(model, x, at=single[row]), first)


def test_a_function_that_a_module_shadows_is_printed_so_that_it_is_found():
    model, x = ZOO["odd_names"]()
    names = [row.name for row in attrax.layers(model, x)]
    assert names == ["relu", ":relu#0", "a_1", "b_in.c_2_", ":relu#1"]
    close(attrax.capture(model, x, at=":relu#0"), jax.nn.relu(attrax.capture(model, x, at="relu")))


def test_what_is_not_a_value_of_one_example_is_not_listed():
    model, x = ZOO["heads_folded_into_the_batch"]()
    names = [row.name for row in attrax.layers(model, x)]
    assert {"query", "weights", "mixed"} <= set(names)
    assert "pairs" not in names
    with pytest.raises(ValueError, match="'pairs' has no value of one example"):
        attrax.capture(model, x, at="pairs")
    z, tail = attrax.cut(model, x, at="weights")
    assert z.shape == (2, 3, 3)
    close(tail(z), model(x))


def test_many_arrays_take_one_short_row():
    model, x = ZOO["tree_of_many_arrays"]()
    (row,) = str(attrax.layers(model, x)).splitlines()[2:]
    assert row.split() == ["cache", "40", "arrays,", "up", "to", "(3,)", "float32,", "int32"]


@pytest.mark.parametrize("at", [None, 3, jnp.sin, ["h", None], {"h": 1}.values()])
def test_what_is_no_name_is_refused(at):
    model = lambda x: attrax.tap("h", x)  # noqa: E731
    for ask in (
        lambda: attrax.capture(model, X, at=at),
        lambda: attrax.cut(model, X, at=at),
        lambda: attrax.gradients_at(model, X, score=jnp.sum, at=at),
    ):
        with pytest.raises(TypeError, match=r"`at` must be the name of a layer.*; got (None|a )"):
            ask()
