"""Slow: what training with an attribution prior takes, and what it does to a network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attrax
import attribution_prior as example
from benchmarks import prior_memory
from benchmarks.vision_transformer import VisionTransformer

pytestmark = pytest.mark.soak

NAIVE, LEAN, LEANEST = ("all", "all, vmap"), ("all", "1"), ("1", "1")


def test_a_fifteenth_of_the_memory_for_the_same_gradient():
    """Width 128, 4 layers, 16 nodes, one node at a time: the whole step of Adam."""
    model = attrax.from_nnx(VisionTransformer(rngs=nnx.Rngs(0)))
    rows, losses = prior_memory.batch(), prior_memory.losses()
    state, memory, gradients = prior_memory.OPTIMIZER.init(model), {}, {}
    for name in (NAIVE, LEAN, LEANEST):
        step = jax.jit(functools.partial(prior_memory.step, losses[name]))
        plan = step.lower(model, state, *rows).compile().memory_analysis()
        memory[name] = plan.temp_size_in_bytes
    for name in (NAIVE, LEAN):
        gradients[name] = jax.jit(jax.grad(losses[name]))(model, *rows)
    assert memory[LEAN] <= memory[NAIVE] / 15
    assert memory[LEANEST] <= memory[NAIVE] / 60  # one example at a time, too
    assert prior_memory.farthest(gradients[LEAN], gradients[NAIVE]) < 1e-5


def test_the_same_gradient_in_float64():
    with jax.enable_x64(True):
        module = VisionTransformer(size=8, width=16, depth=2, heads=2, rngs=nnx.Rngs(0))
        model = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), attrax.from_nnx(module))
        xs, ys = prior_memory.batch(3, 8)
        rows, losses = (xs.astype("float64"), ys), prior_memory.losses(nodes=4)
        gradients = {
            name: jax.jit(jax.grad(losses[name]))(model, *rows) for name in (NAIVE, LEAN, LEANEST)
        }
        for name in (LEAN, LEANEST):
            assert jax.tree.leaves(gradients[name])[0].dtype == jnp.float64
            assert prior_memory.farthest(gradients[name], gradients[NAIVE]) < 1e-10


def scores(runs, name):
    return np.array([run.scores[name] for run in runs])


@pytest.fixture(scope="module")
def trained():
    """Three seeds of each arm, with and without a decoy."""
    pytest.importorskip("sklearn")
    return (
        example.compare(example.WITH_DECOY, decoy=True, seeds=range(3)),
        example.compare(example.WITHOUT_DECOY, decoy=False, seeds=range(3)),
    )


def test_the_prior_takes_the_eyes_off_the_decoy(trained):
    """Whatever the seed: the share of attribution in the patch falls, the accuracy rises."""
    decoyed, plain = trained
    fooled = decoyed["no prior"]
    assert (scores(fooled, "in the patch") > 0.15).all()
    for name in ("gradient", "integrated gradients"):
        assert (scores(decoyed[name], "in the patch") < 0.03).all()
        gain = scores(decoyed[name], "accuracy") - scores(fooled, "accuracy")
        assert (gain > 0.15).all()
        # As good as a network that never met a decoy.
        mean = scores(decoyed[name], "accuracy").mean()
        assert mean > scores(plain["no prior"], "accuracy").mean() - 0.01


def test_the_prior_costs_no_accuracy_without_a_decoy(trained):
    _, plain = trained
    without, smooth = plain["no prior"], plain["smooth"]
    assert (scores(smooth, "roughness") < 0.6 * scores(without, "roughness")).all()
    for name in ("accuracy", "accuracy with noise"):
        assert scores(smooth, name).mean() > scores(without, name).mean() - 0.01


def test_the_log_ends_where_the_judgement_does(trained):
    """The monitor of the last steps sees on 50 pictures what the judge sees on 500."""
    for runs in trained:
        for run in (run for arm in runs.values() for run in arm):
            assert np.isfinite(run.log["in the patch"]).all()
            last = run.log["in the patch"][-1]
            assert last == pytest.approx(run.scores["in the patch"], abs=0.1)


def test_the_picture_is_drawn(trained, tmp_path):
    example.draw(*trained).savefig(tmp_path / "attribution_prior.png")
    assert (tmp_path / "attribution_prior.png").stat().st_size > 50_000
