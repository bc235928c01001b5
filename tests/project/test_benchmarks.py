"""How the benchmarks keep their figures, and what they compare."""

import argparse
import dataclasses
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import attrax
from benchmarks import __main__ as command
from benchmarks import (
    comparison,
    efficiency,
    memory,
    networks,
    plots,
    report,
    timing,
    tolerance,
)
from benchmarks import input as at_input
from benchmarks.report import Claim, Record, Table

MACHINE = {"processor": "P", "cores": 2, "threads": 1, "memory_gib": 1.0, "system": "S"}
VERSIONS = dict.fromkeys(("python", *timing.PACKAGES), "1")
ENVIRONMENT = {"backend": "cpu", "date": "D", "load": 0.5} | MACHINE | VERSIONS


def table(name, value, limit=1.0):
    return Table(
        name,
        f"Title of {name}",
        "caption",
        columns=[("what", ""), ("s", ".2f")],
        rows=[["row", value], ["missing", None]],
        claims=[Claim("ratio", value, at_least=limit)],
        raw={"seconds": [value]},
        benchmark="input",
    )


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("", "cpu-1core"),
        ("input", None),
        ("input --into-record", "cpu-1core"),
        ("input:mlp --into-record", "cpu-1core"),
        ("certified", "certified"),
        ("certified:digits", None),
        ("certified:digits --into-record", "certified"),
        ("input certified", None),
    ],
)
def test_where_a_record_goes(line, path):
    names = [word for word in line.split() if word != "--into-record"]
    options = argparse.Namespace(names=names, into_record="--into-record" in line)
    expected = report.RESULTS / path if path else None
    assert command.record(ENVIRONMENT, options) == expected


def test_a_record_is_read_as_it_was_written(tmp_path):
    tables = [table("a", 2.0), table("b", 0.5)]
    report.save(tmp_path / "out", ENVIRONMENT, tables)
    found = report.stored(tmp_path / "out")
    assert found is not None and found.environment == ENVIRONMENT
    assert [report.markdown(t) for t in found.tables] == [report.markdown(t) for t in tables]
    text = (tmp_path / "out.md").read_text("utf-8")
    assert "1 of 2 claims hold." in text and "MISSED" in text and "| missing | - |" in text
    assert report.stored(tmp_path / "none") is None


def test_a_part_takes_the_place_of_its_name_only():
    old = Record(ENVIRONMENT | {"load": 1.5}, [table("a", 2.0), table("b", 3.0)])
    new = Record(ENVIRONMENT | {"load_at_end": 2.0}, [table("b", 4.0), table("c", 5.0)])
    found = report.joined(old, new)
    assert [(t.name, t.rows[0][1]) for t in found.tables] == [("a", 2.0), ("b", 4.0), ("c", 5.0)]
    assert found.environment["load"] == 1.5 and found.environment["load_at_end"] == 2.0


def test_figures_of_two_machines_are_not_put_together():
    old = Record(ENVIRONMENT | {"threads": 2}, [])
    with pytest.raises(ValueError, match=r"made elsewhere: threads 2 and 1\. Name another"):
        report.joined(old, Record(ENVIRONMENT, []))


def test_tables_stand_in_the_order_of_the_benchmarks():
    last = dataclasses.replace(table("x", 1.0), benchmark=command.KNOWN[-1])
    assert [t.name for t in command.in_order([last, table("a", 1.0)])] == ["a", "x"]


@pytest.mark.parametrize(
    ("start", "end", "busy"), [(0.2, 2.2, False), (1.2, 2.2, True), (0.2, 3.2, True)]
)
def test_several_threads_are_disturbed_by_a_load(start, end, busy):
    found = ENVIRONMENT | {"threads": 2, "load": start, "load_at_end": end}
    assert timing.is_busy(found) is busy


def test_a_single_thread_is_disturbed_by_what_takes_its_core(tmp_path):
    timings = {"a": {"median": 1.0, "cpu": 0.8}, "b": {"median": 3.0, "cpu": 2.4}}
    report.save(
        tmp_path / "out", ENVIRONMENT, [dataclasses.replace(table("a", 2.0), raw={"t": timings})]
    )
    found = report.stored(tmp_path / "out")
    assert found is not None and found.environment["share"] == 0.8
    assert timing.is_busy(found.environment) and not timing.is_busy(ENVIRONMENT)
    assert "80.0 % of the time" in " ".join((tmp_path / "out.md").read_text("utf-8").split())


def test_every_benchmark_can_be_run():
    for name in command.KNOWN:
        assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_the_loop_by_hand_computes_what_attrax_does():
    module = nn.Dense(3)
    xs = jax.random.normal(jax.random.key(0), (2, 4))
    variables = module.init(jax.random.key(1), xs[0])
    model = attrax.from_linen(module, variables)
    cubed = attrax.as_model(jax.tree_util.Partial(lambda model, x: model(x) ** 3, model))
    subject = networks.Subject("dense", cubed, {}, xs, jnp.array([2, 0]), nodes=16, layers=())
    ours, hand = (jax.jit(make(subject)) for make in (at_input.by_attrax, at_input.by_hand))
    np.testing.assert_allclose(ours(*subject.args(1)), hand(*subject.args(1)), rtol=1e-5)


def of_a_dense_layer():
    rng = np.random.default_rng(0)
    weights, xs = (jnp.asarray(rng.normal(size=(n, 4)), jnp.float32) for n in (3, 2))
    model = attrax.as_model(jax.tree_util.Partial(jnp.dot, weights))
    return networks.Subject("dense", model, {}, xs, jnp.array([2, 0]), nodes=8, layers=())


def test_a_step_finds_its_arguments_ready():
    """What takes an example out of an array is not timed."""
    subject = of_a_dense_layer()
    examples = list(subject.xs)
    step = comparison.compiled(lambda model, x, _: model(x), subject._replace(xs=examples)).step
    expected = [subject.model(x) for x in subject.xs]
    examples.clear()
    for k in range(3):
        np.testing.assert_allclose(step(k), expected[k % 2], rtol=1e-6)


def test_the_limit_is_that_of_the_best_of_many_batches():
    passes = efficiency.forwards(of_a_dense_layer())
    batches = {f"{rows} alone": rows for rows in (1, 2, 4, 8)}
    loops = dict.fromkeys(("2 in a loop", "4 in a loop"), 8)
    assert {form: found.rows for form, found in passes.items()} == batches | loops
    whole = passes["8 alone"].step(0)
    assert whole.shape == (8, 3) and len(np.unique(whole)) == whole.size
    for found in passes.values():
        np.testing.assert_allclose(found.step(0), whole[: found.rows], rtol=1e-5)


def test_the_fewest_nodes_are_those_that_nearly_all_examples_meet():
    curve = {4: np.full(200, 0.5), 8: np.r_[np.full(199, 0.01), 1.0], 16: np.zeros(200)}
    assert tolerance.fewest(curve, 0.05) == 8  # one of 200 may miss it
    assert tolerance.fewest(curve, 1e-3) == 16
    assert tolerance.fewest({4: np.full(3, 0.5)}, 0.05) is None


def test_errors_are_relative_to_each_example():
    reference = np.array([[1.0, -3.0], [10.0, 0.0]])
    found = reference + np.array([[0.2, 0.2], [0.0, 1.0]])
    np.testing.assert_allclose(tolerance.errors(found, reference), [0.1, 0.1])


def test_memory_needs_no_run():
    found, _ = memory.temporary_memory(lambda x: jnp.sum(jnp.sort(x)), jnp.ones(2**18))
    assert 0.9 < found < 4  # a copy or two of one MiB


# ---------------------------------------------------------------------- the record of this project


@pytest.fixture(scope="module")
def record():
    found = report.stored(report.RESULTS / "cpu-1core")
    assert found is not None
    return found


def test_the_record_holds_every_benchmark_beside_its_peer(record):
    assert {t.benchmark for t in record.tables} == set(command.BENCHMARKS)
    assert record.environment["torch"] and record.environment["captum"]
    assert not timing.is_busy(record.environment)


def test_the_pictures_have_what_the_record_has(record):
    found = plots.comparisons(record.tables)
    labels = {label for rows in found.values() for label, _ in rows}
    assert {"ResNet-18 shape", "EfficientNet-Lite0", "ViT-B/16 shape"} <= labels
    for stem in ("captum", "tolerance"):
        assert (report.RESULTS / f"cpu-1core-{stem}.png").stat().st_size > 20_000


def test_the_page_of_the_record_is_made_of_it(record):
    text = (report.RESULTS / "cpu-1core.md").read_text("utf-8")
    assert report.claims(record.tables) in text
    for found in record.tables:
        assert report.markdown(found) in text
    assert not re.search(r"/work|/tmp", text)
