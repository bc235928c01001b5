"""Attributions of a dataset on disk: their order, resuming, refusals, examples that go wrong."""

import functools
import importlib
import logging
import resource
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import attrax
import comparisons
from attrax import datasets
from attrax.datasets._prefetch import prefetched

_RNG = np.random.default_rng(5)
MODEL = jnp.asarray(_RNG.normal(size=(6, 4)), "float32")
XS = _RNG.normal(size=(11, 6)).astype("float32")
YS = np.arange(11) % 4


close = functools.partial(comparisons.close, tolerance=1e-6)


def method(model, x, y):
    return attrax.gradient_times_input(lambda x: jnp.tanh(x @ model)[y], x)


def noisy(model, x, y, key):
    return method(model, x + jax.random.normal(key, x.shape), y)


EXPECTED = np.asarray(jax.jit(jax.vmap(method, (None, 0, 0)))(MODEL, XS, YS))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results.zarr"


def run(store, batches=None, *, method=method, model=MODEL, **options):
    batches = datasets.batches((XS, YS), 4) if batches is None else batches
    return datasets.explain(each(method), model, batches, store=store, **options)


def each(method):
    """A method of one example, mapped over the examples of a batch."""

    def mapped(model, *inputs, **keys):
        axes = (None, *[0] * len(inputs))
        return jax.vmap(method, in_axes=axes)(model, *inputs, **keys)

    return mapped


def contents(store):
    """Every file of a store."""
    files = (file for file in store.rglob("*") if file.is_file())
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def value(results, name="value"):
    return results[name][:]


def test_results_in_the_order_of_the_examples(store):
    batches = datasets.batches((XS, YS), 4, beside={"label": YS, "weight": XS[:, 0]})
    results = run(store, batches, metadata={"classes": ["a", "b", "c", "d"]})
    close(value(results), EXPECTED)
    np.testing.assert_array_equal(value(results, "label"), YS)
    np.testing.assert_array_equal(value(results, "weight"), XS[:, 0])
    assert (np.asarray(results.status) == 1).all()
    assert len(results) == 11 and results.complete
    assert results.not_finite == [] and results.unreadable == {}
    assert results.metadata == {"classes": ["a", "b", "c", "d"]}
    # Read by anything that reads Zarr, one chunk for each batch.
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store / "value")}}
    array = tensorstore.open(spec, open=True).result()
    np.testing.assert_array_equal(array[7].read().result(), value(results)[7])
    assert array.chunk_layout.write_chunk.shape == (4, 6)
    assert sorted(contents(store / "value" / "c")) == ["0/0", "1/0", "2/0"]


def generator():
    for start in range(0, 11, 4):
        yield XS[start : start + 4], YS[start : start + 4]


@pytest.mark.parametrize(
    ("batches", "taken"),
    [
        (generator, method),
        (lambda: [list(map(jnp.asarray, batch)) for batch in generator()], method),
        (lambda: (datasets.Batch(batch, {"n": batch[1]}) for batch in generator()), method),
        (
            lambda: [{"image": x, "label": y} for x, y in generator()],
            lambda model, batch: method(model, batch["image"], batch["label"]),
        ),
        (
            lambda: datasets.batches({"image": XS, "label": list(YS)}, 4),
            lambda model, batch: method(model, batch["image"], batch["label"]),
        ),
        (lambda: datasets.batches(list(zip(XS, YS, strict=True)), 4), method),
    ],
    ids=["generator", "lists", "Batch", "dicts", "dict", "tuples"],
)
def test_any_iterable_of_batches(store, batches, taken):
    close(value(run(store, batches(), method=taken)), EXPECTED)


def test_trees_become_several_arrays(store):
    def tree(model, x):
        half = {"b": x.astype(jnp.bfloat16), "of": (x > 0, jnp.argmax(x))}
        return {"a": attrax.Estimate(x, 2 * x), "half": half}

    results = run(store, datasets.batches(XS, 4), method=tree)
    assert sorted(results.arrays) == [
        "a/standard_error",
        "a/value",
        "half/b",
        "half/of/0",
        "half/of/1",
    ]
    np.testing.assert_array_equal(value(results, "a/standard_error"), 2 * XS)
    np.testing.assert_array_equal(value(results, "half/of/0"), XS > 0)
    np.testing.assert_array_equal(value(results, "half/of/1"), XS.argmax(1))
    assert value(results, "half/b").dtype == jnp.bfloat16


def test_a_method_of_a_whole_batch(store):
    def certified(model, xs, ys):
        fn = lambda x, y: jnp.tanh(x @ model)[y]  # noqa: E731
        return attrax.certified_integrated_gradients(fn, xs, ys, tolerance=1e-2, max_evaluations=17)

    batches = datasets.batches((XS, YS), 4)
    results = datasets.explain(certified, MODEL, batches, store=store)
    assert sorted(results.arrays) == sorted(attrax.Certified._fields)
    expected = jax.vmap(
        lambda x, y: attrax.integrated_gradients(lambda x: jnp.tanh(x @ MODEL)[y], x)
    )(XS, YS)
    assert value(results, "converged").all()
    error = np.abs(value(results) - expected).sum(1) / np.abs(expected).sum(1)
    assert error.max() < 1e-2


def test_keys_depend_on_the_index_of_the_example_only(tmp_path):
    key = jax.random.key(3)
    four = run(tmp_path / "a", method=noisy, key=key)
    five = run(tmp_path / "b", datasets.batches((XS, YS), 5), method=noisy, key=key)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(11))
    expected = jax.jit(jax.vmap(noisy, (None, 0, 0, 0)))(MODEL, XS, YS, keys)
    for results in (four, five):
        close(value(results), expected)


def test_one_compilation(tmp_path, caplog):
    run(tmp_path / "a")  # also of what is compiled besides
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run(tmp_path / "b")
    compiled = [r.message for r in caplog.records if "Finished XLA compilation" in r.message]
    assert len(compiled) == 1, compiled
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run(tmp_path / "b")
    assert not [r for r in caplog.records if "Finished XLA compilation" in r.message]


@pytest.mark.parametrize("make", [Mesh, jax.make_mesh], ids=["Mesh", "make_mesh"])
def test_examples_sharded_over_devices(store, make):
    devices = np.array(jax.local_devices())
    mesh = Mesh(devices, "examples") if make is Mesh else jax.make_mesh((8,), ("examples",))
    sharding = NamedSharding(mesh, PartitionSpec("examples"))
    results = run(store, datasets.batches((XS, YS), 8), sharding=sharding)
    close(value(results), EXPECTED)
    # What is committed to one of them is copied to all.
    one = jax.local_devices()[0]
    model, key = jax.device_put((MODEL, jax.random.key(3)), one)
    parts = {"method": noisy, "model": model, "key": key}
    run(store.with_name("one"), datasets.batches((XS, YS), 8), **parts)
    many = run(store.with_name("many"), datasets.batches((XS, YS), 8), sharding=sharding, **parts)
    close(value(many), value(datasets.open(store.with_name("one"))))


def test_progress(store, capsys):
    run(store, progress=True)
    shown = capsys.readouterr().out
    assert "explaining" in shown and "11/11" in shown and "examples/s" in shown
    run(store, iter(list(generator())), progress=True)
    assert "0/0" in capsys.readouterr().out  # nothing is left to do


def test_a_result_that_is_not_finite_is_reported(store):
    xs = np.abs(XS) + 1
    expected = xs / np.linalg.norm(xs, axis=1, keepdims=True)
    xs[5] = 0
    explain = lambda model, x: attrax.gradient(lambda x: jnp.sqrt(x @ x), x)  # noqa: E731
    results = run(store, datasets.batches(xs, 4), method=explain)
    assert results.not_finite == [5]
    assert np.isnan(value(results)[5]).all()
    others = np.arange(11) != 5
    close(value(results)[others], expected[others])
    assert results.complete


class Reader:
    """Examples of which some cannot be read."""

    def __init__(self, broken=(), torn=()):
        self.broken, self.torn = broken, torn

    def __len__(self):
        return 11

    def __getitem__(self, i):
        if i in self.broken:
            raise OSError(f"no picture {i}")
        return XS[i, : 3 if i in self.torn else 6], YS[i]


def test_an_unreadable_example_is_reported_and_read_again_later(tmp_path, store):
    clean = run(tmp_path / "clean", datasets.batches(Reader(), 4))
    broken = datasets.batches(Reader({0, 4, 5, 6, 7}, {9}), 4)
    results = run(store, broken)
    assert results.complete
    assert sorted(results.unreadable) == [0, 4, 5, 6, 7, 9]
    assert results.unreadable[4] == "OSError: no picture 4"
    assert (
        "must be like the first" in results.unreadable[9] and "float32[3]" in results.unreadable[9]
    )
    read = [1, 2, 3, 8, 10]
    np.testing.assert_array_equal(value(results)[read], value(clean)[read])
    assert np.isnan(np.delete(value(results), read, axis=0)).all()
    # Now two can be read, but not one that could be: what is known of that batch stays.
    results = run(store, datasets.batches(Reader({1, 4, 5, 6, 7}), 4))
    assert sorted(results.unreadable) == [0, 4, 5, 6, 7]
    results = run(store, datasets.batches(Reader(), 4), verify=False)
    assert results.unreadable == {}
    assert contents(store) == contents(tmp_path / "clean")


def test_a_batch_that_was_not_finished_has_no_reasons(store):
    """As after a kill between its chunks and its marker."""
    run(store, datasets.batches(Reader({0, 5}), 4))
    (store / "_batches" / "1.json").unlink()
    results = datasets.open(store)
    assert list(results.unreadable) == [0] and not results.complete
    run(store, datasets.batches(Reader({0, 5}), 4))
    assert list(datasets.open(store).unreadable) == [0, 5]


def test_rows_that_an_iterable_could_not_read(store):
    batches = [datasets.Batch(batch) for batch in generator()]
    batches[1] = datasets.Batch((XS[:4], YS[:4]), unreadable={2: "torn"})
    results = run(store, batches)
    assert results.unreadable == {6: "torn"}
    close(value(results)[[4, 5, 7]], EXPECTED[[0, 1, 3]])


def test_no_example_can_be_read(store):
    with pytest.raises(ValueError, match="none of 11 can") as caught:
        run(store, datasets.batches(Reader(range(11)), 4))
    assert "no picture 0" in str(caught.value.__cause__)
    assert not store.exists()


@pytest.mark.parametrize("prefetch", [0, 3])
def test_an_iterator_that_raises_is_resumed(tmp_path, store, prefetch):
    def falls():
        batches = generator()
        yield next(batches)
        yield next(batches)
        raise RuntimeError("the disk fell out")

    with pytest.raises(RuntimeError, match="the disk fell out") as caught:
        run(store, falls(), prefetch=prefetch)
    assert "the same call goes on" in caught.value.__notes__[0]
    results = datasets.open(store)
    assert not results.complete and len(results) == 8
    close(value(results), EXPECTED[:8])
    before = {file: file.stat().st_mtime_ns for file in (store / "value" / "c").rglob("0")}
    run(store, generator(), prefetch=prefetch)
    run(tmp_path / "clean")
    assert contents(store) == contents(tmp_path / "clean")
    assert all(file.stat().st_mtime_ns == time for file, time in before.items() if file.is_file())


def test_a_batch_without_marker_is_explained_again(tmp_path, store):
    run(store)
    whole = contents(store)
    for name in ("1.json", "end.json"):
        (store / "_batches" / name).unlink()
    for torn in (
        store / "value/c/1/0",
        store / "_batches/1.json.new",
        store / "value/c/1/0.__lock",
    ):
        torn.write_bytes(b"torn")
    (tmp_path / ".results.zarr.new0").mkdir()
    assert not datasets.open(store).complete
    run(store)
    assert contents(store) == whole


def test_finished_batches_of_a_sequence_need_not_be_read(store):
    class Counted(list):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    read = []
    run(store, Counted(generator()))
    assert read == [0, 1, 2]
    run(store, Counted(generator()))
    assert read == [0, 1, 2] * 2
    run(store, Counted(generator()), verify=False)
    assert read == [0, 1, 2] * 2 + [0]


def test_reading_ahead_is_bounded_and_ends():
    taken = []

    def numbers():
        for i in range(100):
            taken.append(i)
            yield i

    ahead = prefetched(numbers(), 3)
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()
    assert len(taken) <= 2 + 3 + 1
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("attrax.datasets")
    ]
    assert list(prefetched(range(5), 2)) == list(range(5))


def shifted(model, x, y):
    return method(model, x + 1, y)


def closing(weights):
    return lambda model, x, y: method(weights, x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": MODEL + 1}, r"differs in model \("),
        ({"model": MODEL[:, :3]}, r"differs in method \(.*model \("),
        ({"method": shifted}, r"differs in method \("),
        ({"key": jax.random.key(0), "method": noisy}, r"differs in key \(None there"),
        ({"metadata": {"run": 2}}, r"differs in metadata \(\{\} there, \{'run': 2\} here"),
        ({"batches": datasets.batches((XS, YS), 5)}, r"differs in batch \("),
        ({"batches": datasets.batches((XS, YS), 4, beside={"y": YS})}, r"differs in arrays \("),
        ({"batches": datasets.batches((XS + 1, YS), 4)}, "example 0 is another one"),
        ({"batches": datasets.batches((XS, YS[::-1]), 4)}, "example 0 is another one"),
        ({"batches": datasets.batches((XS[:7], YS[:7]), 4)}, "holds 3 batches, against 2 here"),
        ({"batches": iter([(XS[:4], YS[:4])])}, "holds 3 batches, against 1 here"),
        ({"batches": datasets.batches((XS[:9], YS[:9]), 4)}, "batch 2 has 3 examples in"),
        (
            {"batches": iter([*generator()][:2] + [(XS[:4], YS[:4])] * 2)},
            "batch 2 has 3 examples in .* and 4 here",
        ),
    ],
)
def test_another_store_is_refused_and_left_alone(store, options, message):
    run(store)
    before = contents(store)
    with pytest.raises(ValueError, match=f"`store` must hold .*{message}"):
        run(store, **options)
    assert contents(store) == before


def test_weights_that_are_closed_over_belong_to_the_method(store):
    run(store, method=closing(np.asarray(MODEL)))
    with pytest.raises(ValueError, match=r"differs in method \("):
        run(store, method=closing(np.asarray(MODEL) + 1))


def test_more_batches_than_there_were_are_refused(store):
    run(store, [*generator()][:2])
    before = contents(store)
    with pytest.raises(ValueError, match="holds 2 batches, against more than 2 here"):
        run(store, generator())
    assert contents(store) == before


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not there"):
        datasets.open(tmp_path / "nothing")
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(ValueError, match="is something else"):
        run(tmp_path)
    assert contents(tmp_path) == {"file.txt": b"mine"}


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (XS, TypeError, "`batches` must be an iterable of batches; got one ndarray"),
        ({"x": XS}, TypeError, "got one dict"),
        ([], ValueError, "`batches` must hold at least one batch; got none"),
        (iter(()), ValueError, "`batches` must hold at least one batch; got none"),
        ([(XS, YS[:3])], ValueError, "one leading axis.* batch 0 has shapes"),
        ([()], ValueError, "batch 0 has shapes none"),
        ([(XS[:0], YS[:0])], ValueError, "of 1 or more examples"),
        ([(XS, YS.astype(str))], TypeError, "must hold numbers; batch 0 holds <U"),
        ([datasets.Batch((XS, YS), unreadable={11: ""})], ValueError, "0 to 10; batch 0 names 11"),
        ([(XS[:4], YS[:4]), (XS[:3], YS[:3]), (XS[:4], YS[:4])], ValueError, "batch 1 has 3"),
        (iter([(XS[:4], YS[:4]), (XS[:3], YS[:3]), (XS, YS)]), ValueError, "batch 1 has 3"),
        ([(XS[:4], YS[:4]), (XS, YS)], ValueError, "as the first, 4, .* batch 1 has 11"),
        ([(XS, YS), (XS[:, :3], YS)], ValueError, "must be like the first; batch 1 holds"),
    ],
)
def test_refusals_of_batches(store, batches, error, message):
    with pytest.raises(error, match=message):
        run(store, batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefetch": -1}, "`prefetch` must be at least 0"),
        ({"method": lambda model, x, y: {"status": x}}, "must be words .* got 'status'"),
        ({"method": lambda model, x, y: {"../a": x}}, r"must be words .* got '\.\./a'"),
        ({"method": lambda model, x, y: {"_batches": x}}, "must be words .* got '_batches'"),
        ({"method": lambda model, x, y: {"a": {"b": x}, "a/b": x}}, "'a/b' occurs twice"),
        ({"method": lambda model, x, y: {}}, "must return at least one array"),
        ({"batches": [datasets.Batch((XS, YS), {3: YS})]}, "must be words .* got 3"),
        ({"metadata": {"rate": np.float32(1)}}, "`metadata` must be what JSON .* float32"),
        ({"metadata": {"rate": np.nan}}, "`metadata` must be what JSON .* nan"),
        (
            {"batches": datasets.batches((XS, YS), 4, beside={"value": YS})},
            "must differ; 'value' occurs twice",
        ),
        (
            {"sharding": NamedSharding(Mesh(np.array(jax.devices()), "i"), PartitionSpec("i"))},
            "must be divisible among the devices of `sharding`, .* got 4",
        ),
        (
            {
                "sharding": NamedSharding(
                    Mesh(np.array(jax.devices()), "i"), PartitionSpec(None, "i")
                )
            },
            "and no other axis be divided; got 4",
        ),
    ],
)
def test_refusals_of_options(store, options, message):
    with pytest.raises(ValueError, match=message):
        run(store, **options)
    assert not store.exists()


def test_a_method_of_one_example_is_told_to_be_mapped(store):
    batches = datasets.batches((XS, YS), 4)
    with pytest.raises(
        ValueError, match=r"axis of a batch, 4; 'value' has shape \(\)\..*`jax\.vmap\(method"
    ):
        datasets.explain(lambda model, x, y: jnp.sum(x), MODEL, batches, store=store)
    with pytest.raises((TypeError, ValueError)) as caught:
        datasets.explain(method, MODEL, batches, store=store)
    assert any("`method` is given a whole batch" in note for note in caught.value.__notes__)
    assert not store.exists()


def test_results_are_read_by_name_and_index(store):
    results = run(store)
    stored = results["value"]
    assert (len(stored), stored.shape, stored.dtype) == (11, (11, 6), np.float32)
    assert type(stored[3]) is np.ndarray
    whole = np.asarray(stored)
    np.testing.assert_array_equal(whole[3], EXPECTED[3])
    for index in (-1, [1, -2], slice(2, 9, 3), slice(None, None, -2), slice(-3, None), slice(5, 2),
                  ..., np.arange(11) > 7, (2, 3), (slice(1, 4), 0), ([1, 2], [3, 4]), (..., 2),
                  np.int64(4), [], (-2, slice(1, 3)), [[0, 1], [2, 3]]):  # fmt: skip
        np.testing.assert_array_equal(stored[index], whole[index], strict=True)
    with pytest.raises(IndexError):
        stored[11]
    np.testing.assert_array_equal(np.asarray(stored, np.float64), stored[:])
    with pytest.raises(KeyError, match="'values' is not among the results, value"):
        results["values"]


def test_refusals_of_batches_by_number():
    with pytest.raises(ValueError, match=r"must have one length.* got lengths \[3, 11\]"):
        datasets.batches((XS, YS[:3]), 4)
    with pytest.raises(ValueError, match=r"of 1 or more; got lengths \[0\]"):
        datasets.batches(XS[:0], 4)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        datasets.batches(XS, 0)
    batches = datasets.batches(XS, 4)
    assert [len(batch.inputs) for batch in batches[1:]] == [4, 3]
    with pytest.raises(IndexError):
        batches[3]


def test_a_store_that_cannot_be_written(store):
    def falls():
        yield XS[:4], YS[:4]
        (store / "value" / "c").write_bytes(b"in the way of a folder")
        yield XS[4:8], YS[4:8]

    def method(model, x, y):
        return x

    with pytest.raises(OSError, match=r"batch 0 could not be written: .* the same call goes on"):
        run(store, falls(), method=method, prefetch=0)
    # What was not written is not said to be explained, though that could have been written.
    results = datasets.open(store)
    assert len(results) >= 4 and not results.status[:].any()


def test_a_store_that_cannot_be_made(store):
    """A write that stops in the middle, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(OSError, match=r"`store` must be writable; .* could not be made: "):
            run(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not store.exists()
    close(value(run(store)), EXPECTED)
    assert [file.name for file in store.parent.iterdir()] == [store.name]


@pytest.mark.parametrize(
    ("package", "module", "message"),
    [("tensorstore", "attrax.datasets._store", "pip install tensorstore")],
)
def test_a_missing_package_is_named(monkeypatch, package, module, message):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match=message):
        importlib.import_module(module)


def test_rich_is_asked_for_when_it_is_wanted(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match="pip install rich"):
        run(store, progress=True)
    close(value(run(store)), EXPECTED)
