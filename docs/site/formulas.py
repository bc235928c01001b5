"""Formulas in LaTeX as MathML, which browsers draw without a script and without a font of ours."""

import html
import re

from latex2mathml.converter import convert

# What `pymdownx.arithmatex` leaves for a script to find.
_FOUND = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
# A name of two letters or more, and not a command, nor text in the braces of one.
_NAME = re.compile(r"\\(?:text|mathrm|mathbb)\{[^}]*\}|\\[A-Za-z]+|[A-Za-z]{2,}")

# Where a condition begins; mind that `\text{, which is }` does not.
_CONDITION = re.compile(r"\\text\{ ?(?:with|where|for|from) ")


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


def parts(latex: str) -> list[str]:
    r"""A formula and its conditions, which may stand on lines of their own where space is short.

    A condition begins with words such as `\text{ with }` outside of every bracket.

    >>> parts(r"\sum_k w_k p_k \text{ with } p = \max(x \text{ where } x > 0)")
    ['\\sum_k w_k p_k', '\\text{ with } p = \\max(x \\text{ where } x > 0)']
    """
    starts = [0]
    for found in _CONDITION.finditer(latex):
        before = latex[: found.start()]
        if all(before.count(left) == before.count(right) for left, right in ("{}", "()")):
            starts.append(found.start())
    ends = [*starts[1:], len(latex)]
    return [
        part for pair in zip(starts, ends, strict=True) if (part := latex[slice(*pair)].strip())
    ]


def rendered(page: str) -> str:
    """A page of HTML with its formulas in MathML."""
    return _FOUND.sub(_drawn, page)


def _drawn(found: re.Match[str]) -> str:
    latex = html.unescape(found[2])
    if found[1] == "span":
        return mathml(latex, display=False)
    drawn = "".join(mathml(part, display=True) for part in parts(latex))
    return f'<div class="formula">{drawn}</div>'
