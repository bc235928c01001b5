"""Are the pixels that a method ranks first those that the network goes by? Measured, beside chance.

Three tables on the 20 labelled photographs, explained by EfficientNet-Lite0.

1. Insertion and deletion: the probability of the labelled class while patches of the photograph are
   put in, or taken out, in the order of the map. Beside random rankings of the same photograph, and
   beside two rankings that know no network: the centre of the picture first, edges first.
2. Randomised parameters: the rank correlation of the map with the map of a network whose
   parameters are all freshly initialised.
3. Quadrature: the completeness gap of integrated gradients by rule and number of nodes.

What was fixed before the methods were run, so that no choice could favour one:

- What is explained is the logit of the labelled class, right or wrong.
- A feature is a patch of 14 x 14 pixels, 256 of them, for every method: single pixels are finer
  than most of the maps are, and a picture with scattered pixels gone resembles nothing. A patch has
  the sum of the map over its pixels. Maps with signs keep them.
- Insertion starts from the photograph blurred, deletion ends at the grey that is 0 for the network,
  as with the authors of both curves. The blur is the narrowest of 5, 10 and 20 pixels that leaves
  no photograph a probability above 0.05.
- Which methods claim to be faithful: `Method.claims`, with the reason.
- "Worse than random" is a mean difference, paired by photograph, whose 95 % bootstrap interval over
  the photographs lies below 0.
- Randomisation is asked of maps with two signs. Magnitudes of gradients are large at the edges of
  the picture in any convolutional network, whatever it has learned; they are reported, too.

What a trial on two photographs added, before the 20 were run: holes all over the picture bring the
probability down by themselves, wherever they are, and one large hole of the same size does not. So
beside a map of the last convolution there are random maps of 7 x 7, brought to the size of the
picture as it is, and every map has to stand up to both kinds of random ranking. And maps whose
weights are never negative, which are large where activations are large, went to the magnitudes.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import attrax

from . import evidence
from .evidence import Evidence, Interval, Measured, interval, mean_of
from .maps import BLUR, Effort, Method, methods
from .report import Claim, Table, main

FULL = Effort(20, 10, nodes=64, steps=24, samples=20, channels=256, points=16, rankings=5)
QUICK = Effort(6, 3, nodes=12, steps=6, samples=3, channels=32, points=8, rankings=2)
LIMIT = 0.2
RULES = {
    "Gauss-Legendre": (attrax.quadrature.gauss_legendre, (16, 32, 64, 128)),
    "midpoint": (attrax.quadrature.midpoint, (16, 64, 256)),
}
GAP_PHOTOS = 8


def gains(found: Evidence, chance: Evidence) -> tuple[Interval, Interval]:
    """How much better than chance, for insertion and deletion; paired by photograph."""
    return interval(found.insertion - chance.insertion), interval(chance.deletion - found.deletion)


def curves_table(effort: Effort, chosen: dict[str, Method], found: Measured) -> Table:
    """Insertion and deletion areas beside random rankings."""
    better = {name: gains(found.methods[name], found.chance(chosen[name])) for name in chosen}
    patches, layers = mean_of(found.random_patches), mean_of(found.random_layers)

    def row(
        name: str, e: Evidence, gain: Any = (None, None), claims: str = "", passes: str = "0"
    ) -> list[Any]:
        gap = None if e.gap is None else 100 * float(np.median(e.gap))
        return [
            name,
            claims,
            passes,
            gap,
            e.insertion.mean(),
            gain[0] and str(gain[0]),
            e.deletion.mean(),
            gain[1] and str(gain[1]),
        ]

    rows = [
        row(
            name,
            found.methods[name],
            better[name],
            "yes" if method.claims else "no",
            method.passes,
        )
        for name, method in chosen.items()
    ]
    rows += [
        row(f"random patches, mean of {effort.rankings}", patches),
        row("one of them, beside the others", *beside_others(found.random_patches)),
        row(f"random 7 x 7, mean of {effort.rankings}", layers, gains(layers, patches)),
    ]
    rows += [row(name, e, gains(e, patches)) for name, e in found.references.items()]
    claiming = [name for name, method in chosen.items() if method.claims]
    unsure = [name for name in claiming if min(gain.low for gain in better[name]) <= 0]
    reasons: dict[str, list[str]] = {}
    for name in claiming:
        reasons.setdefault(chosen[name].claims, []).append(name)
    scattered = {name: gains(found.methods[name], patches) for name in chosen}
    coarse = [f"{name} {scattered[name][1]}" for name in chosen if chosen[name].layer]
    return Table(
        name="faithfulness",
        title="Insertion and deletion beside random rankings, EfficientNet-Lite0",
        caption=(
            f"The mean area under the probability of the labelled class over {effort.photos} "
            f"photographs, {effort.points + 1} points of each curve, 256 patches ranked. Insertion "
            f"from the photograph blurred by {BLUR:g} pixels: the larger the better. Deletion to "
            "grey: the smaller the better. Better by: than random rankings as coarse as the map, "
            "paired by photograph, with the 95 % bootstrap interval of the mean. Passes: gradients "
            "(g) or forward passes (f) for one map. Gap: |sum of the attribution - change of the "
            "score| over the change, the median over the photographs."
        ),
        columns=[
            ("map", ""),
            ("claims", ""),
            ("passes", ""),
            ("gap %", ".1f"),
            ("insertion", ".3f"),
            ("better by", ""),
            ("deletion", ".3f"),
            ("better by", ""),
        ],
        rows=rows,
        claims=[
            Claim(
                f"{curve} beside {what}: upper end of the interval, the lowest of all methods that "
                "claim to be faithful",
                min(by[name][k].high for name in claiming),
                at_least=0,
            )
            for what, by in (("rankings as coarse", better), ("random patches", scattered))
            for k, curve in enumerate(("insertion", "deletion"))
        ],
        notes=[
            f"Better than random by both, with an interval above 0: {len(claiming) - len(unsure)} "
            f"of {len(claiming)} that claim to be faithful"
            + (f"; not {', '.join(unsure)}." if unsure else "."),
            "Deletion by maps of 7 x 7 beside random patches, which scatter their holes: better by "
            f"{', '.join(coarse)}.",
            "What the claims are: "
            + "; ".join(f"{reason} ({', '.join(names)})" for reason, names in reasons.items())
            + ".",
        ],
        raw={
            name: {
                "insertion": e.insertion.tolist(),
                "deletion": e.deletion.tolist(),
                "gap": None if e.gap is None else e.gap.tolist(),
            }
            for name, e in {
                **found.methods,
                **found.references,
                **{f"random patches {k}": e for k, e in enumerate(found.random_patches)},
                **{f"random 7 x 7 {k}": e for k, e in enumerate(found.random_layers)},
            }.items()
        },
    )


def beside_others(rankings: Sequence[Evidence]) -> tuple[Evidence, tuple[Interval, Interval]]:
    """The first of several random rankings, and its gain: what 0 looks like."""
    first, *rest = rankings
    return first, gains(first, mean_of(rest))


def randomised_table(effort: Effort, chosen: dict[str, Method], found: Measured) -> Table:
    """Rank correlations with the maps of random networks."""
    kinds = ("signed", "absolute", "coarse")
    alike = {
        name: [interval(getattr(e, kind)) for kind in kinds] for name, e in found.methods.items()
    }
    sizes = {name: float(np.abs(e.signed).mean()) for name, e in found.methods.items()}
    signed = [name for name, method in chosen.items() if method.signed]
    above = [
        f"{name} {alike[name][0].mean:.2f}"
        for name in chosen
        if name not in signed and alike[name][0].mean >= LIMIT
    ]
    return Table(
        name="randomised",
        title="Maps of the trained network against those of random networks",
        caption=(
            "The rank correlation of the map with that of a network whose parameters are all "
            f"freshly initialised, a new one for each of {effort.randomised} photographs; the "
            "mean, and its 95 % bootstrap interval. As it is: all pixels, with signs where the map "
            "has them. Size: the mean of its absolute value, where those of single photographs "
            "differ in sign. Patches: 256 sums of 14 x 14 pixels."
        ),
        columns=[
            ("map", ""),
            ("signs", ""),
            ("as it is", ""),
            ("size", ".3f"),
            ("absolute values", ""),
            ("patches", ""),
        ],
        rows=[
            [
                name,
                "yes" if chosen[name].signed else "no",
                str(pixels),
                sizes[name],
                *map(str, rest),
            ]
            for name, (pixels, *rest) in alike.items()
        ],
        claims=[
            Claim(
                "rank correlation as it is, the largest of all maps with two signs",
                max(alike[name][0].mean for name in signed),
                at_most=LIMIT,
            )
        ],
        notes=[
            "Maps without two signs that stay above the limit: "
            + (", ".join(above) if above else "none")
            + "."
        ],
        raw={
            name: {kind: getattr(e, kind).tolist() for kind in kinds}
            for name, e in found.methods.items()
        },
    )


def gaps_table() -> Table:
    """The completeness gap by the number of nodes."""
    module, variables, xs, labels = evidence.load()
    model = attrax.for_cpu(attrax.from_linen(module, variables))
    xs, labels = xs[:GAP_PHOTOS], labels[:GAP_PHOTOS]
    rules = {(name, n): make(n) for name, (make, counts) in RULES.items() for n in counts}
    nodes = np.concatenate([np.asarray(rule.nodes) for rule in rules.values()])
    ends = np.cumsum([n for _, n in rules])[:-1]
    sharp = evidence.logits(model, xs)
    found = evidence.speeds(model, xs, labels, jnp.asarray(nodes, xs.dtype))
    change = evidence.changes_of_score(sharp, sharp, model, labels)["grey"]
    rows = []
    for ((name, n), rule), speed in zip(
        rules.items(), np.split(np.asarray(found), ends, axis=1), strict=True
    ):
        gap = 100 * np.abs(speed @ np.asarray(rule.weights) - change) / np.abs(change)
        rows.append([name, str(n), float(np.median(gap)), float(gap.max())])
    return Table(
        name="gaps",
        title="Completeness gap of integrated gradients, EfficientNet-Lite0",
        caption=(
            "|sum of the attribution - change of the logit| over the change, in per cent, from the "
            f"grey picture to each of {GAP_PHOTOS} photographs."
        ),
        columns=[("rule", ""), ("nodes", ""), ("median %", ".1f"), ("largest %", ".1f")],
        rows=rows,
    )


# In this network the same map as CAM; much the same as SmoothGrad squared; another path from grey;
# and one that needs more than a few draws.
NOT_QUICK = (
    "Grad-CAM",
    "HiResCAM",
    "VarGrad",
    "guided integrated gradients",
    "expected gradients",
)


def run(quick: bool = False) -> list[Table]:
    """The tables; quick: the first two, of most of the methods that claim to be faithful."""
    effort = QUICK if quick else FULL
    chosen = methods(effort)
    if quick:
        chosen = {
            name: method
            for name, method in chosen.items()
            if method.claims and name not in NOT_QUICK
        }
    found = evidence.measure(effort, chosen)
    tables = [curves_table(effort, chosen, found), randomised_table(effort, chosen, found)]
    return tables if quick else [*tables, gaps_table()]


if __name__ == "__main__":
    main(run, __doc__)
