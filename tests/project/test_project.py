"""The order of the modules, what `import attrax` loads, and that the documents are true."""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import pytest

import attrax
from attrax import distributions, quadrature

ROOT = Path(attrax.__file__).parent
PROJECT = Path(__file__).parents[2]

# The floors of the house, from the ground up; on a floor from left to right. A room is a folder or
# a module of `attrax`, and imports only from rooms that stand before it.
FLOORS = (
    ("_core", "text", "_show"),
    ("quadrature", "paths", "distributions", "scores", "_models"),
    ("_methods", "concepts", "priors"),
    ("metrics", "plot", "html", "_cpu", "datasets", "visualise"),
)
# Loaded on first use.
LAZY = ("datasets", "html", "plot", "visualise")

ORDER = {name: place for place, name in enumerate(name for floor in FLOORS for name in floor)}
FLAT = 8  # modules that may lie beside the folders


class Import(NamedTuple):
    """One imported name: where it stands, and what it is called."""

    file: Path
    line: int
    module: tuple[str, ...]  # ("jax", "numpy"), or ("attrax", "paths") for a relative import
    name: str
    deferred: bool  # inside a function

    def __str__(self):
        return f"{self.file.relative_to(ROOT.parent)}:{self.line}: {'.'.join(self.module)}"


def imports_of(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    deferred = {id(node) for function in functions for node in ast.walk(function)}
    package = ("attrax", *file.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = tuple(alias.name.split("."))
                yield Import(file, node.lineno, module, "", id(node) in deferred)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            for alias in node.names:
                yield Import(file, node.lineno, module, alias.name, id(node) in deferred)


def component(found: Import) -> str:
    """The room that is imported from: `_models` for `attrax._models._cuts`."""
    return (*found.module, found.name)[1]


def owner(file: Path) -> str:
    """The room that a file belongs to."""
    return file.relative_to(ROOT).with_suffix("").parts[0]


FILES = sorted(ROOT.rglob("*.py"))
IMPORTS = [found for file in FILES for found in imports_of(file)]


def test_every_room_has_a_floor():
    rooms = {owner(file) for file in FILES} - {"__init__"}
    assert rooms - ORDER.keys() == set(), "add them to FLOORS, and to docs/makers/architecture.md"
    assert ORDER.keys() - rooms == set(), "these are gone"


def test_few_modules_lie_flat():
    flat = [file.stem for file in ROOT.glob("*.py") if file.stem != "__init__"]
    assert len(flat) <= FLAT, flat


def test_imports_point_downward():
    upward = []
    for found in IMPORTS:
        here = owner(found.file)
        if here == "__init__" or found.module[0] != "attrax" or component(found) == here:
            continue
        if ORDER.get(component(found), len(ORDER)) >= ORDER[here]:
            upward.append(str(found))
    assert upward == []


def module_of(file: Path) -> tuple[str, ...]:
    parts = ("attrax", *file.relative_to(ROOT).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def test_no_module_imports_itself_through_others():
    modules = {module_of(file) for file in FILES}
    imports = {
        module_of(file): {
            name if (name := (*found.module, found.name)) in modules else found.module
            for found in IMPORTS
            if found.file == file and found.module[0] == "attrax" and not found.deferred
        }
        for file in FILES
    }
    # Put aside, again and again, what imports nothing that is left: a circle never goes.
    while free := [module for module, targets in imports.items() if not targets & imports.keys()]:
        for module in free:
            del imports[module]
    assert imports == {}


def test_the_package_only_re_exports():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert all(len(node.names) == 1 for node in imports)
    assert all(node.names[0].asname == node.names[0].name for node in imports)


def test_no_private_module_of_another_package_is_imported():
    private = [
        str(found)
        for found in IMPORTS
        if found.module[0] not in ("attrax", "__future__")
        and any(part.startswith("_") for part in (*found.module, found.name))
    ]
    assert private == []


def test_only_program_looks_inside_equations():
    looking = {
        file.relative_to(ROOT).parent.as_posix()
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "eqns"
    }
    assert looking == {"_models/_program"}


# Packages that only some users need, and those that take long to load.
HEAVY = (
    "flax",
    "optax",
    "matplotlib",
    "jinja2",
    "rich",
    "PIL",
    "skimage",
    "sklearn",
    "tensorstore",
)


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_import_loads_only_what_jax_loads():
    assert loaded_by("import attrax").isdisjoint(HEAVY)


def test_the_rest_is_loaded_on_first_use():
    loaded = loaded_by("import attrax\nattrax.from_linen, attrax.from_nnx, attrax.plot")
    assert loaded >= {"flax", "matplotlib"}


def test_pages_are_made_without_matplotlib():
    loaded = loaded_by("import attrax.html\nattrax.html.plain_tokens")
    assert loaded.isdisjoint({"matplotlib", "flax", "optax", "tensorstore", "scipy"})


NAMESPACES = (
    *("scores", "distributions", "concepts", "priors", "text", "quadrature", "paths", "metrics"),
    *LAZY,
)


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_shows_its_own_names(name):
    module = getattr(attrax, name)
    shown = dir(module)
    assert shown == sorted(set(shown)) and shown
    for each in shown:
        found = getattr(module, each)
        assert not each.startswith("_")
        assert not inspect.ismodule(found), each
        # Constants and aliases of types do not know where they come from.
        if inspect.isfunction(found) or inspect.isclass(found):
            assert found.__module__.startswith(module.__name__) or each in SHARED, each
    own = {
        each
        for each, found in vars(module).items()
        if getattr(found, "__module__", "") == module.__name__ and not each.startswith("_")
    }
    assert own <= set(shown), "add them to `__all__`"


# Of `_show`, which plots and pages share.
SHARED = ("mask_array", "saliency_array")


def test_every_namespace_is_here():
    public = {name for name in dir(attrax) if inspect.ismodule(getattr(attrax, name))}
    assert public == set(NAMESPACES)
    assert not [n for n in dir(attrax) if n.startswith("_") and n != "__version__"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'attrax' has no attribute 'nothing'"):
        attrax.nothing  # noqa: B018


TESTS = {file.name: file for file in (PROJECT / "tests").rglob("test_*.py")}
COVERAGE = (PROJECT / "docs" / "makers" / "coverage.md").read_text(encoding="utf-8")


def test_every_capability_has_a_row():
    rows = re.findall(
        r"^\| (S\d-\d+) \|.*\| (here|in part|differs|planned) \|", COVERAGE, re.MULTILINE
    )
    numbers = {"S0": 20, "S1": 10, "S2": 25, "S3": 12, "S4": 26}
    assert [row for row, _ in rows] == [
        f"{document}-{i + 1}" for document, count in numbers.items() for i in range(count)
    ]


def test_what_shows_a_capability_exists():
    found = re.findall(r"(test_\w+\.py)::(\w+)", COVERAGE)
    missing = {
        f"{file}::{name}"
        for file, name in found
        if f"def {name}(" not in TESTS[file].read_text(encoding="utf-8")
    }
    missing |= {
        file for file in re.findall(r"examples/\w+\.py", COVERAGE) if not (PROJECT / file).exists()
    }
    assert found
    assert missing == set()


def test_the_method_in_the_architecture_works():
    text = (PROJECT / "docs" / "makers" / "architecture.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^ *```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    module = {"__package__": "attrax._methods", "__name__": "attrax._methods._squared"}
    exec(textwrap.dedent(code), module)
    explain, rule = module["squared_gradient"], quadrature.gauss_legendre(2)
    found = explain(lambda x: x @ x, jnp.array([1.0, 3.0]), distributions.linear(), rule=rule)
    assert found.tolist() == pytest.approx([4 / 3, 12.0])
