"""What a public namespace shows of itself."""

import sys
from collections.abc import Callable


def shown(module: str) -> Callable[[], list[str]]:
    """The `__dir__` of a module: the names it offers, and not those that it works with.

    A module that imports what it works with says in `__all__` what it offers. A folder that only
    re-exports offers all names without a leading underscore.

    Example:
        >>> import attrax
        >>> dir(attrax.paths)
        ['blur', 'interpolate', 'polyline', 'straight', 'tokenwise']
    """

    def names() -> list[str]:
        namespace = vars(sys.modules[module])
        offered = namespace.get("__all__") or [n for n in namespace if not n.startswith("_")]
        return sorted(offered)

    return names
