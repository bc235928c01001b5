"""The order of the modules, what `import attrax` loads, and that the documents are true."""

import ast
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
PROJECT = Path(__file__).parents[1]

# From the bottom up; inside a level from left to right. A module imports only what comes before it.
LEVELS = (
    ("_types",),
    ("_checks", "_taps", "_program"),
    ("_rule", "_kronrod", "_logarithmic", "_composite", "_padded", "quadrature"),
    ("_blur", "_tokenwise", "paths", "scores"),
    ("_names", "_models", "_cuts", "_cpu", "_memory", "_accumulate"),
    ("_gradient", "_integrated", "_influence", "_noise", "_expected", "_conductance"),
    ("_guided", "_important", "_decision", "_cam", "_fullgrad", "_attention"),
    ("_interactions", "_concepts"),
    (
        "metrics",
        "_certified_estimates",
        "_certified_engine",
        "_certified",
        "_channels",
        "_strongest",
        "priors",
    ),
)
# Loaded on first use. They import from any level, and the levels import them inside functions only.
SIDE = ("_linen", "_nnx", "datasets", "html", "plot", "visualise")

ORDER = {name: place for place, name in enumerate(name for level in LEVELS for name in level)}


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
    """The module of attrax that is imported from: `_program` for `attrax._program._sites`."""
    return (*found.module, found.name)[1]


def owner(file: Path) -> str:
    """The module of attrax that a file belongs to."""
    return file.relative_to(ROOT).with_suffix("").parts[0]


FILES = sorted(ROOT.rglob("*.py"))
IMPORTS = [found for file in FILES for found in imports_of(file)]


def test_every_module_has_a_level():
    modules = {owner(file) for file in FILES} - {"__init__"}
    assert modules - {*ORDER, *SIDE} == set(), "add them to LEVELS, and to docs/architecture.md"
    assert {*ORDER, *SIDE} - modules == set(), "these are gone"


def test_imports_point_downward():
    upward = []
    for found in IMPORTS:
        here = owner(found.file)
        if here not in (*ORDER, *SIDE) or found.module[0] != "attrax" or component(found) == here:
            continue
        there = component(found)
        side = there in SIDE and found.deferred
        if not (side or here in SIDE or ORDER.get(there, len(ORDER)) < ORDER[here]):
            upward.append(str(found))
    assert upward == []


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
        owner(file)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "eqns"
    }
    assert looking == {"_program"}


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


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'attrax' has no attribute 'nothing'"):
        attrax.nothing  # noqa: B018


COVERAGE = (PROJECT / "docs" / "coverage.md").read_text(encoding="utf-8")


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
        if f"def {name}(" not in (PROJECT / "tests" / file).read_text(encoding="utf-8")
    }
    missing |= {
        file for file in re.findall(r"examples/\w+\.py", COVERAGE) if not (PROJECT / file).exists()
    }
    assert found
    assert missing == set()


def test_the_method_in_the_architecture_works():
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^ *```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    module = {"__package__": "attrax", "__name__": "attrax._squared"}
    exec(textwrap.dedent(code), module)
    explain, rule = module["squared_gradient"], quadrature.gauss_legendre(2)
    found = explain(lambda x: x @ x, jnp.array([1.0, 3.0]), distributions.linear(), rule=rule)
    assert found.tolist() == pytest.approx([4 / 3, 12.0])
