"""Slow: runs over a dataset that are killed, that fill the disk, on many devices and hosts."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import dataset
import dataset_run
from attrax import datasets

pytestmark = pytest.mark.soak

SCRIPT = str(Path(dataset_run.__file__))
KILLS = 20


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Compiled programs are kept, so that a run that is begun again soon gets to work."""
    own = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    inherited = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    return inherited | own


@pytest.fixture(scope="module")
def run(environment):
    def run(*arguments):
        command = [sys.executable, SCRIPT, *map(str, arguments)]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return run


@pytest.fixture(scope="module")
def clean(run, tmp_path_factory):
    """The store of one run that nothing stopped, and how long it took with everything compiled."""
    folder = tmp_path_factory.mktemp("clean")
    for name in ("first", "store"):
        process = run(folder / name)
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n", process.communicate()[1]
        begun = time.monotonic()
        assert process.stdout.readline() == "end\n", process.communicate()[1]
        seconds = time.monotonic() - begun
        process.communicate()
    assert contents(folder / "first") == contents(folder / "store")
    return folder / "store", seconds


def contents(store):
    """Every file of a store."""
    files = (file for file in store.rglob("*") if file.is_file())
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def finished(store):
    return len(list(store.glob("_batches/[0-9]*.json")))


def test_killed_at_random_moments(run, clean, tmp_path):
    """What is left after each kill is that of a clean run, when a run is at last let through."""
    expected, seconds = contents(clean[0]), clean[1]
    moments, store = random.Random(7), tmp_path / "store"
    kills, unmarked, done = 0, 0, 0
    while kills < KILLS:
        process = run(store)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
        here = finished(store)
        assert here >= done  # nothing that was finished is lost
        done = here
        chunks = len(list(store.glob("attribution/c/*/0/0/0")))
        unmarked += chunks > here
        if (store / "_batches/end.json").exists():
            assert contents(store) == expected
            shutil.rmtree(store)
            done = 0
    process = run(store)
    output, errors = process.communicate()
    assert output == "begin\nend\n", errors
    assert contents(store) == expected
    assert unmarked  # some kills fell between the chunks of a batch and its marker


def test_a_write_that_stops_in_the_middle(run, clean, tmp_path):
    store = tmp_path / "store"
    process = run(store, "--stop-writing", 30)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "could not be written" in errors and "the same call goes on" in errors
    assert 20 <= finished(store) <= 30
    assert not datasets.open(store).complete
    _, errors = run(store).communicate()
    assert contents(store) == contents(clean[0]), errors


def test_a_full_disk(environment, clean, tmp_path):
    """On a file system of its own, that is first too small and then made larger."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    script = f"""
        mount -t tmpfs -o size=512k none {disk} || exit 3
        {sys.executable} {SCRIPT} {disk}/store && exit 4
        ls {disk}/store/_batches | grep -c json$
        mount -o remount,size=64m {disk}
        {sys.executable} {SCRIPT} {disk}/store && cp -r {disk}/store {kept}
    """
    try:
        done = subprocess.run(
            ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("There is no `unshare` here.")
    if done.returncode == 3 or "unshare failed" in done.stderr:
        pytest.skip("No file system can be made here without privileges.")
    assert done.returncode == 0, done.stderr
    assert "could not be written" in done.stderr and "No space left on device" in done.stderr
    begin, batches, *rest = done.stdout.split()
    assert [begin, *rest] == ["begin", "begin", "end"] and 5 < int(batches) < 60
    assert contents(kept) == contents(clean[0])


def test_eight_devices_are_one(clean, tmp_path):
    """The virtual devices of this process."""
    assert len(jax.local_devices()) == 8
    mesh = jax.make_mesh((8,), ("examples",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("examples"))
    many = dataset_run.explain(tmp_path / "store", dataset_run.batches(), sharding=sharding)
    one = datasets.open(clean[0])
    found, expected = (np.asarray(results["attribution"]) for results in (many, one))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    for name in ("predicted", "label"):
        np.testing.assert_array_equal(many[name][:], one[name][:])


def test_two_hosts_write_chunks_of_their_own(run, clean, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    store = tmp_path / "store"
    processes = [run(store, "--host", i, 2, address) for i in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        read = int(re.fullmatch(r"begin\n(\d+) read\nend\n", output)[1])
        # Half of the batches, the first one to see what they are like, and an example to fill up.
        assert abs(read - dataset_run.EXAMPLES / 2) <= 2 * dataset_run.SIZE + 2
    assert contents(store) == contents(clean[0])
    assert datasets.open(store).complete


def test_the_example(tmp_path):
    images, labels = dataset.digits()
    model = dataset.train(images[: dataset.TRAINING], labels[: dataset.TRAINING])
    results = dataset.explain(model, images, labels, tmp_path / "store")
    predicted = np.asarray(results["predicted"])
    assert (predicted == labels)[dataset.TRAINING :].mean() > 0.9
    np.testing.assert_array_equal(np.asarray(results["label"]), labels)
    # Complete: the attributions of each picture add up to what its class gained over a blank one.
    logits = np.asarray(jax.jit(jax.vmap(model))(images))
    blank = np.asarray(jax.jit(model)(np.zeros_like(images[0])))
    gains = logits.max(axis=1) - blank[predicted]
    sums = np.asarray(results["attribution"]).sum((1, 2, 3))
    np.testing.assert_allclose(sums, gains, atol=1e-3 * np.abs(gains).max())
    mean, index = dataset.unusual(results, 3)
    assert mean.shape == (8, 8) and predicted[index] == 3
    figure = dataset.draw(results, images)
    assert len(figure.axes) == 3 * dataset.CLASSES
    plt.close(figure)
