"""How docstrings of attrax are read by Griffe, which knows fewer forms than they have.

A section `Example:` is what it calls `Examples:`. In `Returns:` it takes what stands before the
first colon for a type, so the annotation of the function is put there.
"""

import re
from typing import Any

import griffe

_RETURNS = re.compile(r"^Returns:\n( +)(?=\S)", re.MULTILINE)


class Sections(griffe.Extension):
    """Rewrites docstrings before Griffe parses them."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by Griffe for every module, class, function and attribute."""
        if not obj.docstring:
            return
        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        if isinstance(obj, griffe.Function) and obj.returns is not None:
            text = _RETURNS.sub(lambda found: f"Returns:\n{found[1]}{obj.returns}: ", text)
        obj.docstring.value = text
