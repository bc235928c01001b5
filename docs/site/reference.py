"""Which public names there are, and the pages of the reference that hold them.

A page says `[[reference attrax.metrics]]`, or `[[reference attrax _core]]` for the names of
`attrax` that a room defines. The names are grouped by the module that defines them, under the first
line of its docstring. So a new name is in the reference without a word about it here.
Names of a module stand in the order of its source.
`[[reference attrax _methods._cam]]` stands for the names of one module, without a heading: the page
chooses the order, and headings that readers look for. A test finds the module that a page forgets.

Names are read from the source: a folder exports what its `__init__` imports `as` itself, a module
what it defines, or its `__all__`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_MARK = re.compile(r"^\[\[reference (\S+)(?: (\S+))?\]\]$", re.MULTILINE)


class Name(NamedTuple):
    """A public name, and the module that defines it."""

    path: str  # "attrax.cam"
    module: str  # "attrax._methods._cam"


def namespaces() -> list[str]:
    """`attrax`, and the public modules and folders inside of it."""
    package = ROOT / "attrax"
    inside = [entry.stem for entry in package.iterdir() if entry.suffix == ".py" or _is_room(entry)]
    return ["attrax", *(f"attrax.{name}" for name in sorted(inside) if name[0] != "_")]


def public(namespace: str) -> list[Name]:
    """The names that a namespace offers, in the order in which it exports or defines them."""
    file = _file(namespace)
    found = _exports(file, namespace) if file.name == "__init__.py" else _definitions(file)
    names = dict(found)
    listed = _listed(file)
    chosen = [name for name in names if (name in listed if listed else name[0] != "_")]
    return [Name(f"{namespace}.{name}", names[name] or namespace) for name in chosen]


def directives(namespace: str, room: str | None = None) -> str:
    """The names of a namespace, of a room or of a module, as Markdown for mkdocstrings."""
    wanted, place = public(namespace), f"attrax.{room}"
    if room is not None:
        wanted = [name for name in wanted if f"{name.module}.".startswith(f"{place}.")]
    if not wanted:
        raise ValueError(f"`[[reference {namespace} {room}]]` stands for no public name.")
    lines = []
    for module in dict.fromkeys(name.module for name in wanted):
        if module not in (namespace, place):
            lines.append(f"## {_summary(module)}")
        order = list(dict(_definitions(_file(module))))
        names = [name.path for name in wanted if name.module == module]
        names.sort(key=lambda path: order.index(path.rpartition(".")[2]))
        lines += [f"::: {path}" for path in names]
    return "\n\n".join(lines)


def expanded(markdown: str) -> str:
    """A page with its marks replaced by what they stand for."""
    return _MARK.sub(lambda found: directives(found[1], found[2]), markdown)


def _is_room(entry: Path) -> bool:
    return (entry / "__init__.py").exists()


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _summary(module: str) -> str:
    return (ast.get_docstring(_tree(_file(module))) or module).splitlines()[0].rstrip(".")


def _exports(file: Path, package: str) -> Iterator[tuple[str, str]]:
    """What a folder imports `as` itself, unless that is a module, with the module it comes from."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            parts = package.split(".")[: len(package.split(".")) + 1 - node.level]
            for alias in node.names:
                if alias.asname == alias.name:
                    yield alias.name, ".".join([*parts, node.module])


def _definitions(file: Path) -> Iterator[tuple[str, None]]:
    """What a module defines at its top level."""
    for node in _tree(file).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, None
        elif isinstance(node, ast.Assign):
            yield from (
                (target.id, None) for target in node.targets if isinstance(target, ast.Name)
            )
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, None


def _listed(file: Path) -> list[str]:
    """`__all__`, where a module has one."""
    for node in _tree(file).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []
