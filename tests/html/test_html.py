"""Pages: the numbers, pictures and data in them, that markup in a text is text, and errors."""

import base64
import hashlib
import io
import json
import re
import sys
from html import unescape
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

import attrax
import html_pages
from attrax import html
from attrax.html import _page
from html_pages import CHANNELS, MARKUP, PAGES

pytest.importorskip("jinja2")
Image = pytest.importorskip("PIL.Image")


class Parsed(HTMLParser):
    """What a parser sees in a page: tags, attributes, texts, and the data of the script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        if self.tags and data.strip():
            self.texts.append((self.tags[-1], data))

    def all(self, name):
        return [a for tag, a in zip(self.tags, self.attributes, strict=True) if tag == name]


def data_of(page):
    (found,) = re.findall(r'id="data">(.*?)</script>', page.html)
    return json.loads(found)


def picture_in(url):
    assert url.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) / 255


def unpacked(packed):
    return packed["unit"] * np.frombuffer(base64.b64decode(packed["values"]), "<i2")


@pytest.fixture(scope="module", params=PAGES)
def page(request):
    return PAGES[request.param]()


def test_pages_ask_for_nothing(page):
    parsed = Parsed(page)
    policy = next(a["content"] for a in parsed.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    loaded = [
        a[k]
        for tag, a in zip(parsed.tags, parsed.attributes, strict=True)
        for k in ("src", "href", "action")
        if k in a and tag != "a"
    ]
    assert all(link.startswith("data:") for link in loaded)
    # A link that is followed stays below the folder of the page.
    assert all(re.fullmatch(r"[\w/.%-]+", a["href"]) for a in parsed.all("a"))
    assert not re.search(r"url\((?!data:)|@import|fetch\(|XMLHttpRequest|WebSocket", page.html)


def test_the_policy_names_the_script_of_the_page(page):
    policy = next(a["content"] for a in Parsed(page).all("meta") if "http-equiv" in a)
    allowed = re.findall(r"script-src (.*)$", policy)
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    ]
    assert allowed == ([f"'sha256-{name}'" for name in hashes] or ["'none'"])


def test_markup_in_texts_is_text(page):
    parsed = Parsed(page)
    assert parsed.tags.count("script") == page.html.count("<script>") + ('id="data"' in page.html)
    assert page.html.count("<script>") <= 1
    assert not any(key.startswith("on") for a in parsed.attributes for key in a)
    assert not any(a.get("src") == "x" for a in parsed.attributes)
    assert "<img src=x" not in page.html
    shown = "".join(text for _, text in parsed.texts) + str(parsed.attributes)
    assert "document.hacked = 1" in shown


@pytest.mark.parametrize("name", PAGES)
def test_markup_in_titles_is_text(name):
    parsed = Parsed(PAGES[name](title=MARKUP))
    for tag in ("title", "h1"):
        assert "".join(text for at, text in parsed.texts if at == tag).strip() == MARKUP


def test_every_picture_has_a_text(page):
    parsed = Parsed(page)
    assert all(a["alt"].strip() for a in parsed.all("img"))
    assert all(a.get("aria-label", "").strip() for a in parsed.attributes if a.get("role") in
               ("img", "slider", "application", "table"))  # fmt: skip
    assert parsed.tags.count("h1") == 1
    assert parsed.attributes[parsed.tags.index("html")]["lang"] == "en"


def test_save_keeps_every_byte(page, tmp_path):
    file = page.save(tmp_path / "page.html")
    assert file.read_bytes().decode() == page.html
    assert "\r" not in page.html
    assert page.save(str(file)) == file


def test_notebooks_get_the_page_in_a_frame(page):
    parsed = HTMLParser.__new__(Parsed)
    Parsed.__init__(parsed, html.Page("", page._repr_html_()))
    (frame,) = parsed.all("iframe")
    assert frame["srcdoc"] == page.html
    assert frame["title"] == page.title


def test_repr_is_short(page):
    assert re.fullmatch(r"Page\('[^']+', \d+ kB\)", repr(page))


def test_half_a_surrogate_pair_is_no_character():
    page = html.tokens([attrax.text.Text(["a\ud83d"], [1.0])])
    assert ">a�<" in page.html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (3.0, "3.00"), (0.5, "0.500"), (-12.345, "−12.3"),
        (0.9996, "1.00"), (999.9, "1000"), (123456.7, "123457"), (0.00123, "0.00123"),
        (1.234e-5, "1.23e−5"), (-2.5e7, "−2.50e7"),
    ],
)  # fmt: skip
def test_numbers_keep_their_exponents(value, text):
    assert _page.number(value) == text
    assert _page.signed(value) == (f"+{text}" if value > 0 else text)


def test_columns_have_room_for_the_longest_number():
    assert len("−0.00123") < _page.room_for([0.0, -0.00123, 12.0]) < len("−0.00123") + 1
    effects = {"a": [-1.23e-10, 1.0]}
    room = f"{_page.room_for(effects['a'])}ch"
    assert room in html.features(effects).html
    assert (
        room in html.neuron_groups(np.ones((2, 2, 2)), np.zeros((4, 4)), attributions=effects).html
    )


def test_sums_of_parts_that_cancel_are_zero():
    assert _page.total(np.array([0.1, 0.2, -0.3])) == 0.0
    assert _page.total(np.array([1.0, 1e-5, -1.0])) == pytest.approx(1e-5)
    assert _page.total(np.zeros(2)) == 0.0


def test_pictures_are_kept():
    image = html_pages.image()
    found = picture_in(_page.picture_url("image", image))
    assert found.shape == image.shape
    assert np.abs(found - image).mean() < 0.02
    grey = picture_in(_page.picture_url("image", np.full((8, 8), 102, np.uint8)))
    np.testing.assert_allclose(grey, 0.4, atol=0.02)
    opacity = np.zeros((8, 8, 4))
    opacity[:4] = 1.0
    found = picture_in(_page.picture_url("image", opacity))
    np.testing.assert_array_equal(found[..., 3], opacity[..., 3])


def test_photographs_are_shrunk_and_on_a_page_once():
    photograph = np.random.default_rng(0).integers(0, 256, (1500, 750, 3), np.uint8)
    pages = [
        html.attribution_maps({"a": html_pages.MAP, "b": html_pages.MAP}, photograph),
        html.spatial_attribution(html_pages.between(), photograph),
        html.semantic_dictionary(html_pages.activation(), photograph),
    ]
    for page in pages:
        (url,) = set(re.findall(r"data:image/webp;base64,[\w+/=]+", page.html))
        assert page.html.count(url) == 1
        assert picture_in(url).shape == (1024, 512, 3)
    drawn = [a["aria-label"] for a in Parsed(pages[0]).all("span") if a.get("role") == "img"]
    assert drawn == ["The picture that is explained"] * 3  # and at the top
    # Small ones stay as they are.
    assert _page.photograph(np.zeros((20, 30)), "")["width"] == 30


@pytest.mark.parametrize(
    "make",
    [
        html_pages.activation_grid,
        html_pages.attribution_maps,
        html_pages.channel_attribution,
        html_pages.neuron_groups,
        html_pages.semantic_dictionary,
        html_pages.spatial_attribution,
    ],
)
def test_whose_picture_it_is(make):
    credit = f"Ada, CC BY 2.0 {MARKUP}"
    (line,) = re.findall(r'<p class="quiet credit">(.*?)</p>', make(credit=credit).html, re.DOTALL)
    assert unescape(line) == credit and "<" not in line
    assert 'class="quiet credit"' not in make().html


def test_packed_arrays_come_back():
    values = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(
        unpacked(_page.packed(values)).reshape(3, 4), values, atol=np.abs(values).max() / 65534
    )
    assert not unpacked(_page.packed(np.zeros(3))).any()


# Each page


def test_channels_stand_in_descending_order():
    page = html_pages.channel_attribution()
    first = data_of(page)["methods"][0]
    order = np.argsort(-CHANNELS["Linear"], kind="stable")
    assert first["order"] == order.tolist()
    assert first["values"] == CHANNELS["Linear"][order].tolist()
    shown = [int(a["data-channel"]) for a in Parsed(page).all("li")]
    assert shown[:6] == [*order[:3], *order[-3:]]
    assert len(shown) == 3 * 6
    widths = [float(w) for w in re.findall(r'style="width: ([\d.]+)%', page.html)]
    expected = [abs(v) for name in CHANNELS for v in _ends(CHANNELS[name], 3)]
    assert widths == pytest.approx(np.array(expected) / 3.0 * 100, abs=0.01)


def _ends(values, k):
    ordered = np.sort(values)[::-1]
    return [*ordered[:k], *ordered[-k:]]


def test_the_distribution_is_drawn_to_scale():
    page = html.channel_attribution({"a": [1.0, -4.0, 2.0]})
    up, down = re.findall(r' d="([^"]*)"', page.html)
    # Zero is at 100 of 200, and the largest of all at 3 or 197.
    assert up == "M0,100V51.50h1V75.75h1V100.00h1V100z"
    assert down == "M0,100V100.00h1V100.00h1V197.00h1V100z"


def test_few_channels_are_shown_once():
    page = html.channel_attribution({"a": [1.0, -4.0, 0.0]}, k=2)
    assert [a["data-channel"] for a in Parsed(page).all("li")] == ["0", "2", "1"]
    assert " more<" not in page.html
    assert ">6 more<" in html_pages.channel_attribution().html
    assert "0 positive, 0 negative" in html.channel_attribution({"a": [0.0, 0.0]}).html


def test_channel_attribution_of_another_basis():
    page = html.channel_attribution(
        {"a": [1.0, -4.0]},
        sprites=html_pages.SPRITES[:2],
        caption=html.Caption(word="direction"),
    )
    assert "All 2 directions" in page.html
    assert [a["alt"] for a in Parsed(page).all("img")] == [
        "What direction 0 looks for",
        "What direction 1 looks for",
    ]


def test_a_channel_without_a_sprite_says_so():
    page = html.channel_attribution({"a": [1.0, -4.0]}, sprites={0: html_pages.tile(0)}, k=1)
    assert page.html.count(">no picture<") == 1
    assert len(Parsed(page).all("img")) == 1


def test_sprites_of_a_spritemap():
    from attrax.visualise import Spritemap

    spritemap = Spritemap(html_pages.SPRITES[:2], "lite0", "block1", units=[5, 1])
    sprites = dict(zip(spritemap.units, spritemap.sprites, strict=True))
    page = html.channel_attribution({"a": np.arange(8) - 4.0}, sprites=sprites, k=4)
    (first, second) = Parsed(page).all("img")
    assert (first["alt"], second["alt"]) == ("What channel 5 looks for", "What channel 1 looks for")
    assert np.abs(picture_in(second["src"]) - html_pages.SPRITES[1]).mean() < 0.05


def test_semantic_dictionary_holds_the_top_of_every_position():
    values = html_pages.activation()
    data = data_of(html_pages.semantic_dictionary())
    top = np.argsort(-values, axis=-1, kind="stable")[..., :2]
    assert data["units"] == top.ravel().tolist()
    strongest = np.take_along_axis(values, top, -1).ravel()
    np.testing.assert_allclose(unpacked(data["values"]), strongest, atol=1e-4)
    assert (data["rows"], data["columns"], data["start"]) == (3, 5, [1, 3])
    assert data["limit"] == 4.0
    # Only the sprites that are shown somewhere travel along.
    assert {int(i) for i in data["sprites"]} == set(np.unique(top)) - {7}
    sprite = picture_in(data["sprites"]["6"])
    assert np.abs(sprite - html_pages.SPRITES[6]).mean() < 0.05


def test_semantic_dictionary_of_another_basis():
    directions = np.eye(12)[:3] - np.eye(12)[3:6]
    page = html.semantic_dictionary(
        html_pages.activation() @ directions.T,
        html_pages.image(),
        k=3,
        caption=html.Caption(word="direction"),
    )
    assert "strongest\ndirections" in page.html
    assert ">direction 2<" in page.html
    assert 'class="negative"' in page.html


def test_semantic_dictionary_of_a_silent_layer():
    page = html.semantic_dictionary(np.zeros((2, 2, 3)), np.zeros((4, 4)), k=1)
    assert data_of(page)["limit"] == 1.0
    assert data_of(page)["start"] == [0, 0]


def test_activation_grid_holds_every_tile():
    page, values = html_pages.activation_grid(), html_pages.activation()
    data, parsed = data_of(page), Parsed(page)
    mosaic = picture_in(parsed.all("img")[0]["src"])
    assert mosaic.shape == (3 * 8, 5 * 16, 3)
    centres = mosaic[4::8, 8::16]
    np.testing.assert_allclose(centres, html_pages.tiles()[:, :, 0, 0], atol=0.06)
    strengths = np.linalg.norm(values, axis=-1)
    shares = unpacked(data["shares"]).reshape(3, 5)
    np.testing.assert_allclose(shares, strengths / strengths.max(), atol=1e-4)
    assert data["start"] == [1, 3] == list(np.unravel_index(strengths.argmax(), (3, 5)))
    assert data["largest"] == pytest.approx(strengths[1, 3])
    assert data["units"][:2] == np.argsort(-values[0, 0], kind="stable")[:2].tolist()
    # The tile of the first position is there without a script.
    first = picture_in(parsed.all("img")[2]["src"])
    np.testing.assert_allclose(first[4, 8], html_pages.tiles()[1, 3, 0, 0], atol=0.06)


def test_activation_grid_of_a_silent_layer():
    page = html.activation_grid(
        np.zeros((2, 2, 3)), np.zeros((4, 4)), np.zeros((2, 2, 8, 8, 1)), k=1
    )
    assert unpacked(data_of(page)["shares"]).tolist() == [0.0] * 4
    assert 'strength <span id="strength">0</span>' in page.html


def test_attribution_maps_hold_sums_over_channels():
    page = html_pages.attribution_maps()
    data = data_of(page)
    for found, factor in zip(data["maps"], (1, -1), strict=True):
        expected = factor * html_pages.MAP.ravel()
        np.testing.assert_allclose(unpacked(found), expected, atol=1e-3)
        assert found["scale"] == 4.0
    assert (data["rows"], data["columns"], data["start"]) == (2, 3, [0, 2])
    assert page.html.count("here <b>−4.00</b>") == page.html.count("here <b>+4.00</b>") == 1
    assert page.html.count("sum −0.500") == page.html.count("sum +0.500") == 1
    # Half of the values lie beyond the median.
    scales = data_of(html.attribution_maps({"a": html_pages.MAP}, np.zeros((4, 4)), percentile=50))
    assert scales["maps"][0]["scale"] == 0.75
    silent = html.attribution_maps({"a": np.zeros((2, 2))}, np.zeros((4, 4)))
    assert data_of(silent)["maps"][0]["scale"] == 1.0


def rows_of(page):
    """The cells of every row of a table, without what is drawn."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page.html, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for row in cells]


def test_features_stand_in_order_of_their_magnitude():
    head, *rows, foot = rows_of(html_pages.features())
    assert head == ["feature", "ill", f"well {MARKUP}"]
    assert rows == [
        ["age = 61", "−3.00", "+2.00"],
        [f"drug {MARKUP} = {MARKUP}", "+1.00", "+0.500"],
        ["2 others", "+0.750", "−0.250"],
    ]
    assert foot == ["sum", "−1.25", "+2.25"]
    widths = re.findall(r'style="width: ([\d.]+)%', html_pages.features().html)
    assert [float(w) for w in widths] == pytest.approx(
        [50, 100 / 3, 50 / 3, 25 / 3, 12.5, 12.5 / 3], abs=0.01
    )


def test_a_single_feature_that_is_left_over_is_shown():
    rows = rows_of(html.features({"a": [1.0, -1.0, 0.5]}, [0.12345, -2, "x"], k=2))
    assert [row[0] for row in rows[1:-1]] == [
        "feature 0 = 0.123",
        "feature 1 = −2",
        "feature 2 = x",
    ]
    assert rows_of(html.features({"a": np.zeros(3)}))[1:] == [
        ["feature 0", "0"], ["feature 1", "0"], ["feature 2", "0"], ["sum", "0"],
    ]  # fmt: skip


def test_a_gallery_leads_to_its_pages(tmp_path):
    item = html.Item(np.zeros((900, 600, 3)), {"Channels": "a b/relu6#0?.html"}, "cup")
    page = html.gallery([item], title="Photographs")
    (link,), (image,) = Parsed(page).all("a"), Parsed(page).all("img")
    assert link["href"] == "a%20b/relu6%230%3F.html"
    assert picture_in(image["src"]).shape == (320, 213, 3)
    # A name that looks like a scheme stays a name.
    assert (
        'href="javascript%3Aalert%281%29"'
        in html.gallery([html.Item(np.zeros((2, 2)), {"x": "javascript:alert(1)"})]).html
    )


def sprites_like_real_ones(n, size):
    """Noise with the spectrum of photographs: harder to compress than sprites are."""
    rng = np.random.default_rng(0)
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    spectrum = np.fft.rfft2(rng.normal(size=(n, 3, size, size))) / np.maximum(frequencies, 0.01)
    waves = np.fft.irfft2(spectrum, s=(size, size))
    waves = np.moveaxis(waves / waves.std(axis=(1, 2, 3), keepdims=True), 1, -1)
    return np.round(255 * np.clip(0.5 + 0.2 * waves, 0, 1)).astype(np.uint8)


@pytest.mark.soak
@pytest.mark.parametrize("size", [64, 100])
def test_the_largest_pages_stay_below_3_megabytes(size):
    sprites = sprites_like_real_ones(480, size)
    photograph = sprites_like_real_ones(1, 224)[0]
    # Every channel is among the strongest somewhere.
    z = np.random.default_rng(0).uniform(0, 1, (14, 14, 480))
    for i in range(480):
        z[i // 14 % 14, i % 14, i] += 2
    tiles = sprites[:196].reshape(14, 14, size, size, 3)
    pages = [
        html.semantic_dictionary(z, photograph, sprites, k=6),
        html.activation_grid(z, photograph, tiles, sprites, k=6),
        html.channel_attribution(
            {name: z.sum((0, 1)) for name in "abc"}, photograph, sprites, k=30
        ),
        html.spatial_attribution(
            np.ones((14, 14, 14, 14)), photograph, outputs={str(i): z[..., i] for i in range(20)}
        ),
        html.neuron_groups(np.moveaxis(z[..., :12], -1, 0), photograph, sprites[:12]),
        html.gallery([html.Item(photograph, {"a": "a.html"})] * 20),
    ]
    assert len(data_of(pages[0])["sprites"]) == 480
    for page in pages:
        assert len(page.html.encode()) < 3e6, page
    # And no smaller than that needs.
    assert len(pages[1].html) > 1.5e6


def test_spatial_attribution_of_the_output_alone():
    page = html.spatial_attribution(None, html_pages.image(), outputs=html_pages.OUTPUTS)
    data = data_of(page)
    assert [panel["name"] for panel in data["panels"]] == ["later layer", "output"]
    assert data["start"] == {"panel": 1, "place": 0}
    np.testing.assert_allclose(
        [unpacked(row) for row in data["links"][0]["rows"]],
        [value.ravel() for value in html_pages.OUTPUTS.values()],
        atol=2e-4,
    )


def test_spatial_attribution_of_groups():
    maps = {f"group {i}": np.full((2, 3), float(i)) for i in range(2)}
    page = html.spatial_attribution(
        None,
        html_pages.image(),
        html_pages.SPRITES[:2],
        outputs=maps,
        output="groups",
        caption=html.Caption(word="group"),
    )
    assert "a position or a group" in page.html
    sprites = [a for a in Parsed(page).all("img") if a["alt"] == "What group 1 looks for"]
    assert np.abs(picture_in(sprites[0]["src"]) - html_pages.SPRITES[1]).mean() < 0.05


def test_spatial_attribution_of_two_layers():
    data = data_of(html.spatial_attribution(html_pages.between(), html_pages.image()))
    assert data["start"] == {"panel": 1, "place": 5}
    found = [unpacked(row) for row in data["links"][0]["rows"]]
    np.testing.assert_allclose(found, html_pages.between().reshape(6, 24), atol=2e-4)


def test_spatial_attribution_begins_where_the_first_class_draws_most():
    outputs = {"castle": np.array([[0.0, 1.0, -5.0], [0.0, 0.0, 4.0]]), "tram": np.eye(2, 3)}
    data = data_of(
        html.spatial_attribution(html_pages.between(), html_pages.image(), outputs=outputs)
    )
    assert data["start"] == {"panel": 1, "place": 2}


def test_weak_maps_keep_their_digits():
    between = np.array([1.0, 1e-7])[:, None, None, None] * np.array([[1.0, -0.5, 0.123]])
    data = data_of(html.spatial_attribution(between, html_pages.image()))
    weak = unpacked(data["links"][0]["rows"][1])
    np.testing.assert_allclose(weak, between[1].ravel(), rtol=2e-4)


def test_neuron_groups_of_a_factorisation():
    pytest.importorskip("sklearn")
    from attrax import visualise

    z = np.zeros((2, 3, 4), np.float32)
    z[0, :, 0], z[1, :, 2] = 3.0, 1.0
    groups = visualise.neuron_groups(z, 2, key=jax.random.key(0))
    gradient = np.ones((2, 3, 4))
    gradient[1] = -2.0
    effect = np.einsum("khw,kc,hwc->k", *groups, gradient)
    page = html.neuron_groups(groups.positions, html_pages.image(), attributions={"castle": effect})
    # The groups are the rows of the picture: 3 positions of 3, and 3 of 1 with gradient -2.
    assert "+9.00" in page.html and "−6.00" in page.html
    assert data_of(page)["shares"] == ["75 %", "25 %"]


def test_groups_say_what_they_leave_out():
    said = "negative activations\nbelong to no group"
    assert said in html_pages.neuron_groups().html
    # Nothing is said of a score where there is none.
    assert said not in html.neuron_groups(np.ones((2, 2, 2)), np.zeros((4, 4))).html


def test_group_colours_differ():
    colours = [html._neuron_groups.group_colour(i) for i in range(20)]
    assert len(set(colours)) == 20


# What is refused


def test_what_is_refused():
    image, act = np.zeros((4, 4, 3)), np.zeros((2, 2, 3))
    with pytest.raises(ValueError, match=r"`activation` must have shape \(h, w, N\); got \(2, 3\)"):
        html.semantic_dictionary(act[0], image)
    with pytest.raises(ValueError, match=r"`k` must lie in \[1, 3\], the number of groups; got 4"):
        html.semantic_dictionary(act, image, caption=html.Caption(word="group"))
    with pytest.raises(ValueError, match="`names` must hold 3 names, one for each channel; got"):
        html.semantic_dictionary(act, image, k=1, names=["a"])
    with pytest.raises(ValueError, match=r"`sprites` .* for each, .* got \(2, 8, 8, 3\) for 3"):
        html.semantic_dictionary(act, image, np.zeros((2, 8, 8, 3)), k=1)
    with pytest.raises(ValueError, match=r"`sprites` .* for each, .* got \(3, 8, 8, 3\) for 2"):
        html.neuron_groups(act, image, np.zeros((3, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"`sprites` .* for each, .* got \(3, 8, 8, 3\) for 1"):
        html.spatial_attribution(
            None, image, np.zeros((3, 8, 8, 3)), outputs={"a": np.zeros((2, 2))}
        )
    with pytest.raises(ValueError, match=r"`sprites\[1\]` must lie in \[0, 1\]"):
        html.channel_attribution({"a": [0.0, 1.0]}, sprites={1: np.full((8, 8, 3), 2.0)})
    with pytest.raises(ValueError, match=r"`image` must be one image.* got \(4,\)"):
        html.semantic_dictionary(act, np.zeros(4), k=1)
    with pytest.raises(ValueError, match="at least one title and its values"):
        html.channel_attribution({})
    with pytest.raises(ValueError, match=r"must all have the same shape; got \{'a': \(1,\), 'b'"):
        html.channel_attribution({"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"`attributions\['a'\]` must have shape \(C,\)"):
        html.channel_attribution({"a": [[1.0]]})
    with pytest.raises(ValueError, match="`k` must be at least 1; got 0"):
        html.channel_attribution({"a": [1.0]}, k=0)
    with pytest.raises(ValueError, match="One of `between` and `outputs` must be given"):
        html.spatial_attribution(None, image)
    with pytest.raises(ValueError, match=r"`between` must have shape \(h2, w2, h1, w1\); got"):
        html.spatial_attribution(act, image)
    with pytest.raises(ValueError, match=r"shape of the later layer, \(2, 3\); got \(3, 2\)"):
        html.spatial_attribution(html_pages.between(), image, outputs={"a": np.zeros((3, 2))})
    with pytest.raises(ValueError, match=r"one picture a position, \(2, 2, th, tw, 3\); got \(2,"):
        html.activation_grid(act, image, np.zeros((2, 3, 8, 8, 3)), k=1)
    with pytest.raises(ValueError, match=r"`tiles` must lie in \[0, 1\] or be uint8"):
        html.activation_grid(act, image, np.full((2, 2, 8, 8, 3), 2.0), k=1)
    with pytest.raises(ValueError, match="`items` must hold at least one picture"):
        html.gallery([])
    with pytest.raises(ValueError, match="at least one title and its values"):
        html.attribution_maps({}, image)
    with pytest.raises(ValueError, match=r"`attributions\['a'\]` must be that of a picture"):
        html.attribution_maps({"a": [1.0]}, image)
    with pytest.raises(ValueError, match=r"all have the same shape; got \{'a': \(2, 2\), 'b'"):
        html.attribution_maps({"a": act, "b": act[:1]}, image)
    with pytest.raises(ValueError, match=r"`percentile` must lie in \(0, 100\]"):
        html.attribution_maps({"a": act}, image, percentile=0)
    with pytest.raises(ValueError, match="at least one title and its values"):
        html.features({})
    with pytest.raises(
        ValueError, match=r"all have the same shape; got \{'a': \(1,\), 'b': \(2,\)\}"
    ):
        html.features({"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"one value a feature; got \(1, 1\)"):
        html.features({"a": [[1.0]]})
    for x, shape in (([1, 2], r"\(2,\)"), ("age", "a str"), ([[1]], r"\(1, 1\)")):
        with pytest.raises(ValueError, match=rf"or text a feature, \(1,\); got {shape}"):
            html.features({"a": [1.0]}, x)
    with pytest.raises(ValueError, match="`x` must be finite"):
        html.features({"a": [1.0]}, [np.nan])
    with pytest.raises(TypeError, match="`x` must hold real numbers; got a ndarray"):
        html.features({"a": [1.0]}, [None])
    with pytest.raises(ValueError, match="`names` must hold 1 names, one for each feature"):
        html.features({"a": [1.0]}, names=["a", "b"])
    with pytest.raises(ValueError, match="`k` must be at least 1; got 0"):
        html.features({"a": [1.0]}, k=0)
    for file in ("", "/a.html", "a/../../b.html", "//host/a.html"):
        with pytest.raises(ValueError, match=f"below the folder of the gallery, .* got {file!r}"):
            html.gallery([html.Item(image, {"a": file})])
    with pytest.raises(ValueError, match="`positions` must not be negative; got -1"):
        html.neuron_groups(act - 1, image)
    with pytest.raises(ValueError, match=r"one value a group, \(2,\); got \(3,\)"):
        html.neuron_groups(act, image, attributions={"a": [1.0, 2.0, 3.0]})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    _page._environment.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'attrax\[html\]'"):
        html.tokens([attrax.text.Text(["a"], [1.0])])
    monkeypatch.undo()
    assert MARKUP not in html_pages.tokens().html
