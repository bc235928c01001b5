"""What is released: the wheel, installed alone in an environment of its own, is all of attrax."""

import os
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

import attrax
import reference

pytestmark = pytest.mark.soak
PROJECT = Path(__file__).parents[2]
DOCTESTS = ("attrax.scores", "attrax.quadrature", "attrax.paths", "attrax.distributions")


class Release(NamedTuple):
    """The two archives, and the Python that has the wheel."""

    sdist: Path
    wheel: Path
    python: Path


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The wheel is made of the sdist, and installed beside what attrax needs, and nothing else."""
    folder = tmp_path_factory.mktemp("release")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, PROJECT]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", wheel], check=True, timeout=120)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Behind the wheel stand the packages of this environment. Its own `.pth` files are not read
    # there, so that the attrax of this checkout cannot be found.
    (packages / "dependencies.pth").write_text(f"{Path(jax.__file__).parents[1]}\n")
    return Release(sdist, wheel, python)


def run(release, code):
    """What a program prints, run far from the checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [release.python, "-c", textwrap.dedent(code)],
        cwd=release.wheel.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_archives_hold_what_they_should(release):
    version = attrax.__version__
    with zipfile.ZipFile(release.wheel) as archive:
        names = set(archive.namelist())
    assert {"attrax/py.typed", "attrax/html/templates/page.css"} <= names
    assert {name.partition("/")[0] for name in names} == {"attrax", f"attrax-{version}.dist-info"}
    with tarfile.open(release.sdist) as archive:
        roots = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"attrax", "tests", "docs", "examples", "README.md", "LICENSE", "Makefile"} <= roots


def test_every_public_name_is_there(release):
    names = [name.path for space in reference.namespaces() for name in reference.public(space)]
    assert len(names) > 200
    code = f"""
    import importlib, pathlib, sys
    import attrax
    assert sys.prefix in attrax.__file__, attrax.__file__
    for path in {names!r}:
        namespace, _, name = path.rpartition(".")
        getattr(importlib.import_module(namespace), name)
    print(attrax.__version__)
    """
    assert run(release, code).strip() == attrax.__version__


def test_its_examples_run(release):
    homes = {name.module for space in DOCTESTS for name in reference.public(space)}
    code = f"""
    import doctest, importlib
    found = [doctest.testmod(importlib.import_module(name)) for name in {sorted(homes)!r}]
    print(sum(f.failed for f in found), sum(f.attempted for f in found) > 50)
    """
    assert run(release, code).strip() == "0 True"


PROGRAM = """
import jax
import jax.numpy as jnp

import attrax
from attrax import quadrature, scores


def explain(model: attrax.Model, x: jax.Array, y: int) -> jax.Array:
    z, tail = attrax.cut(model, x, at="hidden")
    rule = quadrature.gauss_legendre({nodes})
    return attrax.integrated_gradients(lambda z: scores.logit(y)(tail(z)), z, rule=rule)


model = attrax.as_model(lambda x: attrax.tap("hidden", 2 * x) ** 2)
print(attrax.rank_channels(attrax.channels(explain(model, jnp.ones((2, 3)), 1)), k=1))
"""


@pytest.mark.parametrize(("nodes", "errors"), [("4", 0), ('"four"', 1)])
def test_a_program_of_a_user_is_checked_with_its_types(release, nodes, errors):
    program = release.wheel.parent / "program.py"
    program.write_text(PROGRAM.format(nodes=nodes))
    pyright = [sys.executable, "-m", "pyright", "--pythonpath", release.python, program.name]
    done = subprocess.run(
        pyright, cwd=program.parent, capture_output=True, text=True, timeout=300, check=False
    )
    assert f"{errors} error" in done.stdout, done.stdout
