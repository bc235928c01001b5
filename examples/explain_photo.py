"""Explain what a pretrained network sees in a photograph, at the pixels and inside the network.

    python examples/explain_photo.py
    python examples/explain_photo.py --image cat.jpg --class tabby --against "tiger cat"

The network is EfficientNet-Lite0 with its ImageNet weights; the photograph is, unless another one
is given, the coffee cup of scikit-image. Prints the layers, the five most probable classes, how
far the attributions add up and the channels that say most; writes the pictures, one self-contained
`index.html`, and two pages that it leads to: the semantic dictionary of the layer and its channel
attributions, with a sprite of each channel that occurs there. Results go to stdout, progress to
stderr; what cannot be done is said in one line, with exit status 2, and nothing is written.

Sprites are kept in `OUT/sprites`, and read from there the next time. On a CPU only channels that
are shown are drawn, one or two a second; on a GPU all channels of the layer, in larger chunks of
the same program.
"""

import argparse
import contextlib
import difflib
import functools
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

import attrax
import pretrained
import report
import sprites
from attrax.quadrature import Rule
from channel_attribution import channel_attributions

RULES = (
    "gauss_legendre",
    "midpoint",
    "trapezoid",
    "simpson",
    "clenshaw_curtis",
    "gauss_kronrod",
    "riemann_left",
    "riemann_right",
    "endpoint_mean",
)
# The gradient of this network jumps along the path, so that the sum converges slowly: at the
# pixels as many gradients as a minute allows on two CPU cores. Inside, a gradient costs less and
# the path is smoother.
NODES, LAYER_NODES = 256, 128
# Inside block10 the network still tells apart 14 x 14 positions, and a quarter of it lies ahead.
LAYER = "block10"
# Between two updates of the progress bar, and together in memory.
GRADIENTS_A_CALL, GRADIENTS_AT_ONCE = 16, 4
STEPS_SHOWN = 8
VIEW = 448  # pixels a side of the photograph on the pages, twice what the network sees
SMALLEST = 32  # pixels a side of a picture that is worth looking at


class Refusal(Exception):
    """What the user asked for cannot be done; the message is one line that says why."""


# ------------------------------------------------------------------------- compiled programs
#
# A model is an argument of each, so that its weights are inputs of the program and not constants in
# it. What is left of the network behind a layer is a model like any other: the same functions serve
# at the pixels and inside.


def _explained(model: Any, i: jax.Array, j: jax.Array | None) -> Callable[[jax.Array], jax.Array]:
    """The logit of class i, minus that of class j if there is one."""
    return lambda x: attrax.scores.contrast(i, j)(model(x))


predict = jax.jit(lambda model, x: model(x))

gradient = jax.jit(lambda model, x, i, j: attrax.gradient(_explained(model, i, j), x))

integrate = jax.jit(
    attrax.for_cpu(
        lambda model, x, i, j, rule: attrax.integrated_gradients(
            _explained(model, i, j), x, rule=rule, batch_size=GRADIENTS_AT_ONCE
        )
    )
)

measure_gap = jax.jit(
    lambda model, x, i, j, attribution: attrax.metrics.completeness_gap(
        _explained(model, i, j), attribution, x
    )
)

compare_channels = jax.jit(
    attrax.for_cpu(
        lambda model, x, i, j, key: channel_attributions(_explained(model, i, j), x, key=key)
    )
)

cut = jax.jit(lambda model, x, at: attrax.cut(model, x, at=at), static_argnames="at")


def in_parts(rule: Rule, size: int) -> list[Rule]:
    """Rules of `size` nodes whose sums add up to the sum of `rule`.

    One compiled program serves them all, and between its calls there is time to show progress. The
    last part is filled up with its last node, at weight zero.
    """
    size = min(size, rule.n)
    missing = -rule.n % size
    nodes = np.pad(rule.nodes, (0, missing), mode="edge").reshape(-1, size)
    weights = np.pad(rule.weights, (0, missing)).reshape(-1, size)
    return [Rule(*part) for part in zip(nodes, weights, strict=True)]


# ----------------------------------------------------------------------------------- options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refusal(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(description="Explain what a network sees in a photograph.")
    add = parser.add_argument
    add("--image", type=Path, help="a picture file; default: scikit-image's coffee cup")
    add("--class", dest="target", help="a class by name or number; default: the predicted one")
    add("--list-classes", action="store_true", help="print the number and name of every class")
    add("--against", help="a second class: explain the first one rather than this one")
    add("--layer", default=LAYER, help="where to look inside the network; default: %(default)s")
    add("--rule", default=RULES[0], help=f"{', '.join(RULES)}; default: %(default)s")
    add("--nodes", type=int, help=f"gradients along the path at the pixels; default: {NODES}")
    add("--layer-nodes", type=int, help=f"the same at the layer; default: {LAYER_NODES}")
    add(
        "--sprite-steps",
        type=int,
        default=sprites.STEPS,
        help="steps in which a sprite is drawn, 0 for pages without; default: %(default)s",
    )
    add("--module", default="linen", help="linen or nnx: which form of the network; default: linen")
    add("--device", help="cpu, gpu or tpu; default: what JAX finds")
    add("--out", type=Path, default=Path("out"), help="folder to write to; default: %(default)s")
    return parser


@contextlib.contextmanager
def _refusing(
    option: str,
    errors: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, ImportError),
) -> Iterator[None]:
    """Turn errors that the user can put right into one line."""
    try:
        yield
    except errors as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise Refusal(f"{option}: {' '.join((reason or str(error)).split())}") from error


def choose(option: str, name: str, known: Sequence[str]) -> str:
    """The name, if it is one of those that are known."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(known)}"
        raise Refusal(f"{option}: there is no {name!r}; {hint}.")
    return name


def _rule(name: str, nodes: int | None, default: int, option: str) -> Rule:
    factory = getattr(attrax.quadrature, choose("--rule", name, RULES))
    if nodes is not None:
        with _refusing(f"{option} {nodes} of --rule {name}"):
            return factory(nodes)
    try:
        return factory(default)
    except ValueError:  # some rules have an odd number of nodes
        return factory(default + 1)


def _on_device(name: str | None) -> contextlib.AbstractContextManager[Any]:
    if name is None:
        return contextlib.nullcontext()
    choose("--device", name, ("cpu", "gpu", "tpu"))
    try:
        return jax.default_device(jax.devices(name)[0])
    except RuntimeError as error:
        raise Refusal(f"--device: JAX finds no {name}, only {jax.default_backend()}.") from error


def read_image(path: Path) -> Image.Image:
    """The picture the right way up, on white where it is transparent."""
    # A damaged file can raise almost anything in a decoder.
    with _refusing(f"--image: cannot read {str(path)!r}", (Exception,)), Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError("it has more than 8 bits a colour; convert it first")
        if min(image.size) < SMALLEST:
            raise ValueError(
                f"it is {image.width} x {image.height}, smaller than {SMALLEST} pixels"
            )
        upright = ImageOps.exif_transpose(image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)


def _class(option: str, name: str) -> int:
    number = int(name) if name.strip().lstrip("-").isdigit() else name
    with _refusing(option, (ImportError, OSError)):
        try:
            return pretrained.class_index(number)
        except ValueError as error:
            raise Refusal(f"{option}: {error} `--list-classes` prints all of them.") from error


@contextlib.contextmanager
def _all_or_nothing(out: Path) -> Iterator[Path]:
    """A folder whose files move to `out` at the end; until then nothing is there to be seen."""
    out = out.absolute()
    existing = next(folder for folder in (out, *out.parents) if folder.exists())
    if not existing.is_dir():
        raise Refusal(f"--out: {str(existing)!r} is a file, not a folder.")
    with contextlib.ExitStack() as stack:
        with _refusing(f"--out: cannot write into {str(existing)!r}"):
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=existing))
        yield Path(scratch)
        with _refusing(f"--out: cannot write into {str(out)!r}"):
            out.mkdir(parents=True, exist_ok=True)
            for file in sorted(Path(scratch).iterdir()):
                os.replace(file, out / file.name)


# ---------------------------------------------------------------------------------- progress


class Stages:
    """Says on stderr what is going on: live on a terminal, one line for each stage elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Stages":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int = 1, *, quietly: bool = False
    ) -> Iterator[Callable[[int], None]]:
        """One stage of `total` steps; yields what to call when some of them are done.

        A quiet one, after which the user may still be refused, writes no line.
        """
        start = time.monotonic()
        writes = self._progress.disable and not quietly
        task = self._progress.add_task(name, total=total)
        if writes:
            print(f"{name} ... ", end="", file=sys.stderr, flush=True)
        try:
            yield lambda done: self._progress.update(task, advance=done)
            self._progress.update(task, completed=total)
        finally:
            if writes:
                print(f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def counted(self, name: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """One stage; yields what to call with the steps that are done by now, and their total."""
        with self.stage(name, total) as advance:
            shown = 0

            def progress(done: int, _: int) -> None:
                nonlocal shown
                advance(done - shown)
                shown = done

            yield progress


# --------------------------------------------------------------------------------- computing


def _attribution(
    stages: Stages,
    model: Any,
    x: jax.Array,
    classes: tuple[jax.Array, jax.Array | None],
    *,
    place: str,
    name: str,
    rule: Rule,
    score: float,
) -> report.Attribution:
    """Integrated gradients of `model` at `x`, part by part, and their completeness gap."""
    total = np.zeros(x.shape, np.float64)
    with stages.stage(f"integrated gradients at {place}", rule.n) as advance:
        for part in in_parts(rule, GRADIENTS_A_CALL):
            total += np.asarray(integrate(model, x, *classes, part))
            advance(part.n)
        values = total.astype(x.dtype)
        gap = float(measure_gap(model, x, *classes, values))
    return report.Attribution(place, name, rule.n, values, score, gap)


def draw_sprites(
    stages: Stages,
    model: Any,
    layer: str,
    folder: Path,
    channels: Collection[int],
    *,
    steps: int = sprites.STEPS,
) -> dict[int, np.ndarray]:
    """Sprites of a layer by channel: those in the registry `folder`, and those that miss there."""
    kept = sprites.registered(layer, folder, steps=steps)
    missing = [channel for channel in channels if kept is None or channel not in kept.units]
    title = f"sprites of {layer}, {len(missing)} to draw"
    drawing = stages.counted(title, len(missing)) if missing else contextlib.nullcontext()
    with drawing as progress:
        found = sprites.spritemap(
            model, layer, folder, channels=channels, steps=steps, progress=progress
        )
    return dict(zip(found.units, found.sprites, strict=True))


def explain(stages: Stages, options: argparse.Namespace) -> report.Explanation:
    """Everything that is computed; options are checked before anything that takes long."""
    if options.sprite_steps < 0:
        raise Refusal(f"--sprite-steps: it must be 0 or more; got {options.sprite_steps}.")
    rule = _rule(options.rule, options.nodes, NODES, "--nodes")
    layer_rule = _rule(options.rule, options.layer_nodes, LAYER_NODES, "--layer-nodes")
    choose("--module", options.module, ("linen", "nnx"))
    with _refusing("packages"):
        path = options.image or pretrained.photo_path("coffee")
        names = pretrained.labels()
    image = read_image(path)
    x = jnp.asarray(pretrained.preprocess(image))
    target = None if options.target is None else _class("--class", options.target)
    against = None if options.against is None else _class("--against", options.against)
    if target is not None:
        _check_contrast(target, against)

    with stages.stage("reading the network", quietly=True), _refusing("packages"):
        if options.module == "nnx":
            model = attrax.from_nnx(pretrained.efficientnet_lite0_nnx())
        else:
            model = attrax.from_linen(*pretrained.efficientnet_lite0())
    with stages.stage("tracing", quietly=True):
        layers = attrax.layers(model, x)
        _check_layer(model, x, options.layer)
    with stages.stage("predicting", quietly=True):
        logits = np.asarray(predict(model, x), np.float64)
    if target is None:
        target = int(logits.argmax())
        _check_contrast(target, against)
    score = float(logits[target] - (0 if against is None else logits[against]))
    classes = jnp.asarray(target), None if against is None else jnp.asarray(against)
    attribute = functools.partial(_attribution, stages, name=options.rule, score=score)

    pixels = attribute(model, x, classes, place="the pixels", rule=rule)
    with stages.stage("the gradient"):
        slope = np.asarray(gradient(model, x, *classes))
    z, tail = cut(model, x, at=options.layer)
    inside = attribute(tail, z, classes, place=options.layer, rule=layer_rule)
    with stages.stage(f"three channel attributions at {options.layer}"):
        key = jax.random.key(0)
        channels = jax.device_get(compare_channels(tail, z, *classes, key))
    activation = np.asarray(z)
    tiles = {}
    if options.sprite_steps:
        on_cpu = jax.default_backend() == "cpu"
        shown = report.shown_channels(activation, channels) if on_cpu else range(z.shape[-1])
        folder = options.out / "sprites"
        tiles = draw_sprites(
            stages, model, options.layer, folder, shown, steps=options.sprite_steps
        )

    steps = np.linspace(0, 1, STEPS_SHOWN)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    return report.Explanation(
        photo=path.name,
        network=f"EfficientNet-Lite0 ({options.module})",
        device=str(next(iter(x.devices()))),
        picture=pretrained.display(x),
        baseline=pretrained.display(np.zeros_like(x)),
        predictions=[
            report.Prediction(names[k], float(probabilities[k]), float(logits[k]))
            for k in np.argsort(-logits)[:5]
        ],
        target=names[target],
        against=None if against is None else names[against],
        gradient=slope,
        pixels=pixels,
        layer=inside,
        channel_rule="riemann_left(100)",
        channels=channels,
        activation=activation,
        sprites=tiles,
        view=np.asarray(pretrained.crop(image).resize((VIEW, VIEW), Image.Resampling.BICUBIC)),
        steps=steps,
        points=pretrained.display(attrax.paths.interpolate(x, None, steps)),
        layers=layers,
    )


def _check_contrast(target: int, against: int | None) -> None:
    if against == target:
        name = pretrained.labels()[target]
        raise Refusal(f"--against: it is the explained class itself, {name!r}.")


def _check_layer(model: Any, x: jax.Array, name: str) -> None:
    """Raises unless the network can be cut there and its channels told apart. Computes nothing."""
    with _refusing("--layer"):
        z = jax.eval_shape(lambda model, x: attrax.cut(model, x, at=name)[0], model, x)
    if not isinstance(z, jax.ShapeDtypeStruct) or len(z.shape) not in (1, 3):
        shapes = ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(z))
        raise Refusal(f"--layer: {name!r} is {shapes}; take one of (height, width, channels).")
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise Refusal(f"--layer: {name!r} is {z.dtype} and has no gradient.")


# ---------------------------------------------------------------------------------- printing


def lines(e: report.Explanation) -> Iterator[str]:
    """The explanation in words and numbers."""
    yield f"{e.layers}\n"
    yield f"{e.photo}, seen by {e.network} on {e.device}\n"
    width = max(len(prediction.name) for prediction in e.predictions)
    for name, probability, logit in e.predictions:
        yield f"  {name:{width}}  {probability:.3f}  logit {logit:6.2f}"
    yield f"\n{e.question} Explained: {e.score_name}, {e.pixels.score:.2f}\n"
    yield f"  {'integrated gradients at':36}{'change':>10}{'sum':>10}{'gap':>10}{'of change':>12}"
    for a in (e.pixels, e.layer):
        where = f"{a.place}, {a.rule}({a.nodes})"
        numbers = f"{a.change:+10.3f}{a.total:+10.3f}{a.gap:+10.3f}{100 * a.relative_gap:10.1f} %"
        yield f"  {where:36}{numbers}"
    if max(e.pixels.relative_gap, e.layer.relative_gap) > report.LARGE_GAP:
        yield "  A gap of more than 5 % is large: take more nodes."
    values = jnp.asarray(e.layer.channels)
    ranking = attrax.rank_channels(values, min(report.SHOWN_CHANNELS, values.size))
    yield f"\n  channels of {e.layer.place}, of {values.size}, in logits"
    yield f"  {e.sides[0]}: {_ranked(ranking.positive_indices, ranking.positive_values, 1)}"
    yield f"  {e.sides[1]}: {_ranked(ranking.negative_indices, ranking.negative_values, -1)}\n"
    if e.sprites and len(e.sprites) < values.size:
        yield f"  sprites of {len(e.sprites)} of {values.size} channels, those shown so far;"
        yield "  a GPU draws all of them, in larger chunks of the same program\n"


def _ranked(indices: jax.Array, values: jax.Array, sign: int) -> str:
    """The channels whose values have the sign of their end of the ranking."""
    pairs = zip(indices.tolist(), values.tolist(), strict=True)
    words = [f"#{channel} {value:+.2f}" for channel, value in pairs if sign * value > 0]
    return "  ".join(words) or "none"


def _command(e: report.Explanation) -> str:
    """What gives this page again."""
    words = ["python", "examples/explain_photo.py", "--image", e.photo, "--class", e.target]
    words += ["--against", e.against] if e.against else []
    words += ["--layer", e.layer.place, "--rule", e.pixels.rule]
    words += ["--nodes", str(e.pixels.nodes), "--layer-nodes", str(e.layer.nodes)]
    return shlex.join(words)


def _run(options: argparse.Namespace) -> None:
    start = time.monotonic()
    with _refusing("packages"):
        report.page_template()
    with _on_device(options.device), _all_or_nothing(options.out) as scratch:
        with Stages() as stages:
            explanation = explain(stages, options)
            with stages.stage("drawing"):
                shown = report.pictures(explanation)
                pages = report.pages(explanation)
                page = report.page(explanation, shown, pages, _command(explanation))
        for picture in shown:
            (scratch / picture.file).write_bytes(picture.png)
        for found in pages:
            found.page.save(scratch / found.file)
        (scratch / "index.html").write_text(page, encoding="utf-8")
        for line in lines(explanation):
            print(line)
    print(
        f"{options.out / 'index.html'}: {len(shown)} pictures in one page of "
        f"{len(page) / 1e6:.1f} MB, which leads to {' and '.join(found.file for found in pages)}, "
        f"after {time.monotonic() - start:.0f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the given arguments and return the exit status."""
    try:
        options = _parser().parse_args(arguments)
        if options.list_classes:
            with _refusing("--list-classes"):
                print("\n".join(f"{i} {name}" for i, name in enumerate(pretrained.labels())))
        else:
            _run(options)
    except Refusal as refusal:
        print(f"explain_photo: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("explain_photo: stopped; only sprites that were finished are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
