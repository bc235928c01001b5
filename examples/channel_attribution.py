"""Three channel attributions of one layer, side by side: linear, path-integrated, stochastic path.

    python examples/channel_attribution.py

Which channels of `block10` speak for *espresso* rather than *cup*, in the photograph of a coffee
cup that scikit-image ships? The three answers are those of Lucid's channel attribution notebook;
each is one composition of public functions. Writes `out/channel_attribution.png`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import jax

import attrax
import pretrained
from attrax import (
    channels,
    distributions,
    gradient_times_input,
    influence,
    integrated_gradients,
)
from attrax.quadrature import riemann_left

IMAGE, CLASS, AGAINST, LAYER = "coffee", "espresso", "cup", "block10"


def channel_attributions(
    fn: Callable[[jax.Array], jax.Array], z: jax.Array, *, key: jax.Array
) -> dict[str, jax.Array]:
    """Three attributions of each channel of `z`, `(..., C)` to `(C,)`, in the units of `fn`.

    Linear: the first order at `z`. Path integrated: adds up to `fn(z) - fn(0)`, but for the error
    of the left Riemann sum. Stochastic path: the channels do not keep their proportions on the way
    from 0 to `z`, each is scaled at random at every step; it adds up to nothing in particular.
    """
    rule, noise = riemann_left(100), distributions.stochastic_channels()
    return {
        "Linear": channels(gradient_times_input(fn, z)),
        "Path integrated": channels(integrated_gradients(fn, z, rule=rule)),
        "Stochastic path": channels(z * influence(fn, z, noise, rule=rule, key=key)),
    }


def main() -> None:
    """Print and draw the three attributions."""
    module, variables = pretrained.efficientnet_lite0()
    model = attrax.from_linen(module, variables)
    x = pretrained.preprocess(pretrained.photo(IMAGE))
    score = attrax.scores.contrast(pretrained.class_index(CLASS), pretrained.class_index(AGAINST))

    @jax.jit
    def explain(model, x, key):
        z, tail = attrax.cut(model, x, at=LAYER)
        return channel_attributions(lambda z: score(tail(z)), z, key=key)

    attributions = explain(model, x, jax.random.key(0))
    for title, values in attributions.items():
        ranking = attrax.rank_channels(values, 5)
        print(
            f"{title}: sum {values.sum():+.2f} logits; for {CLASS} most "
            f"{ranking.positive_indices.tolist()}, against it {ranking.negative_indices.tolist()}"
        )
    figure = attrax.plot.channel_comparison(attributions, classes=(CLASS, AGAINST), units="logits")
    file = Path("out") / "channel_attribution.png"
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=150)
    print(file)


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"channel_attribution: {error}", file=sys.stderr)
        sys.exit(2)
