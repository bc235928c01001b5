"""Where attrax gives another number than a peer on purpose, and the number that it gives instead.

One entry for each case of `tests/data` whose recorded value is not reproduced by the method of its
name. The parity tests meet the textbook value, and say how the recorded one follows from it.
`python tests/differences.py` prints the table of `docs/coming_from.md`.
"""

from typing import Any, NamedTuple


class Difference(NamedTuple):
    """Why a recorded value is not reproduced, and the textbook value that is met instead."""

    reason: str
    textbook: Any


_HALVED_ENDS = (
    "Captum's trapezoidal rule has weights 1/n on n nodes, halved at the ends: they sum to "
    "(n - 1)/n, and everything comes out smaller by that factor. Here the weights are 1/(n - 1), "
    "and sum to 1. Captum's number is ours times (n - 1)/n."
)
_SUM_OF_DIFFERENCES = (
    "Captum sums gradients times differences of the activation between neighbouring nodes and does "
    "not use the weights of its rule: it loses the ends of the path. Here the activation is "
    "differentiated; the integral is known on paper. Captum's sum is reproduced from captured "
    "activations."
)
_ORDER = (
    "Of the two most negative channels Lucid lists the most negative one last. Here both ends of a "
    "ranking begin with the most extreme channel. All values are reproduced."
)
_ODD_WIDTH = (
    "For an odd width w Lucid takes one frequency more than the Fourier transform has, that of "
    "width w + 1, weighs it like the last one, and cuts off a column of pixels. Here the "
    "parameters are the spectrum of the image, and every image has parameters. Lucid's image is "
    "reproduced from its parameters."
)
_TWO_SCALES = (
    "TruLens divides positive values by their largest one or by their sum, and negative values by "
    "theirs: the same strength of colour is another amount on the two sides. Here both sides have "
    "one scale, which ends at the largest magnitude of both. TruLens' numbers follow by that "
    "division."
)

DIFFERENCES = {
    **{f"riemann_trapezoid({n})": Difference(_HALVED_ENDS, 1.0) for n in (2, 3, 4, 5, 10)},
    "ig_cube_n4_riemann_trapezoid": Difference(_HALVED_ENDS, [[76 / 9, -22 / 9]]),
    "layer_conductance_linear0_gl500": Difference(_SUM_OF_DIFFERENCES, [[0, 390, 0]]),
    "layer_conductance_linear1_gl500": Difference(_SUM_OF_DIFFERENCES, [[90, 100, 100, 100]]),
    "layer_conductance_linear2_gl500": Difference(_SUM_OF_DIFFERENCES, [[390, 0]]),
    "layer_conductance_relu_gl500": Difference(_SUM_OF_DIFFERENCES, [[90, 100, 100, 100]]),
    "layer_conductance_relu_trap10": Difference(_SUM_OF_DIFFERENCES, [[90, 100, 100, 100]]),
    "layer_conductance_conv1": Difference(
        _SUM_OF_DIFFERENCES, [[[[0, 4], [31, 40]], [[0, 0], [-6, -15]]]]
    ),
    "lucid.channel_attr.logit1 (class2=None)": Difference(_ORDER, [3, 1]),
    "lucid.channel_attr.logit1-logit4": Difference(_ORDER, [3, 1]),
    "image_6x7_dec1_fft1_alpha0": Difference(_ODD_WIDTH, [2, 3, 6, 4]),
    "rfft2d_freqs_4x5": Difference(_ODD_WIDTH, [0.32015621187, 0.47169905660]),
    "standard_transforms_shapes": Difference(
        "Lucid resizes the picture, so that each of its eleven scales has a shape and a program of "
        "its own. Here the picture is resampled in a frame that stays: there is one shape, that of "
        "its scale 1, and one program.",
        [1, 140, 140, 3],
    ),
    "norm.magnitude_sum": Difference(
        "TruLens divides by the sum of magnitudes before it draws. That changes no colour, but "
        "takes the units from the scale. Here values are drawn as they are, on a scale that ends "
        "at the largest.",
        [0.06129074591, 0.04015228270],
    ),
    "norm.signed_max": Difference(_TWO_SCALES, [0.04936444143, 0.03970699338]),
    "norm.signed_sum": Difference(_TWO_SCALES, [0.04936444143, 0.03970699338]),
    "norm.01": Difference(
        "TruLens draws the smallest value as 0 and the largest as 1, so that zero has another "
        "colour in every picture. Here zero is the middle of a signed scale, white, or the dark "
        "end of a scale of magnitudes.",
        0.5,
    ),
    "html.colors": Difference(
        "TruLens colours tokens from red over white to green, which many readers cannot tell "
        "apart, and beyond 2 leaves the colours that there are. Here from red to blue, ending at "
        "a limit. TruLens' numbers are this blend, between its ends, with the limit 2.",
        "#b2182b to white to #2166ac",
    ),
    "deep.ClassSeqQoI_actual": Difference(
        "TruLens takes every listed class of every example, against its own documentation. Here "
        "each example is mapped with its own class. TruLens' matrix has these numbers on its "
        "diagonal.",
        [-0.11303277382720209, -0.10713180304981011],
    ),
    "qoi.lambda_two_args_error": Difference(
        "TruLens counts the parameters of a function when it becomes a score. Any callable is a "
        "score here, and is not inspected: Python itself refuses it where it is called.",
        "TypeError",
    ),
}


def markdown() -> str:
    """The table as Markdown: one row a reason."""
    lines = ["| cases | met instead | why |", "|---|---|---|"]
    for reason in dict.fromkeys(difference.reason for difference in DIFFERENCES.values()):
        rows = [(name, d.textbook) for name, d in DIFFERENCES.items() if d.reason == reason]
        names = "<br>".join(f"`{name}`" for name, _ in rows)
        values = "<br>".join(_text(value) for _, value in rows)
        lines.append(f"| {names} | {values} | {reason} |")
    return "\n".join(lines)


def _text(value: Any) -> str:
    """A number or nested list, to six digits."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return value if isinstance(value, str) else f"{value:.6g}"


if __name__ == "__main__":
    print(markdown())
