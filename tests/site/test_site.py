"""The built site: every name has its place, every link leads somewhere, nothing is asked for."""

import html
import json
import re
import shutil
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import reference

pytestmark = pytest.mark.site
PROJECT = Path(__file__).parents[2]
SITE = PROJECT / "out" / "docs"
PAGES = sorted(SITE.rglob("*.html"))
MEASURED = [path for path in PAGES if path.name != "404.html"]
LOADED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if found.get(LOADED.get(tag)):
            self.loads.append(found[LOADED[tag]])


@pytest.fixture(scope="module")
def pages():
    return {path: Page(path) for path in MEASURED}


def inventory():
    """The entries of `objects.inv`: name to address."""
    data = (SITE / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(data).decode().splitlines()
    rows = [line.rsplit(" ", 4) for line in lines]
    return {row[0]: row[3].replace("$", row[0]) for row in rows}


def test_there_is_a_site():
    assert SITE / "index.html" in PAGES, "run `make docs`"


@pytest.mark.parametrize("namespace", reference.namespaces())
def test_every_public_name_has_an_entry(namespace, pages):
    entries = inventory()
    for name in reference.public(namespace):
        path, _, anchor = entries[name.path].partition("#")
        assert anchor in pages[SITE / path].anchors, name.path


def test_every_link_leads_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            if (parts := urlsplit(link)).scheme or link.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.relative_to(SITE)}: {link}")
            elif parts.fragment and target in pages:
                broken += [link] * (unquote(parts.fragment) not in pages[target].anchors)
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(pages):
    loads = {link for page in pages.values() for link in page.loads}
    assert [link for link in loads if urlsplit(link).scheme not in ("", "data")] == []
    for style in SITE.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", style.read_text("utf-8"))
        assert found == [], style.name


# What picks, arranges or resizes, and computes nothing that a formula would say better.
WORDS = {"one_of", "padded", "cascading", "independent", "leaf_names", "upsample", "rank_channels"}
COMPUTE = ("scores", "quadrature", "paths", "distributions", "concepts", "priors", "metrics")


@pytest.mark.parametrize("page", ["methods", *COMPUTE])
def test_what_computes_has_its_formula(page):
    namespace = "attrax" if page == "methods" else f"attrax.{page}"
    text = (SITE / "reference" / f"{page}.html").read_text("utf-8")
    places = sorted(
        (text.index(f'id="{name.path}"'), name.path.rpartition(".")[2])
        for name in reference.public(namespace)
        if page != "methods" or name.module.startswith("attrax._methods.")
    )
    ends = [start for start, _ in places[1:]] + [len(text)]
    functions = {
        name: text[start:end]
        for (start, name), end in zip(places, ends, strict=True)
        if name[0].islower()
    }
    missing = {name for name, entry in functions.items() if "<math" not in entry}
    assert functions
    assert missing == WORDS & functions.keys()


def test_names_are_upright():
    import formulas  # needs latex2mathml, as the site does

    latex = r"\sum_k w_k fn(p_k) \text{ at most} \frac{score}{x}"
    upright = r"\sum_k w_k \mathrm{fn}(p_k) \text{ at most} \frac{\mathrm{score}}{x}"
    assert formulas.upright(latex) == upright


def test_a_condition_may_stand_on_a_line_of_its_own():
    import formulas

    assert formulas.parts(r"\sum_k w_k p_k \text{ with } p = c(t)") == [
        r"\sum_k w_k p_k",
        r"\text{ with } p = c(t)",
    ]
    inside = r"fn(x \text{ where } rank < k)"
    assert formulas.parts(inside) == [inside]


def test_a_document_that_a_docstring_names_is_linked():
    pages = sorted((SITE / "reference").glob("*.html"))
    text = {path.name: path.read_text("utf-8") for path in pages}
    assert re.search(r'<a href="../tolerance.html">[^<]+</a>', text["methods.html"])
    for name, page in text.items():
        assert re.findall(r"<code>docs/[^<]*</code>", page) == [], name


def test_the_first_methods_are_gradients():
    text = (SITE / "reference" / "methods.html").read_text("utf-8")
    first = re.findall(r'<h3 id="attrax\.(\w+)"', text)[:3]
    assert first == ["gradient", "gradient_times_input", "integrated_gradients"]


def test_formulas_are_drawn():
    text = "".join(path.read_text("utf-8") for path in (SITE / "reference").glob("*.html"))
    assert text.count("<math") > 10
    for path in MEASURED:
        page = html.unescape(path.read_text("utf-8"))
        assert "arithmatex" not in page, path
        assert "<merror" not in page, path


def test_a_sentence_is_not_taken_for_a_type():
    text = (SITE / "reference" / "methods.html").read_text("utf-8")
    found = re.findall(r">Returns:</span>.*?<code>(.*?)</code>", text, re.DOTALL)
    assert len(found) > 30
    assert [code for code in found if re.search(r"\w+ \w+ ", re.sub("<.*?>", "", code))] == []


def test_names_are_linked():
    text = (SITE / "concepts.html").read_text("utf-8")
    assert re.search(r'href="reference/models.html#attrax.cut"[^>]*><code>attrax.cut</code>', text)


def test_a_notebook_holds_its_page():
    for page in (PROJECT / "docs" / "tutorials").glob("*.md"):
        notebook = json.loads((SITE / "tutorials" / f"{page.stem}.ipynb").read_text("utf-8"))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert len(code) == page.read_text("utf-8").count("```python")
        assert any(cell["outputs"] for cell in code)
        words = "".join(str(cell["source"]) for cell in notebook["cells"])
        assert "```" not in words and ".md)" not in words


@pytest.fixture(scope="module")
def browser():
    """Chromium of the system, as for the pages of `attrax.html`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs a browser")
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        pytest.skip("no Chromium: apt install chromium")
    with playwright.sync_playwright() as made:
        opened = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [1400, 390])
def test_pages_ask_for_nothing_and_raise_nothing(browser, width):
    """No console error, no request but for files of the site, nothing wider than the window."""
    troubles = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda found: troubles.append(found.url) if leaves(found.url) else None)
    for path in MEASURED:
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            troubles.append(f"{path.relative_to(SITE)} is {wide} pixels wide, not {width}")
    page.close()
    assert troubles == []


BROKEN = """[...document.querySelectorAll('td code, td a, h1, h2, h3')].flatMap(box => {
  const walk = document.createTreeWalker(box, NodeFilter.SHOW_TEXT), broken = [];
  const range = document.createRange();
  while (walk.nextNode()) for (const word of walk.currentNode.data.matchAll(/[A-Za-z0-9]+/g)) {
    range.setStart(walk.currentNode, word.index);
    range.setEnd(walk.currentNode, word.index + word[0].length);
    const tops = new Set([...range.getClientRects()].map(line => Math.round(line.top)));
    if (tops.size > 1) broken.push(word[0]);
  }
  return broken;
})"""
CLIPPED = """[...document.querySelectorAll('math[display=block]')]
  .filter(math => math.scrollHeight > math.clientHeight + 1).map(math => math.textContent)"""


@pytest.mark.parametrize("width", [1400, 390])
def test_words_stay_whole_and_formulas_do_not_scroll_upwards(browser, width):
    page, troubles = browser.new_page(viewport={"width": width, "height": 900}), []
    for path in MEASURED:
        page.goto(path.as_uri())
        found = page.evaluate(BROKEN) + page.evaluate(CLIPPED)
        troubles += [f"{path.relative_to(SITE)}: {text}" for text in found]
    page.close()
    assert troubles == []


def test_the_search_finds_a_name(browser):
    """Without a server: the page is a file."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto((SITE / "reference" / "metrics.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("completeness_gap")
    page.wait_for_selector(".md-search-result__link")
    links = page.locator(".md-search-result__link").evaluate_all("found => found.map(a => a.href)")
    page.close()
    assert any(link.partition("?")[0].endswith("/reference/metrics.html") for link in links), links


def leaves(url):
    """Whether a request leaves the folder of the site."""
    return not url.startswith(("data:", "blob:", SITE.as_uri()))
