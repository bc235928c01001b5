"""A page of every kind, made of data whose answers are known, with markup in every text."""

import numpy as np

import attrax
from attrax import html

MARKUP = (
    "</script><script>document.hacked = 1</script><img src=x onerror='document.hacked = 2'>&amp;"
)
ROWS, COLUMNS, N = 3, 5, 12  # not square


def tile(i, size=24):
    """A sprite: stripes of a direction and a colour of its own."""
    y, x = np.mgrid[:size, :size] / size
    wave = 0.5 + 0.5 * np.sin(9 * (x * np.cos(i) + y * np.sin(i)))
    colour = 0.5 + 0.5 * np.cos(2.1 * i + np.array([0.0, 2.0, 4.0]))
    return wave[..., None] * colour


def image(height=120, width=200):
    y, x = np.mgrid[:height, :width] / width
    return np.stack([0.2 + 0.6 * x, 0.3 + 0.6 * y, 0.5 + 0.3 * np.sin(20 * x * y)], axis=-1)


SPRITES = np.stack([tile(i) for i in range(N)])


def activation():
    """Channel `(3 row + column) mod N` is strongest at a position, most of all at (1, 3)."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.0, 1.0, (ROWS, COLUMNS, N))
    for row in range(ROWS):
        for column in range(COLUMNS):
            values[row, column, (3 * row + column) % N] = 2.0 + 0.1 * row
    values[1, 3, 6] = 4.0
    return values


CHANNELS = {
    "Linear": np.array([0.5, -2.0, 3.0, 0.0, 0.25, -0.125, 1.5, -0.75, 0.1, -0.2, 0.3, 2.5]),
    f"Path {MARKUP}": np.linspace(-3, 1, N),
    "Stochastic path": 1e-5 * np.arange(N) ** 3,
}


def tokens(**options):
    return html.tokens(
        [
            attrax.text.Text(
                ["not", "good", MARKUP, "", "שלום", "\n", "movie"],
                [[0.5, -2.0, 0.25, 0.0, 8.0, 1.0, -0.001], np.linspace(-1, 1, 7)],
                truth="negative",
                prediction=f"positive {MARKUP}",
            ),
            attrax.text.Text(["fine"] * 40, np.tile([np.linspace(-2, 2, 40)], (2, 1)), "negative"),
        ],
        classes=["negative", f"positive {MARKUP}"],
        limit=2.0,
        units="logits",
        **options,
    )


def caption(**options):
    return html.Caption(alt=f"A castle {MARKUP}", **options)


def channel_attribution(**options):
    return html.channel_attribution(
        CHANNELS,
        image(),
        SPRITES,
        k=3,
        classes=("for castle", f"for {MARKUP}"),
        caption=caption(layer=f"block {MARKUP}", units="logits", **options),
    )


def semantic_dictionary(**options):
    sprites = {i: SPRITES[i] for i in range(N) if i != 7}
    names = [f"channel {i}" for i in range(N)]
    names[5] = MARKUP
    return html.semantic_dictionary(
        activation(),
        image(),
        sprites,
        k=2,
        names=names,
        caption=caption(layer=f"block {MARKUP}", **options),
    )


def between():
    """A position of the later layer, (2, 3), draws on one of the earlier, (4, 6), and on (0, 0)."""
    values = np.zeros((2, 3, 4, 6))
    for i in range(2):
        for j in range(3):
            values[i, j, 2 * i + 1, 2 * j + 1] = 1.0 + i + j
            values[i, j, 0, 0] = -0.5
    return values


OUTPUTS = {
    "castle": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 6.0]]),
    f"tram {MARKUP}": np.array([[-2.0, 0.0, 0.0], [0.0, 0.0, 0.5]]),
}


def spatial_attribution(**options):
    return html.spatial_attribution(
        between(),
        image(),
        {1: SPRITES[1]},
        outputs=OUTPUTS,
        layers=("block1", f"block2 {MARKUP}"),
        caption=caption(**options),
    )


def neuron_groups(**options):
    positions = np.zeros((3, ROWS, COLUMNS))
    positions[0, 0, :] = 2.0
    positions[1, :, 4] = 1.0
    positions[2, 2, 0] = 3.0
    return html.neuron_groups(
        positions,
        image(),
        SPRITES[:3],
        names=["sky", "edge", f"corner {MARKUP}"],
        attributions={"castle": [1.0, -0.5, 0.0], f"tram {MARKUP}": [0.25, 0.5, 1.0]},
        caption=caption(**options),
    )


def tiles(height=8, width=16):
    """A tile a position, `(3, 5, 8, 16, 3)`, each with one colour of its own; not square."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    colours = np.stack([0.2 + 0.3 * row, 0.1 + 0.2 * column, 0.9 - 0.2 * row], axis=-1)
    return np.broadcast_to(colours[:, :, None, None], (ROWS, COLUMNS, height, width, 3))


def activation_grid(**options):
    sprites = {i: SPRITES[i] for i in range(N) if i != 7}
    names = [f"channel {i}" for i in range(N)]
    names[5] = MARKUP
    return html.activation_grid(
        activation(),
        image(),
        tiles(),
        sprites,
        k=2,
        names=names,
        caption=caption(layer=f"block {MARKUP}", units=MARKUP, **options),
    )


MAP = np.array([[0.0, 1.0, -4.0], [2.0, 0.5, 0.0]])


def attribution_maps(**options):
    """Not square, and in two forms: of positions, and of positions and channels."""
    maps = {"Gradient": MAP, f"Integrated {MARKUP}": np.stack([MAP, -2 * MAP], axis=-1)}
    return html.attribution_maps(
        maps,
        image(),
        percentile=100.0,
        classes=("for castle", f"for {MARKUP}"),
        caption=caption(units="logits", **options),
    )


def features(**options):
    return html.features(
        {"ill": [0.5, -3.0, 0.25, 1.0], f"well {MARKUP}": [0.0, 2.0, -0.25, 0.5]},
        ["no", 61, 0.12345, MARKUP],
        ["smokes", "age", "fat", f"drug {MARKUP}"],
        k=2,
        classes=("raises", f"lowers {MARKUP}"),
        units="logits",
        **options,
    )


def gallery(**options):
    links = {"Channels": "coffee/channels.html", f"Dictionary {MARKUP}": f"coffee/{MARKUP}.html"}
    item = html.Item(image(), links, f"espresso {MARKUP}", f"61 % {MARKUP}", f"A cup {MARKUP}")
    return html.gallery([item, html.Item(image()[:, :40])], text=MARKUP, **options)


PAGES = {
    make.__name__: make
    for make in (
        tokens,
        channel_attribution,
        semantic_dictionary,
        spatial_attribution,
        neuron_groups,
        activation_grid,
        attribution_maps,
        features,
        gallery,
    )
}
