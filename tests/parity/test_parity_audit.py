"""Every case of the data files is taken by a test, and every difference is of a case."""

import json
import runpy
from pathlib import Path

import pytest

from differences import DIFFERENCES
from parity_models import identity

TESTS = Path(__file__).parents[1]
# Masks, normalisations and the colours of tokens are pictures.
PICTURES = ["plot/test_plot.py", "plot/test_plot_normalisation.py", "plot/test_tokens.py"]
FILES = [*sorted(TESTS.glob("parity/test_parity_*.py")), *map(TESTS.joinpath, PICTURES)]

# All that was recorded of Lucid's visualisation, and of TruLens' visualisers.
LUCID = {
    *("image_8x8_dec1_fft1_alpha0", "image_7x6_dec1_fft1_alpha0", "image_6x7_dec1_fft1_alpha0"),
    *("image_8x8_dec0_fft1_alpha0", "image_8x8_dec1_fft0_alpha0", "rfft2d_freqs_4x5"),
    *("objectives", "combine", "redirected_relu_grad", "transforms", "standard_transforms_shapes"),
}
TRULENS = {
    *("mask.b1.0_t0.8_o0.2_cFalse", "mask.b1.0_t0.9_o0.0_cTrue", "html.colors"),
    *("norm.magnitude_max", "norm.magnitude_sum", "norm.signed_max", "norm.signed_sum"),
    *("norm.01", "norm.unsigned_max_positive_centered"),
}


def recorded():
    """The names of all cases that peers have computed."""
    for path in (TESTS / "data").glob("*.json"):
        file = json.loads(path.read_text())
        yield from map(identity, file["cases"] + file.get("quadrature", []))


def collected():
    """What tests are run for, by their own parameters."""
    for names in (runpy.run_path(str(file)) for file in FILES if file != Path(__file__)):
        for name, test in names.items():
            if not name.startswith("test_"):
                continue
            for mark in getattr(test, "pytestmark", []):
                if mark.name == "parametrize":
                    yield from (v if isinstance(v, str) else _name(v) for v in mark.args[1])


def _name(value):
    return identity(value) if isinstance(value, dict) else None


def test_every_case_is_taken_by_a_test():
    names = list(recorded())
    assert len(names) == len(set(names)), "two cases of one name"
    assert set(names) - set(collected()) == set()


def test_every_case_of_visualisation_is_here():
    named = {name for name in recorded() if name.split(".")[0] in ("mask", "norm", "html")}
    assert named == TRULENS
    file = json.loads((TESTS / "data" / "lucid_visualisation.json").read_text())
    assert set(map(identity, file["cases"])) == LUCID


def test_every_difference_is_of_a_case():
    assert set(DIFFERENCES) - set(recorded()) == set()


def test_a_case_that_is_not_in_the_file_is_an_error():
    import parity_models

    with pytest.raises(AssertionError, match=r"captum_cam.json has no case \{'nothing'\}"):
        parity_models.cases("captum_cam.json", "nothing")
