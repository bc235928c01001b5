"""Pictures of attributions that are not images: tables, time series, curves, convergence.

    python examples/plots.py

Three small networks, trained on the spot in a few seconds each:

1. **Diabetes**: how far the disease has gone a year later, from ten measurements of 442 patients
   (scikit-learn's data). One patient as bars, and all of them as a summary.
2. **Earthquakes**: how far away one was, from the record of a station. The quick P wave shakes the
   ground up and down, the slow S wave sideways; the distance is the time between them. The records
   are made here, so it is known where a network must look.
3. **Digits**: scikit-learn's handwriting. Insertion curves of three rankings of the pixels, and how
   four rules of quadrature converge.

Writes `out/plots.png`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

import attrax
from attrax import metrics, plot, quadrature, scores
from attrax.plot import Convergence

RATE, SECONDS = 10, 20  # of a record: samples a second, and its length
P_SPEED, S_SPEED = 6.0, 3.5  # km/s
SHOWN = 100  # examples of the curves
STEPS = 32  # of the curves
RANKINGS = ("integrated gradients", "gradient", "random")


class Network(linen.Module):
    """A value in equal parts, all read in the same way, and then together. Smooth."""

    outputs: int
    parts: int = 1

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(linen.Dense(32)(x.reshape(self.parts, -1)))
        x = jnp.tanh(linen.Dense(64)(x.reshape(-1)))
        return linen.Dense(self.outputs)(x)


def fit(
    network: Network,
    xs: np.ndarray,
    ys: np.ndarray,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    steps: int,
    decay: float = 0.0,
    seed: int = 0,
) -> attrax.Model:
    """The network, trained by Adam on `mean loss(outputs, y)` over batches of 128."""
    apply: Callable[..., Any] = network.apply
    optimiser = optax.adamw(optax.cosine_decay_schedule(4e-3, steps), weight_decay=decay)

    @jax.jit
    def run(xs, ys, key):
        def batch_loss(variables, rows):
            outputs = jax.vmap(lambda x: apply(variables, x))(xs[rows])
            return jnp.mean(jax.vmap(loss)(outputs, ys[rows]))

        def step(state, key):
            variables, moments = state
            rows = jax.random.randint(key, (128,), 0, len(xs))
            updates, moments = optimiser.update(
                jax.grad(batch_loss)(variables, rows), moments, variables
            )
            return (optax.apply_updates(variables, updates), moments), None

        first, rest = jax.random.split(key)
        variables = network.init(first, xs[0])
        start = variables, optimiser.init(variables)
        return jax.lax.scan(step, start, jax.random.split(rest, steps))[0][0]

    variables = run(jnp.asarray(xs), jnp.asarray(ys), jax.random.key(seed))
    return attrax.from_linen(network, variables)


def squared(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.square(outputs[0] - y)


def first_output(model: attrax.Model) -> Callable[[jax.Array], jax.Array]:
    return lambda x: scores.logit(0)(model(x))


# --------------------------------------------------------------------------------------- tables


class Patients(NamedTuple):
    """Attributions of the predicted progression against a patient of mean measurements."""

    attributions: np.ndarray  # (patients, measurements), points of the scale of the disease
    measurements: np.ndarray  # likewise, in their own units
    names: list[str]
    error: float  # root mean square, of the patients that the network was not trained on
    spread: float  # of what is predicted


def diabetes() -> Patients:
    """A network that predicts the progression of the disease, and what it looks at.

    Raises:
        ImportError: scikit-learn is missing.
    """
    data = _sklearn("load_diabetes")(scaled=False)
    xs = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    mean, spread = data.target.mean(), data.target.std()
    xs, ys = xs.astype("float32"), ((data.target - mean) / spread).astype("float32")
    tested = np.arange(len(xs)) % 4 == 0
    model = fit(Network(1), xs[~tested], ys[~tested], squared, steps=80, decay=0.3)

    @jax.jit
    def explain(model, xs):
        fn = first_output(model)
        return jax.vmap(fn)(xs), jax.vmap(lambda x: attrax.integrated_gradients(fn, x))(xs)

    predicted, attributions = explain(model, jnp.asarray(xs))
    error = spread * np.sqrt(np.mean((predicted - ys)[tested] ** 2))
    names = ["age", "sex", "body mass index", "blood pressure", "cholesterol", "LDL", "HDL"]
    names += ["cholesterol / HDL", "log triglycerides", "blood sugar"]
    return Patients(
        spread * np.asarray(attributions), data.data, names, float(error), float(spread)
    )


# --------------------------------------------------------------------------------- time series


class Records(NamedTuple):
    """What a station writes down of earthquakes: velocities up, north and east."""

    waves: np.ndarray  # (n, samples, 3), in mm/s
    distances: np.ndarray  # km
    p_times: np.ndarray  # when each wave arrives, in s after the record begins
    s_times: np.ndarray


def earthquakes(n: int, *, seed: int) -> Records:
    """Records of n earthquakes 20 to 80 km away. When a record begins says nothing."""
    rng = np.random.default_rng(seed)
    distances, azimuths = rng.uniform(20.0, 80.0, n), rng.uniform(0.0, 2 * np.pi, n)
    p_times = rng.uniform(2.0, 6.0, n)
    s_times = p_times + distances * (1 / S_SPEED - 1 / P_SPEED)
    times = np.arange(RATE * SECONDS)[None] / RATE

    def wave(arrival, frequency, decay):
        since = times - arrival[:, None]
        swing = np.sin(2 * np.pi * frequency * since) * np.exp(-since / decay)
        return np.where(since > 0.0, swing, 0.0)[..., None]

    north, east = np.cos(azimuths), np.sin(azimuths)
    p = np.stack([np.ones(n), 0.3 * north, 0.3 * east], axis=-1)[:, None]
    s = np.stack([np.full(n, 0.3), -1.5 * east, 1.5 * north], axis=-1)[:, None]
    waves = p * wave(p_times, 2.0, 1.0) + s * wave(s_times, 1.0, 2.0)
    waves += 0.03 * rng.normal(size=waves.shape)
    return Records(waves.astype("float32"), distances.astype("float32"), p_times, s_times)


class Explained(NamedTuple):
    """Records that the network was not trained on, and what their distances are read from."""

    records: Records
    attributions: np.ndarray  # like `waves`, in km, against silence
    predicted: np.ndarray  # km


def distances(n: int = 64) -> Explained:
    """A network that reads the distance, explained on n new records."""
    known, new = earthquakes(8192, seed=1), earthquakes(n, seed=2)
    scale, middle = 20.0, 50.0
    network = Network(1, parts=SECONDS)  # reads seconds
    model = fit(network, known.waves, (known.distances - middle) / scale, squared, steps=2000)

    @jax.jit
    def explain(model, waves):
        fn = first_output(model)
        return jax.vmap(fn)(waves), jax.vmap(lambda x: attrax.integrated_gradients(fn, x))(waves)

    predicted, attributions = explain(model, jnp.asarray(new.waves))
    return Explained(new, scale * np.asarray(attributions), scale * np.asarray(predicted) + middle)


# ---------------------------------------------------------------------- curves and convergence


class Digits(NamedTuple):
    """A network that reads digits, and digits that it was not trained on."""

    model: attrax.Model
    xs: jax.Array  # (n, 8, 8), from 0 to 1
    ys: jax.Array
    accuracy: float


def digits() -> Digits:
    """Raises ImportError when scikit-learn is missing."""
    data = _sklearn("load_digits")()
    xs, ys = (data.images / 16).astype("float32"), data.target
    loss = optax.softmax_cross_entropy_with_integer_labels
    tested = np.arange(len(xs)) % 4 == 0
    model = fit(Network(10), xs[~tested], ys[~tested], loss, steps=400, decay=0.05)
    xs, ys = jnp.asarray(xs[tested]), jnp.asarray(ys[tested])
    predicted = jax.jit(lambda model, xs: jax.vmap(model)(xs).argmax(axis=1))(model, xs)
    return Digits(model, xs, ys, float(jnp.mean(predicted == ys)))


def explain_digit(data: Digits, i: int) -> jax.Array:
    """What each pixel adds to the logit of the label, `(8, 8)`."""

    @jax.jit
    def explain(model, x, y):
        return attrax.integrated_gradients(lambda x: scores.logit(y)(model(x)), x)

    return explain(data.model, data.xs[i], data.ys[i])


def insertion_curves(data: Digits) -> dict[str, np.ndarray]:
    """The probability of the label while pixels are put in, for three rankings, `(n, points)`."""

    @jax.jit
    def measure(model, xs, ys, keys):
        def one(x, y, key):
            def fn(x):
                return scores.probability(y)(model(x))

            rankings = (
                attrax.integrated_gradients(fn, x),
                attrax.gradient(fn, x),
                jax.random.normal(key, x.shape),
            )
            return [metrics.insertion_curve(fn, ranking, x, steps=STEPS) for ranking in rankings]

        return jax.vmap(one)(xs, ys, keys)

    keys = jax.random.split(jax.random.key(0), SHOWN)
    found = measure(data.model, data.xs[:SHOWN], data.ys[:SHOWN], keys)
    return dict(zip(RANKINGS, map(np.asarray, found), strict=True))


def convergences(data: Digits, i: int = 0) -> dict[str, Convergence]:
    """Errors of four rules, their estimates from nested rules, and completeness gaps."""
    x, y = data.xs[i], data.ys[i]
    factories = {
        "left Riemann sum": (quadrature.riemann_left, (4, 8, 16, 32, 64, 128)),
        "trapezoid": (quadrature.trapezoid, (5, 9, 17, 33, 65, 129)),
        "Clenshaw-Curtis": (quadrature.clenshaw_curtis, (5, 9, 17, 33)),
        "Gauss-Legendre": (quadrature.gauss_legendre, (4, 6, 8, 12, 16)),
    }

    @jax.jit
    def integrate(model, x, y, rule):
        def fn(x):
            return scores.logit(y)(model(x))

        found = attrax.integrated_gradients(fn, x, rule=rule, batch_size=32)
        return found, metrics.completeness_gap(fn, found, x)

    with jax.enable_x64(True):
        x, model = jnp.asarray(x, "float64"), jax.tree.map(_wide, data.model)
        best = integrate(model, x, y, quadrature.gauss_legendre(256))[0]
        size = jnp.sum(jnp.abs(best))
        runs = {}
        for name, (factory, counts) in factories.items():
            errors, estimates, gaps = [], [], []
            for rule in map(factory, counts):
                found, gap = integrate(model, x, y, rule)
                errors.append(float(jnp.sum(jnp.abs(found - best)) / size))
                gaps.append(float(jnp.abs(gap) / size))
                if factory is quadrature.clenshaw_curtis:
                    coarse = integrate(model, x, y, factory((rule.n + 1) // 2))[0]
                    estimates.append(float(jnp.sum(jnp.abs(found - coarse)) / size))
            runs[name] = Convergence(counts, errors, estimates or None, gaps)
    return runs


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype("float64") if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _sklearn(loader: str) -> Callable[..., Any]:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "This example reads data of scikit-learn, which is not installed: "
            "pip install scikit-learn",
            name="sklearn",
        ) from error
    return getattr(datasets, loader)


# ------------------------------------------------------------------------------------- pictures


def draw_table(patients: Patients, i: int, left: Axes, right: Axes) -> None:
    """One patient, and all of them."""
    units, names = "points", patients.names
    found, values = patients.attributions, patients.measurements
    title = "Why this patient? Progression of diabetes"
    plot.features(found[i], values[i], names, k=7, units=units, title=title, ax=left)
    plot.summary(found, values, names, k=7, units=units, title="All 442 patients", ax=right)


def draw_series(explained: Explained, i: int, ax: Axes) -> None:
    """One record, with the arrivals of both waves."""
    records, found = explained.records, explained.attributions[i]
    plot.time_series(
        found,
        records.waves[i],
        np.arange(len(found)) / RATE,
        channels=["up (mm/s)", "north (mm/s)", "east (mm/s)"],
        units="km",
        time_units="s",
        title=f"Which moments say that it is {explained.predicted[i]:.0f} km away? "
        f"(it is {records.distances[i]:.0f})",
        ax=ax,
    )
    panels = [panel for panel in ax.child_axes[:3] if isinstance(panel, Axes)]
    for name, time in {"P": records.p_times[i], "S": records.s_times[i]}.items():
        for panel in panels:
            panel.axvline(time, color="0.2", linestyle=":", linewidth=1.0)
        panel = panels[0]
        panel.annotate(name, (time, 0.84), xycoords=panel.get_xaxis_transform(), xytext=(-4, 0),
                       textcoords="offset points", ha="right")  # fmt: skip


def picture(patients: Patients, explained: Explained, data: Digits) -> Figure:
    """All of it on one sheet."""
    engine = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    figure = Figure(figsize=(15.0, 13.5), layout=engine)
    # Every picture has margins of its own.
    parts = np.asarray(figure.subfigures(3, 2, wspace=0.02, hspace=0.02))
    axes = [part.subplots() for part in parts.flat]
    draw_table(patients, 9, *axes[:2])
    draw_series(explained, 0, axes[2])
    found = explain_digit(data, 0)
    plot.signed(found, units="logit", title=f"Which pixels say {int(data.ys[0])}?", ax=axes[3])
    plot.curves(
        insertion_curves(data),
        score="probability of the label",
        features="pixels inserted",
        title=f"Insertion, {SHOWN} digits",
        ax=axes[4],
    )
    title = "Convergence of integrated gradients of a digit"
    plot.convergence(convergences(data), tolerance=1e-3, title=title, ax=axes[5])
    return figure


def main() -> None:
    """Train, explain and draw."""
    patients = diabetes()
    print(
        f"diabetes: predicted to {patients.error:.0f} points, of a spread of {patients.spread:.0f}"
    )
    explained = distances()
    off = np.abs(explained.predicted - explained.records.distances)
    print(f"earthquakes: predicted to {off.mean():.1f} km, of 20 to 80")
    data = digits()
    print(f"digits: {data.accuracy:.1%} right")
    file = Path("out") / "plots.png"
    file.parent.mkdir(exist_ok=True)
    picture(patients, explained, data).savefig(file, dpi=90)
    print(file)


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"plots: {error}", file=sys.stderr)
        sys.exit(2)
