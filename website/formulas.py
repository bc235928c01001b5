"""Formulas in LaTeX as MathML, which browsers draw without a script and without a font of ours."""

import html
import re

from latex2mathml.converter import convert

# What `pymdownx.arithmatex` leaves for a script to find.
_FOUND = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
# A name of two letters or more, and not a command, nor text in the braces of one.
_NAME = re.compile(r"\\(?:text|mathrm|mathbb)\{[^}]*\}|\\[A-Za-z]+|[A-Za-z]{2,}")


def upright(latex: str) -> str:
    r"""Names such as `fn` in upright letters: one name, and not a product of `f` and `n`.

    >>> print(upright(r"\sum_k w_k fn(p_k) \text{ at most}"))
    \sum_k w_k \mathrm{fn}(p_k) \text{ at most}
    """
    return _NAME.sub(
        lambda found: found[0] if found[0][0] == "\\" else rf"\mathrm{{{found[0]}}}", latex
    )


def mathml(latex: str, *, display: bool) -> str:
    """The MathML of a formula."""
    return convert(upright(latex.strip()), display="block" if display else "inline")


def rendered(page: str) -> str:
    """A page of HTML with its formulas in MathML."""
    return _FOUND.sub(
        lambda found: mathml(html.unescape(found[2]), display=found[1] == "div"), page
    )
