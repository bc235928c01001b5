"""The batch size that fits: answers known on paper, and nothing that does not fit."""

import math

import jax
import jax.numpy as jnp
import pytest

import attrax

X = jnp.ones((1, 1000))  # 4000 bytes


def rows(count):
    """4000 bytes of `X`, and as many of results for each of `count(batch_size)` rows."""
    return lambda x, batch_size: x + jnp.ones((count(batch_size), 1))


@pytest.mark.parametrize(("budget", "expected"), [(8000, 1), (44_000, 10), (47_999, 10)])
def test_memory_that_grows_by_a_line(budget, expected):
    found = attrax.fitting_batch_size(rows(lambda b: b), X, budget=budget)
    assert found.batch_size == expected
    assert found.memory == {size: 4000 * (size + 1) for size in {1, 4, expected}}


def test_memory_that_grows_faster_or_slower_than_its_beginning():
    for count in (lambda b: b * b, lambda b: 10 * math.isqrt(b)):
        found = attrax.fitting_batch_size(rows(count), X, budget=402_000)
        assert found.memory[found.batch_size] == 4000 * (count(found.batch_size) + 1) <= 402_000
        assert found.memory[found.batch_size] > 402_000 / 2
        assert len(found.memory) <= 6


def test_memory_that_stops_growing_and_a_bound():
    found = attrax.fitting_batch_size(rows(lambda b: min(b, 6)), X, budget=10**6, most=50)
    assert found.batch_size == 50
    found = attrax.fitting_batch_size(rows(lambda b: b), X, budget=10**6, most=3)
    assert found.batch_size == 3 and set(found.memory) == {1, 3}
    assert attrax.fitting_batch_size(rows(lambda b: b), X, budget=10**6, most=1).batch_size == 1
    # No more memory for more points: the largest allowed, and no division by zero.
    assert attrax.fitting_batch_size(rows(lambda b: 1), X, budget=8000, most=9).batch_size == 9


def test_an_attribution():
    def explain(x, batch_size):
        fn = lambda x: jnp.sum(jnp.tanh(jnp.sin(x) * jnp.roll(x, 1)) ** 2)  # noqa: E731
        rule = attrax.quadrature.midpoint(60)
        return attrax.integrated_gradients(fn, x, rule=rule, batch_size=batch_size)

    def needed(batch_size):
        program = jax.jit(lambda x: explain(x, batch_size)).lower(x).compile()
        memory = program.memory_analysis()
        sizes = memory.argument_size_in_bytes, memory.output_size_in_bytes
        return sum(sizes) + memory.temp_size_in_bytes

    # Abstract arguments: nothing is run.
    x = jax.ShapeDtypeStruct((100_000,), jnp.float32)
    budget = needed(12) + x.size
    found = attrax.fitting_batch_size(explain, x, budget=budget)
    assert found.batch_size == 12  # chunks of 12, then 15: the sizes in between make none
    assert found.memory[12] == needed(12) <= budget < needed(15)


def test_what_does_not_fit():
    with pytest.raises(
        ValueError, match=r"`budget` must hold .* `batch_size=1`, which needs 8,000 bytes; got 7,99"
    ):
        attrax.fitting_batch_size(rows(lambda b: b), X, budget=7999)
    with pytest.raises(ValueError, match="`budget` must be at least 1; got 0"):
        attrax.fitting_batch_size(rows(lambda b: b), X, budget=0)
    with pytest.raises(TypeError, match="`budget` must be an int; got"):
        attrax.fitting_batch_size(rows(lambda b: b), X, budget=1.5)
    with pytest.raises(ValueError, match="`most` must be at least 1; got 0"):
        attrax.fitting_batch_size(rows(lambda b: b), X, budget=1, most=0)


def test_a_backend_that_does_not_say(monkeypatch):
    monkeypatch.setattr(jax.stages.Compiled, "memory_analysis", lambda self: None)
    with pytest.raises(RuntimeError, match="The backend 'cpu' does not say how much memory"):
        attrax.fitting_batch_size(rows(lambda b: b), X, budget=10**6)
