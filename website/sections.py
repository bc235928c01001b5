"""How docstrings of attrax are read: a section `Example:` is what Griffe calls `Examples:`."""

import re
from typing import Any

import griffe


class Sections(griffe.Extension):
    """Renames the sections that Griffe does not know, before it parses them."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by Griffe for every module, class, function and attribute."""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
