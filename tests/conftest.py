"""Eight virtual CPU devices, quick compilation, and no silent broadcasting between ranks."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

# Needs PyTorch and Captum: `make parity`.
collect_ignore = ["peers"]

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Quick tests compile more than they compute: what LLVM would make faster runs once.

    Slow tests compute, and so see what users run, and so do the tests of `make compat`.
    """
    if config.option.markexpr != "soak" and "ATTRAX_TESTS_OPTIMISED" not in os.environ:
        os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"


@pytest.fixture
def strict():
    """Strict dtype promotion, around attrax's own kernels on plain functions."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(autouse=True, scope="module")
def _clear():
    """Programs compiled for one file are of no use to the next, and take gigabytes together."""
    yield
    jax.clear_caches()
