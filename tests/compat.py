"""Runs the tests on the oldest and the newest supported versions of Python and JAX.

    python tests/compat.py [arguments of pytest]

- lowest: Python 3.11 with the lower bounds that pyproject.toml declares;
- newest: Python 3.12 with the newest releases of everything.

Interpreters are looked for on PATH and among those of pyenv. A suite whose interpreter is not
found is skipped, and said to be.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUITES = {"lowest": "3.11", "newest": "3.12"}


def interpreters(version: str) -> Iterator[str]:
    """What may be Python `version`."""
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from map(str, sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True))


def find(version: str) -> str | None:
    """A Python of `version` that runs: a shim may point to nothing."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    for python in interpreters(version):
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return python
    return None


def lower_bounds() -> list[str]:
    """The declared lower bounds as pins: `jax>=0.10` is `jax==0.10`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line.replace(">=", "==") for line in project["dependencies"] if ">=" in line]


def install(suite: str, interpreter: str) -> str:
    """Make or update the environment of a suite; return its Python."""
    environment = ROOT / f".venv-{suite}"
    python = str(environment / "bin" / "python")
    subprocess.run([interpreter, "-m", "venv", "--clear", environment], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pins = lower_bounds() if suite == "lowest" else []
    subprocess.run([*pip, *pins, "--editable", f"{ROOT}[dev]"], check=True)
    subprocess.run([*pip, "--no-deps", "-r", ROOT / "tests" / "photographs.txt"], check=True)
    return python


def versions(python: str) -> str:
    """What a suite runs on, such as "Python 3.11.7, jax 0.10.0, flax 0.12.6"."""
    code = (
        "from importlib.metadata import version; import platform;"
        "print('Python', platform.python_version(), end='');"
        "[print(f', {name} {version(name)}', end='') for name in ('jax', 'flax', 'numpy')]"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout


def main(arguments: list[str]) -> int:
    results, statuses = {}, []
    for suite, version in SUITES.items():
        interpreter = find(version)
        if interpreter is None:
            results[suite] = f"SKIPPED, no Python {version} on PATH or in ~/.pyenv/versions"
            continue
        print(f"\n== {suite}: {interpreter}", flush=True)
        python = install(suite, interpreter)
        print(versions(python), flush=True)
        command = [python, "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments]
        env = os.environ | {"ATTRAX_TESTS_OPTIMISED": "1"}  # what users run: tests/conftest.py
        status = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        outcome = "passed" if status == 0 else f"FAILED, pytest ended with {status}"
        results[suite] = f"{outcome} ({versions(python)})"
        statuses.append(status)
    print()
    for suite, result in results.items():
        print(f"{suite}: {result}")
    return int(not statuses or any(statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
