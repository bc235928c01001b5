"""Divided among eight devices: the same numbers, an eighth of the work, and what is exchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from attrax import priors
from attrax.quadrature import clenshaw_curtis, gauss_legendre, padded
from benchmarks import devices

CLOSE = 1e-6  # of the largest attribution
FEWER = 7.6  # operations of one device alone, over those of one of eight


def test_collectives_are_found_and_those_in_loops_counted():
    def summed(x):
        return jax.lax.fori_loop(0, 5, lambda _, total: jax.lax.psum(total, "a") / 8, x)

    mesh = devices.devices(a=8)
    summed = jax.shard_map(summed, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    program = jax.jit(summed).lower(jnp.ones((3, 2))).compile()
    assert devices.traffic(program) == {"all-reduce": (5, 5 * 24)}
    assert devices.traffic(jax.jit(jnp.sin).lower(1.0).compile()) == {}


def test_divided_examples_need_no_communication():
    """Input, layer and conductance, in one program."""
    net = devices.convolutional(size=8, width=4)
    rule = gauss_legendre(4)
    methods = devices.of_input, devices.of_layer, devices.conductance

    def together(net, model, x, y):
        return [method(net, model, x, y, rule) for method in methods]

    found = devices.by_example(net, together)
    assert found.traffic == {}
    assert found.ratio >= FEWER
    assert found.difference <= CLOSE
    assert set(found.specs) == {P("example")}


def test_divided_nodes_are_summed_once():
    """Thirteen nodes, padded to two for each device."""
    net = devices.convolutional(size=8, width=4)
    found = devices.by_node(net, devices.of_input, gauss_legendre(13))
    attribution = 4 * net.xs[0].size
    assert found.traffic == {"all-reduce": (1, attribution)}
    assert found.ratio >= 0.95 * 13 / 2
    assert found.difference <= CLOSE


@pytest.mark.parametrize("examples", [32, 16])
def test_a_mean_over_divided_examples_is_computed_where_they_are(examples):
    mesh = devices.devices(example=8)
    w = jax.random.normal(jax.random.key(0), (8, 8))
    xs = jax.random.normal(jax.random.key(1), (examples, 8))

    def mean(w, xs):
        return priors.batch_mean(lambda x: jnp.sum(jnp.tanh(w @ x)), xs, batch_size=16)

    placed = (
        jax.device_put(w, NamedSharding(mesh, P())),
        jax.device_put(xs, NamedSharding(mesh, P("example"))),
    )
    found = devices.compare(mean, (w, xs), mean, placed)
    assert found.ratio >= FEWER
    assert found.difference <= CLOSE
    assert set(found.traffic) == {"all-reduce"}


def test_padded_repeats_the_last_node_without_a_weight():
    rule = padded(clenshaw_curtis(9), 4)
    whole = clenshaw_curtis(9)
    np.testing.assert_array_equal(rule.nodes, [*whole.nodes, 1, 1, 1])
    np.testing.assert_array_equal(rule.weights, [*whole.weights, 0, 0, 0])
    assert padded(whole, 3).n == 9


def test_padded_explains_what_it_refuses():
    with pytest.raises(TypeError, match="`rule` must be a Rule of known nodes"):
        padded([0.5], 2)
    with pytest.raises(TypeError, match="`rule` must be a Rule of known nodes"):
        jax.jit(lambda rule: padded(rule, 2).weights)(gauss_legendre(2))
    with pytest.raises(ValueError, match="`multiple` must be at least 1; got 0"):
        padded(gauss_legendre(2), 0)
