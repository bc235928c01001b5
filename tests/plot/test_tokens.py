"""Attributed texts: their spelling and colours, as plain text and as a picture."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import attrax
import parity_models
from attrax import html, plot
from attrax._show import _text
from attrax.plot import _tokens
from attrax.text import Text
from differences import DIFFERENCES

LIGHT = ("#ffffff", "#2166ac", "#b2182b")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def boxes(ax):
    return [to_hex(patch.get_facecolor()) for patch in ax.patches]


# Spelling


@pytest.mark.parametrize(
    ("spelling", "tokens", "text"),
    [
        (attrax.text.words, ["not", "a", "good", "film"], "not a good film"),
        (attrax.text.words, [], ""),
        (
            attrax.text.word_pieces,
            ["[CLS]", "un", "##believ", "##able", "##"],
            "[CLS] unbelievable ##",
        ),
        (attrax.text.word_pieces, ["##ing"], "ing"),
        (attrax.text.sentence_pieces, ["▁not", "▁go", "od", "▁"], " not good "),
        (attrax.text.byte_pairs, ["not", "Ġgood", "Ġ", "ĊĊ", "ĉ"], "not good \n\n\t"),
        (attrax.text.byte_pairs, ["Ġna", "Ã¯", "ve", "<|end|>", "▁"], " naïve<|end|>▁"),
    ],
)
def test_spelling(spelling, tokens, text):
    pieces = spelling(tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == text


def test_byte_pairs_is_the_inverse_of_the_alphabet_of_bytes():
    # All 256 bytes have a letter, and a character of several bytes in one token is read as it was.
    assert sorted(attrax.text._BYTES.values()) == list(range(256))
    letters = {byte: letter for letter, byte in attrax.text._BYTES.items()}
    for text in ("déjà vu", "日本語 🙂", "\x00\x7f\xa0\xad"):
        assert attrax.text.byte_pairs(["".join(letters[byte] for byte in text.encode())]) == [text]
    assert attrax.text.byte_pairs(["æĹ", "¥"]) == ["\ufffd", "\ufffd"]


def test_nothing_is_invisible():
    text = Text(["", " ", "\n", "\t", "\x1b[31m", "a\nb", "  x"], np.zeros(7))
    shown = _text.pieces(text, list)
    assert [piece.text for piece in shown] == ["∅", "␣", "↵\n", "⇥\t", "␛[31m", "a↵\nb", "x"]
    assert [piece.space for piece in shown] == ["", "", "", "", "", "", "  "]


# Colours


@pytest.mark.parametrize("ends", [LIGHT, html._tokens._LIGHT, html._tokens._DARK])
def test_every_colour_can_be_read(ends):
    for share in np.linspace(-1, 1, 401):
        colour = _text.blend(share, *ends)
        brightness = sorted(_text.luminance(each) for each in (colour, _text.readable(colour)))
        assert (brightness[1] + 0.05) / (brightness[0] + 0.05) >= 4.5


def test_luminance_is_that_of_the_standard():
    # The examples of WCAG: white, black, and the weights of the primaries.
    colours = ["#ffffff", "#000000", "#ff0000", "#00ff00", "#0000ff"]
    found = [_text.luminance(colour) for colour in colours]
    assert found == pytest.approx([1.0, 0.0, 0.2126, 0.7152, 0.0722])
    assert _text.luminance("#808080") == pytest.approx(0.2159, abs=1e-4)


def test_colours_are_clamped_signed_and_symmetric():
    shares = [-7.0, -1.0, -0.5, 0.0, 0.5, 1.0, 7.0]
    colours = [_text.blend(share, *LIGHT) for share in shares]
    assert colours[0] == colours[1] == LIGHT[2]
    assert colours[-1] == colours[-2] == LIGHT[1]
    assert colours[3] == "#ffffff"
    red, blue = colours[2], colours[4]
    assert red[1:3] > red[5:7]
    assert blue[1:3] < blue[5:7]


@parity_models.cases("trulens_pictures.json", "html.colors")
def test_the_colours_of_trulens_are_half_of_its_scale(case):
    # Its scale ends at 2: a blend with that limit between its own ends, where it is not clamped.
    for value, rgb in case["expected"].items():
        found = _text.blend(float(value) / 2, "#ffffff", "#00ff00", "#ff0000")
        assert [int(found[i : i + 2], 16) for i in (1, 3, 5)] == pytest.approx(rgb, abs=0.51)
    ax = plot.tokens(attrax.text.Text(["no", "it is", "yes"], [-1.0, 0.0, 7.0]), limit=1.0)
    assert " to ".join(boxes(ax)).replace("#ffffff", "white") == DIFFERENCES["html.colors"].textbook


# Plain text


def test_plain_text():
    found = html.plain_tokens(
        [
            Text(["neutral", "bad"], [-0.0037, 1.25e-7], "0", "2"),
            Text(["good", "\n", "\x1b]0;x\x07"], [0.0, 2.0, -1234.0], prediction="1"),
            Text(["plain"], [1.0]),
        ]
    )
    assert found.split("\n") == [
        "0->2 neutral[-0.0037] bad[+1.25e-07]",
        "?->1 good[+0] ↵[+2] ␛]0;x␇[-1.23e+03]",
        "plain[+1]",
    ]


def test_plain_text_has_a_line_for_each_class():
    text = Text(["sing", "##ing"], [[1.0, 0.5], [-1.0, 0.0]], "a", "b")
    found = html.plain_tokens([text], classes=["a", "b"], spelling=attrax.text.word_pieces)
    assert found.split("\n") == ["a->b", "  a: sing[+1]ing[+0.5]", "  b: sing[-1]ing[+0]"]
    found = html.plain_tokens([text._replace(truth=None, prediction=None)])
    assert found.split("\n") == ["  0: sing[+1] ##ing[+0.5]", "  1: sing[-1] ##ing[+0]"]


# The picture


def test_picture_of_a_text():
    text = Text(["not", "$x$", "bad"], [[1.0, -4.0, 0.0], [0.0, 0.0, 2.0]], "a", "b")
    ax = plot.tokens(text, classes=["a", "b"], limit=2.0, units="logits", title="$")
    assert boxes(ax) == ["#90b2d6", "#b2182b", "#ffffff", "#ffffff", "#ffffff", "#2166ac"]
    assert texts(ax) == [
        "truth: a   prediction: b",
        *("a  (truth)  sum -3", "not", "$x$", "bad"),
        *("b  (predicted)  sum +2", "not", "$x$", "bad"),
        *("-2", "+2 (logits)"),
    ]
    assert [text.get_color() for text in ax.texts[2:5]] == ["#000000", "#ffffff", "#000000"]
    buffer = BytesIO()
    ax.get_figure().savefig(buffer, dpi=40)
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_picture_of_one_row_has_no_names():
    ax = plot.tokens(Text(["a", "b"], [0.0, 0.0]))
    assert texts(ax) == ["sum +0", "a", "b", "-1", "+1"]


def test_lines_are_broken_and_long_words_go_on():
    places, lines = _tokens._wrapped(
        [_text.Piece("", "abcde"), _text.Piece(" ", "fgh"), _text.Piece(" ", "0123456789ab")],
        8,
    )
    assert places == [[(0, 0, "abcde")], [(0, 1, "fgh")], [(0, 2, "01234567"), (0, 3, "89ab")]]
    assert lines == 4
    # Nor does a line begin with a space, whatever breaks it.
    start, lines = _tokens._wrapped(
        [_text.Piece(" ", "a"), _text.Piece("", "↵\n"), _text.Piece(" ", "01234567")], 8
    )
    assert start == [[(0, 0, "a")], [(1, 0, "↵")], [(0, 1, "01234567")]] and lines == 2
    wide, _ = _tokens._wrapped([_text.Piece("", "日本語日本")], 8)
    assert wide == [[(0, 0, "日本語日"), (0, 1, "本")]]
    broken, _ = _tokens._wrapped([_text.Piece("", "a↵\nb")], 8)
    assert broken == [[(0, 0, "a↵"), (0, 1, "b")]]


def test_letters_stay_inside_of_axes_that_are_given():
    figure = Figure(figsize=(4, 3))
    left, _ = figure.subplots(1, 2)
    plot.tokens(Text(["word"] * 30, np.linspace(-1, 1, 30)), columns=24, ax=left)
    figure.draw_without_rendering()
    frame = left.get_window_extent()
    for text in left.texts:
        box = text.get_window_extent()
        assert box.x0 >= frame.x0 - 2 and box.x1 <= frame.x1 + 2


# What is refused


@pytest.mark.parametrize(
    "draw", [lambda *a, **k: plot.tokens(a[0][0], **k), html.tokens, html.plain_tokens]
)
def test_what_is_refused(draw):
    pytest.importorskip("jinja2")
    text = Text(["a", "b"], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"\(K, L\); got \(3,\) for 2 tokens. Sum over"):
        draw([text._replace(attribution=[1.0, 2.0, 3.0])])
    with pytest.raises(ValueError, match=r"got \(1, 2, 2\) for 2 tokens"):
        draw([text._replace(attribution=np.zeros((1, 2, 2)))])
    with pytest.raises(ValueError, match="`attribution` must be finite"):
        draw([text._replace(attribution=[1.0, np.nan])])
    with pytest.raises(ValueError, match=r"must name every row of `attribution`; got \['x', 'y'\]"):
        draw([text], classes=["x", "y"])
    with pytest.raises(ValueError, match="must name every row of `attribution`; got 'x' for 1"):
        draw([text], classes="x")
    with pytest.raises(ValueError, match="one string a token; got 1 for 2"):
        draw([text], spelling=lambda tokens: tokens[:1])


def test_what_else_is_refused():
    text = Text(["a"], [1.0])
    with pytest.raises(TypeError, match="must be a sequence of `Text`; got one `Text`"):
        html.plain_tokens(text)
    with pytest.raises(ValueError, match="must hold at least one `Text`; got none"):
        html.plain_tokens([])
    with pytest.raises(ValueError, match="`limit` must be positive and finite; got 0"):
        plot.tokens(text, limit=0.0)
    with pytest.raises(ValueError, match="`columns` must be at least 8; got 7"):
        plot.tokens(text, columns=7)
