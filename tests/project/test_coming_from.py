"""Everything in `docs/coming_from.md` runs, and gives what plain JAX gives without attrax."""

import functools
import inspect
import re
from pathlib import Path

import jax
import matplotlib.figure
import numpy as np
import pytest

import attrax
import coming_from
import comparisons
import differences
from coming_from import PLANNED, TABLES, Reference

DOCUMENT_FILE = Path(__file__).parents[2] / "docs" / "coming_from.md"
DOCUMENT = DOCUMENT_FILE.read_text(encoding="utf-8")
ROWS = {
    f"{name}: {row.theirs}": row
    for name, (_, rows) in TABLES.items()
    for row in rows
    if row.ours != PLANNED
}
COMPARED = [name for name, row in ROWS.items() if row.reference]


close = functools.partial(comparisons.close, tolerance=2e-5)


def part(name):
    """What stands between two marks of the document."""
    return DOCUMENT.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def given(arrays):
    """What the tables may use: the models and arrays, and what the document makes of them."""
    (code,) = re.findall(r"```python\n(.*?)```", part("names"), flags=re.DOTALL)
    found = coming_from.modules() | arrays
    exec(compile(code, "coming_from.md", "exec"), found)
    return found


def ours(name, names):
    return eval(compile(ROWS[name].ours, name, "eval"), names)


@pytest.fixture(scope="module")
def values():
    """For every row with a reference: what it gives, and what plain JAX does."""

    # It is compiled once and run once.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def both(arrays):
        names, reference = given(arrays), Reference(coming_from.modules() | arrays)
        return {name: (ours(name, names), ROWS[name].reference(reference)) for name in COMPARED}

    return both(coming_from.arrays())


@pytest.mark.soak
@pytest.mark.parametrize("name", COMPARED)
def test_row(name, values):
    found, expected = values[name]
    if expected is None:
        assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(found))
    elif isinstance(found, attrax.Estimate):
        within(found.value, found.standard_error, expected)
    else:
        jax.tree.map(close, found, expected)


@pytest.mark.parametrize("name", sorted(ROWS.keys() - set(COMPARED)))
def test_row_without_numbers(name):
    if ROWS[name].is_example:
        assert "def main(" in (DOCUMENT_FILE.parents[1] / ROWS[name].ours).read_text("utf-8")
        return
    if "html." in ROWS[name].ours:
        pytest.importorskip("jinja2")
    found = ours(name, given(coming_from.arrays()))
    if isinstance(found, attrax.Layers):
        assert [layer.name for layer in found] == ["early", "late", "logits"]
    elif found is attrax.visualise.render:
        assert {"objective", "parameterisation", "key"} <= inspect.signature(
            found
        ).parameters.keys()
    elif isinstance(found, str):
        words = coming_from.modules()["words"]
        assert re.findall(r"(\w+)\[[+-]\d[^ ]*\]", found) == words
    elif isinstance(found, attrax.html.Page):
        assert found.html.startswith("<!doctype html>") and found.html.endswith("</html>")
    elif isinstance(found, attrax.Model):
        assert found(coming_from.arrays()["x"]).shape == (3,)
    else:
        assert isinstance(found.get_figure(root=True), matplotlib.figure.Figure)
        assert found.images or found.child_axes


def within(value, error, expected):
    assert value.shape == error.shape == np.shape(expected)
    assert (np.abs(value - expected) <= 6 * error + 1e-6).all()
    assert np.mean(error) < np.mean(np.abs(expected))


@pytest.mark.parametrize("name", TABLES)
def test_the_document_holds_the_tables(name):
    assert part(name) == coming_from.markdown(name)


def test_the_document_holds_the_differences():
    assert part("differences") == differences.markdown()


def test_what_was_measured_is_within_its_tolerance():
    lines = [line.split("|")[1:-1] for line in part("measured").splitlines() if line[:2] == "| "]
    rows = [[cell.strip() for cell in line] for line in lines[1:]]
    assert len(rows) > 30
    for name, models, examples, difference, tolerance in rows:
        assert int(examples) >= int(models) > 0
        if tolerance != "none":
            unit = " s.e." if tolerance.endswith(" s.e.") else ""
            assert float(difference.removesuffix(unit)) <= float(tolerance.removesuffix(unit)), name


def test_one_name_stands_for_each_class_of_captum():
    """All gradient, layer, neuron and noise methods of Captum 0.9 have a row."""
    rows = [row for name in TABLES if name.startswith("captum") for row in TABLES[name][1]]
    named = {word for row in rows for word in re.findall(r"\w+", row.theirs)}
    assert named >= {
        *("Saliency", "InputXGradient", "IntegratedGradients", "NoiseTunnel", "GradientShap"),
        *("LayerActivation", "LayerGradientXActivation", "LayerGradCam", "InternalInfluence"),
        *("LayerConductance", "LayerIntegratedGradients", "LayerGradientShap"),
        *("LayerDeepLift", "LayerDeepLiftShap", "LayerLRP", "LayerFeatureAblation"),
        *("LayerFeaturePermutation", "NeuronGradient", "NeuronIntegratedGradients"),
        *("NeuronConductance", "NeuronGradientShap", "NeuronDeepLift", "NeuronDeepLiftShap"),
        *(
            "NeuronGuidedBackprop",
            "NeuronDeconvolution",
            "NeuronFeatureAblation",
            "DeepLift",
            "DeepLiftShap",
            "LRP",
        ),
        *("GuidedBackprop", "Deconvolution", "GuidedGradCam", "FeatureAblation", "Occlusion"),
        *("FeaturePermutation", "ShapleyValueSampling", "ShapleyValues", "Lime", "KernelShap"),
        *("infidelity", "sensitivity_max", "TCAV", "visualize_timeseries_attr", "visualize_text"),
        *("LLMAttribution", "LLMGradientAttribution"),
    }
