"""`examples/plots.py`: what its networks learn, where they look, and its picture."""

import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")
import plots

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def explained():
    return plots.distances()


def test_distances_are_read(explained):
    off = np.abs(explained.predicted - explained.records.distances)
    assert off.mean() < 4.0  # of 20 to 80 km


def test_the_network_looks_at_the_waves(explained):
    records, found = explained.records, np.abs(explained.attributions)
    times = np.arange(found.shape[1])[None] / plots.RATE
    since_p = times - records.p_times[:, None]
    since_s = times - records.s_times[:, None]
    waves = ((since_p >= 0) & (since_p < 2)) | ((since_s >= 0) & (since_s < 4))
    shares = (found.sum(axis=2) * waves).sum(axis=1) / found.sum(axis=(1, 2))
    assert waves.mean() < 0.31
    assert np.median(shares) > 0.6


def test_the_diabetes_network_is_better_than_the_mean():
    patients = plots.diabetes()
    assert patients.error < 0.85 * patients.spread
    mean = np.abs(patients.attributions).mean(axis=0)
    assert {patients.names[i] for i in np.argsort(-mean)[:4]} >= {"body mass index"}


def test_integrated_gradients_rank_better_than_chance_and_rules_converge():
    data = plots.digits()
    assert data.accuracy > 0.95
    curves = plots.insertion_curves(data)
    areas = {name: np.trapezoid(curve, axis=1) for name, curve in curves.items()}
    assert (areas["integrated gradients"] > areas["random"]).mean() > 0.9
    runs = plots.convergences(data)
    for run in runs.values():
        assert run.error[-1] < run.error[0] / 8
        # Errors of opposite sign cancel in the gap; never the other way round.
        assert (np.asarray(run.gap) <= np.asarray(run.error) + 1e-12).all()
    assert runs["Gauss-Legendre"].error[-1] < 1e-6 < runs["left Riemann sum"].error[-1]


def test_main(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plots.main()
    printed = capsys.readouterr().out
    assert "earthquakes: predicted to" in printed
    assert (tmp_path / "out" / "plots.png").stat().st_size > 50_000


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        plots.digits()
