"""The gallery: what it computes, keeps and refuses; slow: its pages of a photograph."""

import argparse
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import attrax
import gallery
from attrax import visualise

# ------------------------------------------------------------------------------------- parts


def test_links_are_derivatives_of_lengths():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 2, 3)).astype(np.float32)  # from the place p to the place i, j
    x = rng.normal(size=(2, 1, 5)).astype(np.float32)

    def network(weights, x):
        early = attrax.tap("early", x)
        return attrax.tap("late", jnp.einsum("pqc,pij->ijc", early, weights))

    @jax.jit
    def explain(model, x):
        z, tail = attrax.cut(model, x, at="early")
        return gallery.links_between(tail, z, "late")

    model = attrax.as_model(jax.tree_util.Partial(network, jnp.asarray(weights)))
    links = np.asarray(explain(model, jnp.asarray(x)))
    assert links.shape == (2, 3, 2, 1)
    late = np.einsum("pqc,pij->ijc", x, weights)
    lengths = np.linalg.norm(late, axis=-1, keepdims=True)
    # d|b[i, j]| / d z[p, 0, c] = weights[p, i, j] b[i, j, c] / |b[i, j]|
    expected = np.einsum("pqc,pij,ijc->ijpq", x, weights, late / lengths)
    np.testing.assert_allclose(links, expected, rtol=1e-5, atol=1e-5)
    # Lengths are homogeneous in the activation: what each draws on adds up to it.
    np.testing.assert_allclose(links.sum((2, 3)), lengths[..., 0], rtol=1e-5)


def test_mean_gradients_times_the_activation_add_up():
    model = attrax.as_model(lambda z: jnp.stack([jnp.sum(z**2), jnp.sum(z**3)]))
    found = jax.jit(gallery.mean_gradients)(model, jnp.array([1.0, 2.0]), jnp.array([1, 0]))
    # The means of 3 t^2 z^2 and 2 t z over t: z^2 and z.
    np.testing.assert_allclose(found, [[1.0, 4.0], [1.0, 2.0]], rtol=1e-5)


def subject(folder, name="a cup", late=1.0):
    """Only what `kept` looks at."""
    photo = gallery.Photo(name, Image.new("RGB", (40, 40)), "nobody")
    z = np.full((1, 1, 2), late)
    inside = gallery.Inside(z, z, {}, z, {}, z, z)
    options = argparse.Namespace(sprites=folder)
    return gallery.Subject(photo, np.zeros(1), ("", ""), (0, 0), inside, {}, None, None, options)


def test_pictures_are_drawn_once(tmp_path):
    drawn = []

    def draw(store):
        store.mkdir()
        drawn.append(store)
        return np.full((3, 4, 4, 3), len(drawn), np.uint8)

    one = subject(tmp_path)
    for _ in range(2):
        assert gallery.kept(one, "group", {"size": 4}, draw).max() == 1
    assert len(drawn) == 1 and not drawn[0].exists()
    registered = visualise.spritemaps(tmp_path)
    assert [name.variant for name in registered] == ["group of a cup"]
    # Another recipe, another activation, another photograph.
    assert gallery.kept(one, "group", {"size": 5}, draw).max() == 2
    assert gallery.kept(subject(tmp_path, late=2.0), "group", {"size": 5}, draw).max() == 3
    assert gallery.kept(subject(tmp_path, "b", 2.0), "group", {"size": 5}, draw).max() == 4
    assert len(set(drawn)) == 4 and len(visualise.spritemaps(tmp_path)) == 2


def test_a_photograph_is_taken_once():
    options = argparse.Namespace(image=None, labelled=False, photos=["coffee", "rocket", "coffee"])
    try:
        found = gallery.photos(options)
    except ImportError as error:
        pytest.skip(str(error))
    assert [photo.name for photo in found] == ["coffee", "rocket"]


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--photos", "cofee"], "--photos: there is no 'cofee'; the nearest are coffee"),
        (["--pages", "plots"], "--pages: there is no 'plots'; "),
        (["--sprite-steps", "0"], "--sprite-steps and --tile-steps must be at least 1"),
        (["--image", "missing.png"], "--image: cannot read 'missing.png': No such file"),
        (
            ["--image", *["x/same.png", "y/same.png"]],
            "--image: the files must have different names",
        ),
        (["--image", *(f"x/{i}.png" for i in range(21))], "--image: at most 20 .*; got 21"),
    ],
)
def test_what_cannot_be_made_is_refused(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        for name in ("same", *range(21)):
            Image.new("RGB", (40, 40)).save(tmp_path / folder / f"{name}.png")
    assert gallery.main(arguments) == 2
    printed = capsys.readouterr()
    if "which is not installed" in printed.err:
        pytest.skip(printed.err)
    assert printed.out == ""
    assert re.search(f"^gallery: {message}", printed.err)
    assert not (tmp_path / "out").exists()


def test_pages_that_are_too_large_are_an_error(capsys, tmp_path, monkeypatch):
    sizes = {tmp_path / "a.html": 100, tmp_path / "b.html": gallery.LIMIT + 1}
    monkeypatch.setattr(gallery, "make", lambda options: sizes)
    assert gallery.main(["--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "2 pages, 3.0 MB; the largest, " in printed.out
    assert printed.err == "gallery: a page must stay below 3 MB.\n"


# ------------------------------------------------------------------------------ the whole job


@pytest.mark.soak
def test_every_page_of_a_photograph(capsys, tmp_path):
    out, sprites = tmp_path / "gallery", tmp_path / "sprites"
    arguments = ["--photos", "coffee", "--out", str(out), "--sprites", str(sprites)]
    arguments += ["--sprite-steps", "2", "--tile-steps", "2", "--pages"]
    status = gallery.main([*arguments, "maps", "spatial"])
    printed = capsys.readouterr()
    if "which is not installed" in printed.err:
        pytest.skip(printed.err)
    assert status == 0
    assert "3 pages, " in printed.out
    assert not sprites.exists()  # these pages show none

    assert gallery.main([*arguments, *gallery.PAGES]) == 0
    printed = capsys.readouterr()
    pages = sorted(path.name for path in (out / "coffee").iterdir())
    assert pages == [
        "activation-grid.html",
        "attribution-maps.html",
        "channel-attribution.html",
        "neuron-groups.html",
        "semantic-dictionary-block10.html",
        "semantic-dictionary-block6.html",
        "spatial-attribution.html",
    ]
    assert "8 pages, " in printed.out
    index = (out / "index.html").read_text(encoding="utf-8")
    for page in pages:
        assert f'href="coffee/{page}"' in index
        source = (out / "coffee" / page).read_text(encoding="utf-8")
        assert len(source.encode()) < gallery.LIMIT
        assert ">no picture<" not in source
        assert ">Photograph: Rachel Michetti, CC0; cropped.</p>" in source
    assert "espresso 95 %, cup 1 %. Photograph: Rachel Michetti, CC0; cropped." in index
    groups = (out / "coffee" / "neuron-groups.html").read_text(encoding="utf-8")
    (share,) = re.findall(r"block10 \(its positive activations, (\d+) % of all\)", groups)
    assert 30 < int(share) < 70  # the layer is linear
    kinds = {(name.layer, name.variant) for name in visualise.spritemaps(sprites)}
    assert kinds == {
        ("block6", "channel"),
        ("block10", "channel"),
        ("block10", "group of coffee"),
        ("block10", "position of coffee"),
    }
    assert not list(sprites.rglob("unfinished-*"))


@pytest.mark.soak
def test_attributions_of_the_toy_network_are_those_of_its_classes():
    texts = gallery.toy_texts()
    assert len(texts) == 5
    for text in texts:
        values = np.asarray(text.attribution)
        assert values.shape == (4, 5)
        assert text.truth == text.prediction
        # The probability of a class comes from its words; without any it is neutral.
        if text.truth != "neutral":
            assert values.sum(axis=1).argmax() == gallery.toy_sentiment.CLASSES.index(text.truth)
