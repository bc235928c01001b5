"""Pages in a real browser: pointer, touch and keyboard, light and dark, narrow and wide.

Chromium comes with the system (`apt install chromium`) or with `playwright install chromium`.
"""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import html_pages
from attrax.html import Item, activation_grid, features, gallery, neuron_groups, tokens
from attrax.text import Text
from html_pages import MARKUP, PAGES

pytestmark = pytest.mark.soak

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
KEYS = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown")

# The lowest contrast of any text on the page with what is behind it, and that text.
CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
  };
  let lowest = [21, ""];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || !element.getClientRects().length) continue;
    if (element.closest(".hidden, [hidden]")) continue;
    const [a, b] = [parse(getComputedStyle(element).color), behind(element)].map(luminance);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, node.textContent];
  }
  return lowest;
}"""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: make .venv/dev")
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = own if own.exists() else next(filter(None, map(shutil.which, NAMES)), None)
        if path is None:
            pytest.skip("no Chromium: apt install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a page as a file; at the end of the test nothing may have gone wrong or out."""
    contexts, said, asked = [], [], []

    def opened(page, *, width=1280, height=900, scheme="light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        content = page if isinstance(page, str) else page.html
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_bytes(content.encode())
        tab.goto(file.as_uri())
        return tab

    opened.said = said
    yield opened
    for context in contexts:
        assert all(tab.evaluate("document.hacked") is None for tab in context.pages)
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []


def centre(tab, selector, row, column, rows, columns):
    """The point in the middle of a position of a grid."""
    box = tab.locator(selector).bounding_box()
    return (
        box["x"] + box["width"] * (column + 0.5) / columns,
        box["y"] + box["height"] * (row + 0.5) / rows,
    )


def pixels(tab, selector):
    """The map over a photograph, `(rows, columns, 4)`."""
    size, values = tab.evaluate(
        """(selector) => {
          const drawn = document.querySelector(selector + " canvas");
          const { width, height } = drawn;
          const copy = Object.assign(document.createElement("canvas"), { width, height });
          const context = copy.getContext("2d", { willReadFrequently: true });
          context.drawImage(drawn, 0, 0);
          return [[height, width, 4], [...context.getImageData(0, 0, width, height).data]];
        }""",
        selector,
    )
    return np.reshape(values, size)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_reads_well(open_page, name, width, scheme):
    tab = open_page(PAGES[name](title=f"Title {MARKUP}"), width=width, scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    images = tab.locator("img")
    assert all(image.get_attribute("alt").strip() for image in images.all())
    assert tab.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth)")
    background = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == {"light": "rgb(251, 250, 248)", "dark": "rgb(22, 23, 26)"}[scheme]
    contrast, text = tab.evaluate(CONTRAST)
    assert contrast >= 4.5, text


@pytest.mark.parametrize("width", [360, 1280])
def test_long_numbers_stay_in_their_column(open_page, width):
    values = [-1.23e-10, -0.00123, 123456.0]
    pages = (
        neuron_groups(
            np.ones((3, 2, 2)),
            html_pages.image(),
            html_pages.SPRITES[:3],
            attributions={"castle": values, "a tram of two carriages": values},
        ),
        features({"castle": values, "tram": values}),
    )
    for page in pages:
        tab = open_page(page, width=width)
        numbers = tab.locator(".effects > .number, td .number")
        sizes = numbers.evaluate_all("(all) => all.map((e) => [e.scrollWidth, e.clientWidth])")
        assert len(sizes) >= 6
        assert all(needed <= there for needed, there in sizes)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_walked_by_keyboard(open_page, name):
    tab = open_page(PAGES[name]())
    seen = set()
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement === document.body"):
            break
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        seen.add(tab.evaluate("document.activeElement.className"))
        for key in KEYS:
            tab.keyboard.press(key)
    else:
        pytest.fail("The focus does not leave the page.")
    # A table has nothing to choose.
    assert seen or name == "features"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_shows_something_without_scripts(open_page, name):
    tab = open_page(PAGES[name](), java_script_enabled=False)
    assert tab.locator("h1").is_visible()
    assert tab.locator(".token, .photograph img, .picture, td").first.is_visible()
    if 'class="sprite' in tab.content():
        assert tab.locator(".sprite img").first.is_visible()


def test_tokens_tell_their_values(open_page):
    tab = open_page(html_pages.tokens())
    tip, cells = tab.locator("#tip"), tab.locator(".tokens")
    token = cells.nth(0).locator(".token")
    assert tip.is_hidden()
    token.nth(1).hover()
    assert tip.inner_text() == "−2.00 logits"
    # Beyond the scale: the colour of its end, and its own number.
    token.nth(4).hover()
    assert tip.inner_text() == "+8.00 logits"
    assert (
        token.nth(4).evaluate("(e) => getComputedStyle(e).backgroundColor") == "rgb(33, 102, 172)"
    )
    tab.mouse.move(2, 2)
    assert tip.is_hidden()
    token.nth(0).focus()
    for key, value in (
        ("ArrowRight", "−2.00"),
        ("End", "−0.00100"),
        ("ArrowDown", "+1.00"),
        ("Home", "−1.00"),
        ("ArrowUp", "+0.500"),
        ("ArrowLeft", "+0.500"),
    ):
        tab.keyboard.press(key)
        assert tip.inner_text() == f"{value} logits"
    tab.keyboard.press("Escape")
    assert tip.is_hidden()
    assert cells.nth(0).locator("[tabindex='0']").count() == 1


def test_tokens_in_writing_from_right_to_left(open_page):
    tab = open_page(tokens([Text(["שלום", "עולם"], [1.0, -1.0])]))
    first, second = tab.locator(".token").all()
    assert first.bounding_box()["x"] > second.bounding_box()["x"]
    first.focus()
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("#tip").inner_text() == "−1.00"


def test_markup_is_text(open_page):
    tab = open_page(html_pages.tokens())
    token = tab.locator(".tokens").nth(0).locator(".token").nth(2)
    assert token.evaluate("(e) => e.firstChild.textContent") == MARKUP
    assert tab.locator(".name").nth(1).inner_text().startswith(f"positive {MARKUP}")
    tab = open_page(html_pages.semantic_dictionary())
    x, y = centre(tab, "#image", 0, 5 - 1, 3, 5)
    tab.mouse.move(x, y)
    tab.mouse.move(*centre(tab, "#image", 1, 2, 3, 5))
    assert tab.locator(".entries .value span").nth(0).inner_text() == MARKUP


def test_injected_script_does_not_run(open_page):
    page = html_pages.tokens().html.replace("<h1>", "<h1><b onclick='document.hacked = 3'>x</b>")
    tab = open_page(page)
    tab.locator("h1 b").click()
    assert tab.evaluate("document.hacked") is None
    (refused,) = open_page.said
    assert "Content Security Policy" in refused
    open_page.said.clear()


def test_touch(open_page):
    options = {"has_touch": True, "is_mobile": True, "width": 360, "height": 740}
    tab = open_page(html_pages.tokens(), **options)
    tab.locator(".token").nth(1).tap()
    assert tab.locator("#tip").inner_text() == "−2.00 logits"
    box = tab.locator("#tip").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    tab = open_page(html_pages.semantic_dictionary(), **options)
    tab.touchscreen.tap(*centre(tab, "#image", 2, 1, 3, 5))
    assert tab.locator(".where").inner_text() == "row 3, column 2"
    tab = open_page(html_pages.channel_attribution(), **options)
    tab.locator(".distribution").nth(0).tap(position={"x": 2, "y": 20})
    assert "channel 2: +3.00" in tab.locator(".readout").nth(0).inner_text()
    tab = open_page(html_pages.spatial_attribution(), **options)
    tab.touchscreen.tap(*centre(tab, "#layer0", 1, 1, 4, 6))
    assert "row 2, column 2" in tab.locator("#layer0 ~ .said").inner_text()
    tab = open_page(html_pages.neuron_groups(), **options)
    tab.locator(".group").nth(1).tap()
    assert tab.locator("#said").inner_text() == "edge"
    tab = open_page(html_pages.activation_grid(), **options)
    tab.touchscreen.tap(*centre(tab, "#grid", 2, 1, 3, 5))
    assert tab.locator(".where").inner_text().startswith("row 3, column 2")
    tab.touchscreen.tap(*centre(tab, "#image", 0, 4, 3, 5))
    assert tab.locator(".where").inner_text().startswith("row 1, column 5")
    tab.locator(".switch").tap()
    assert tab.locator("#grid canvas").count() == 1


def test_semantic_dictionary_follows_the_position(open_page):
    tab = open_page(html_pages.semantic_dictionary())
    names, where = tab.locator(".entries .value span"), tab.locator(".where")
    # It begins at the strongest activation, and hovering reaches every position of a 3 x 5 grid.
    assert where.inner_text() == "row 2, column 4"
    assert tab.locator(".entries b").nth(0).inner_text() == "4.00"
    values = html_pages.activation()
    for row in range(3):
        for column in range(5):
            tab.mouse.move(*centre(tab, "#image", row, column, 3, 5))
            top = np.argsort(-values[row, column], kind="stable")[:2]
            expected = [MARKUP if i == 5 else f"channel {i}" for i in top]
            assert names.all_inner_texts() == expected
            assert where.inner_text() == f"row {row + 1}, column {column + 1}"
            widths = tab.locator(".entries .bar span").evaluate_all(
                "(bars) => bars.map((b) => parseFloat(b.style.width))"
            )
            assert widths == pytest.approx(values[row, column, top] / 4 * 100, abs=0.1)
    # A unit without a sprite, and back.
    assert (3 * 2 + 1) % 12 == 7
    tab.mouse.move(*centre(tab, "#image", 2, 1, 3, 5))
    assert tab.locator(".sprite").nth(0).inner_text() == "no picture"
    tab.mouse.move(*centre(tab, "#image", 2, 2, 3, 5))
    assert tab.locator(".sprite img").nth(0).get_attribute("alt") == "What channel 8 looks for"
    tab.locator("#image").focus()
    for key, place in (
        ("Home", (3, 1)),
        ("ArrowLeft", (3, 1)),
        ("ArrowUp", (2, 1)),
        ("End", (2, 5)),
        ("PageDown", (3, 5)),
        ("PageUp", (1, 5)),
        ("ArrowDown", (2, 5)),
        ("ArrowLeft", (2, 4)),
    ):
        tab.keyboard.press(key)
        assert where.inner_text() == "row {}, column {}".format(*place)
    assert tab.locator("#said").inner_text().startswith("row 2, column 4: channel 6")
    marker = tab.locator("#image .marker").bounding_box()
    image = tab.locator("#image").bounding_box()
    assert marker["x"] == pytest.approx(image["x"] + 0.6 * image["width"], abs=1)
    assert marker["width"] == pytest.approx(image["width"] / 5, abs=1)


def test_activation_grid_follows_the_position(open_page):
    tab = open_page(html_pages.activation_grid())
    values, tiles = html_pages.activation(), html_pages.tiles()[:, :, 0, 0]
    strengths = np.linalg.norm(values, axis=-1)
    where, names = tab.locator(".where"), tab.locator(".entries .value span")
    assert where.inner_text().startswith("row 2, column 4")
    for figure in ("#grid", "#image"):
        for row in range(3):
            for column in range(5):
                tab.mouse.move(*centre(tab, figure, row, column, 3, 5))
                assert f"row {row + 1}, column {column + 1}" in where.inner_text()
                said = float(tab.locator("#strength").inner_text())
                assert said == pytest.approx(strengths[row, column], rel=5e-3)
                width = tab.locator(".strength .bar span").evaluate("(e) => e.style.width")
                share = 100 * strengths[row, column] / strengths.max()
                assert float(width[:-1]) == pytest.approx(share, abs=0.1)
                top = np.argsort(-values[row, column], kind="stable")[:2]
                expected = [MARKUP if i == 5 else f"channel {i}" for i in top]
                assert names.all_inner_texts() == expected
                colour = pixels(tab, ".large")[4, 8, :3] / 255
                assert colour == pytest.approx(tiles[row, column], abs=0.06)
                # The position is marked in both.
                for other in ("#grid", "#image"):
                    marker = tab.locator(f"{other} .marker").bounding_box()
                    box = tab.locator(other).bounding_box()
                    left = box["x"] + column * box["width"] / 5
                    assert marker["x"] == pytest.approx(left, abs=1)
    tab.locator("#grid").focus()
    for key, place in (("Home", (3, 1)), ("ArrowUp", (2, 1)), ("End", (2, 5)), ("PageUp", (1, 5))):
        tab.keyboard.press(key)
        assert "row {}, column {}".format(*place) in where.inner_text()
    label = tab.locator(".large canvas").get_attribute("aria-label")
    assert label == "What the layer sees at row 1, column 5"
    assert tab.locator("#said").inner_text().startswith("row 1, column 5: strength ")


def test_tiles_as_large_as_strong(open_page):
    z = np.zeros((2, 3, 4))
    z[0, 1, 2], z[1, 2, 0] = 4.0, 2.0
    tiles = np.zeros((2, 3, 16, 16, 3))
    tiles[0, 1, ..., 2], tiles[1, 2, ..., 0] = 1.0, 1.0
    tab = open_page(activation_grid(z, html_pages.image(), tiles, k=1))
    assert tab.locator("#grid canvas").count() == 0
    tab.locator("#sized").focus()
    tab.keyboard.press("Space")
    drawn = pixels(tab, "#grid")
    assert drawn.shape == (32, 48, 4)
    opaque = np.zeros((32, 48), bool)
    opaque[:16, 16:32] = opaque[16 + 4 : 32 - 4, 32 + 4 : 48 - 4] = True
    assert (drawn[..., 3] == 255 * opaque).all()
    assert drawn[8, 24, :3] == pytest.approx([0, 0, 255], abs=20)
    assert drawn[24, 40, :3] == pytest.approx([255, 0, 0], abs=20)
    tab.keyboard.press("Space")
    assert tab.locator("#grid canvas").count() == 0
    assert tab.locator("#grid img").evaluate("(e) => getComputedStyle(e).opacity") == "1"


def test_attribution_maps_are_read_together(open_page):
    tab = open_page(html_pages.attribution_maps())
    values, where = tab.locator(".said b"), tab.locator(".where")
    assert where.inner_text() == "row 1, column 3"
    drawn = pixels(tab, "#map0")
    assert drawn[0, 1].tolist() == pytest.approx([40, 130, 255, 225 / 4], abs=5)
    assert drawn[0, 2].tolist() == [245, 60, 50, 225]
    assert (drawn[[0, 1], [0, 2], 3] == 0).all()
    assert pixels(tab, "#map1")[0, 2].tolist() == [40, 130, 255, 225]
    for figure in ("#map0", "#map1"):
        tab.mouse.move(*centre(tab, figure, 1, 0, 2, 3))
        assert where.inner_text() == "row 2, column 1"
        assert values.all_inner_texts() == ["+2.00", "−2.00"]
        tab.mouse.move(*centre(tab, figure, 0, 2, 2, 3))
    tab.locator("#map1").focus()
    tab.keyboard.press("ArrowLeft")
    assert values.all_inner_texts() == ["+1.00", "−1.00"]
    assert tab.locator("#said").inner_text().startswith("row 1, column 2: Gradient +1.00, Integ")
    assert [tab.locator(f"#map{i} .marker").is_visible() for i in range(2)] == [True, True]


@pytest.mark.parametrize("java_script_enabled", [True, False])
@pytest.mark.parametrize("name", ["attribution_maps", "spatial_attribution"])
def test_a_shared_picture_is_drawn_everywhere(open_page, name, java_script_enabled):
    tab = open_page(PAGES[name](), java_script_enabled=java_script_enabled)
    if java_script_enabled:  # without the map over it
        tab.evaluate("document.querySelectorAll('canvas, .marker').forEach((e) => e.remove())")
    pictures = tab.locator(".photograph .picture").all()
    assert len(pictures) == {"attribution_maps": 3, "spatial_attribution": 2}[name]
    for picture in pictures:
        box = picture.bounding_box()
        assert box["width"] / box["height"] == pytest.approx(200 / 120, rel=0.02)
        shown = Image.open(io.BytesIO(picture.screenshot()))
        given = Image.fromarray(np.uint8(255 * html_pages.image()))
        brightness = [
            np.ravel(image.convert("L").resize((20, 12), Image.Resampling.BOX))
            for image in (shown, given)
        ]
        assert np.corrcoef(brightness)[0, 1] > 0.9


def test_a_gallery_opens_its_pages(open_page, tmp_path):
    (tmp_path / "cups").mkdir()
    html_pages.tokens(title="The page of the cup").save(tmp_path / "cups" / "relu6#0 100%.html")
    item = Item(html_pages.image(), {"Tokens": "cups/relu6#0 100%.html"}, "cup", alt="A cup")
    tab = open_page(gallery([item, item]), width=360)
    tab.locator("a").first.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_load_state()
    assert tab.locator("h1").inner_text() == "The page of the cup"


def test_channel_attribution_reads_every_channel(open_page):
    tab = open_page(html_pages.channel_attribution())
    readout, slider = tab.locator(".readout").nth(0), tab.locator(".distribution").nth(0)
    values = html_pages.CHANNELS["Linear"]
    order = np.argsort(-values, kind="stable")
    for rank in (0, 4, 11, 7):
        tab.mouse.move(*centre(tab, ".method:first-child .distribution", 0, rank, 1, 12))
        assert readout.inner_text().startswith(f"rank {rank + 1} of 12, channel {order[rank]}: ")
    assert readout.inner_text() == "rank 8 of 12, channel 3: 0"  # zero has no sign
    slider.focus()
    tab.keyboard.press("Home")
    assert readout.inner_text() == "rank 1 of 12, channel 2: +3.00"
    # The same channel is marked in all columns that show it.
    assert tab.locator(".same").count() == sum(
        2 in np.argsort(-v, kind="stable")[[0, 1, 2, -3, -2, -1]]
        for v in html_pages.CHANNELS.values()
    )
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "channel 6: +1.50"
    assert slider.get_attribute("aria-valuenow") == "3"
    tab.keyboard.press("End")
    assert readout.inner_text() == "rank 12 of 12, channel 1: −2.00"


def test_spatial_attribution_goes_both_ways(open_page):
    tab = open_page(html_pages.spatial_attribution())
    said = tab.locator("#layer0 ~ .said")
    # It begins with the position of the later layer that draws most.
    assert said.inner_text().startswith("with row 2, column 3")
    tab.mouse.move(*centre(tab, "#layer1", 0, 1, 2, 3))
    assert np.argwhere(pixels(tab, "#layer0")[..., 3]).tolist() == [[0, 0], [1, 3]]
    tab.mouse.move(*centre(tab, "#layer1", 1, 2, 2, 3))
    early = pixels(tab, "#layer0")
    assert np.argwhere(early[..., 3]).tolist() == [[0, 0], [3, 5]]
    assert early[0, 0].tolist() == pytest.approx([245, 60, 50, 225 * 0.5 / 4], abs=5)
    assert early[3, 5].tolist() == [40, 130, 255, 225]
    assert said.inner_text() == "with row 2, column 3: largest +4.00, sum +3.50"
    # The position's part in each class.
    assert tab.locator(".classes b").all_inner_texts() == ["+6.00", "+0.500"]
    # The other way round: which positions draw on (1, 3)?
    tab.mouse.move(*centre(tab, "#layer0", 1, 3, 4, 6))
    assert np.argwhere(pixels(tab, "#layer1")[..., 3]).tolist() == [[0, 1]]
    tab.locator("#layer0").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert np.argwhere(pixels(tab, "#layer1")[..., 3]).tolist() == [[0, 2]]
    tab.locator(".classes button").nth(1).click()
    assert tab.locator("[aria-pressed=true] .value").inner_text().startswith("tram")
    tab.keyboard.press("ArrowUp")
    assert tab.locator("[aria-pressed=true] .value").inner_text() == "castle"
    tab.keyboard.press("ArrowDown")
    late = pixels(tab, "#layer1")
    assert late[0, 0].tolist() == [245, 60, 50, 225]
    assert late[1, 2, 3] == round(225 * 0.5 / 2)


def test_neuron_groups_can_be_chosen(open_page):
    tab = open_page(html_pages.neuron_groups())
    whole = pixels(tab, "#image")
    assert np.argwhere(whole[..., 3]).tolist() == [
        [0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 4], [2, 0], [2, 4],
    ]  # fmt: skip
    # Where two groups are, their colours mix by strength: two parts of sky, one of edge.
    sky, edge = np.array([0xE6, 0x9F, 0x00]), np.array([0x56, 0xB4, 0xE9])
    assert whole[0, 4, :3] == pytest.approx((2 * sky + edge) / 3, abs=2)
    button = tab.locator(".group").nth(1)
    button.focus()
    tab.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert np.argwhere(pixels(tab, "#image")[..., 3]).tolist() == [[0, 4], [1, 4], [2, 4]]
    tab.keyboard.press("Enter")
    assert (pixels(tab, "#image") == whole).all()
    assert tab.locator(".strength").all_inner_texts() == ["62 %", "19 %", "19 %"]
    tab.mouse.move(*centre(tab, "#image", 0, 4, 3, 5))
    assert tab.locator(".strength").all_inner_texts() == ["2.00", "1.00", "0"]
    assert tab.locator("#said").inner_text() == "row 1, column 5: most of sky"
    tab.mouse.move(2, 2)
    assert tab.locator(".strength").nth(0).inner_text() == "62 %"


@pytest.mark.parametrize("name", PAGES)
def test_a_notebook_shows_the_whole_page(open_page, name):
    tab = open_page(f"<!doctype html><body>{PAGES[name]()._repr_html_()}</body>", width=900)
    frame = tab.frame_locator("iframe")
    assert frame.locator("h1").is_visible()
    tab.wait_for_function("document.querySelector('iframe').clientHeight !== 600")
    inside = frame.locator("html").evaluate("(e) => [e.scrollHeight, e.clientHeight]")
    assert inside[0] == inside[1]
