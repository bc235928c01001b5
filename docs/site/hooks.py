"""What happens to a page of the documents on its way to the site, in the order of MkDocs' events.

`on_files` adds pages: the files that documents link to, and the notebooks of the tutorials.
`on_page_markdown` lists the public names of the reference, and mends links. `on_page_content` draws
formulas, links names to where they are explained, and says where long ones may break.
"""

import html
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "site"))

import formulas
import notebooks
import reference
import sources

NAMES = {name.path for namespace in reference.namespaces() for name in reference.public(namespace)}
_DOCUMENT = re.compile(r"<code>docs/([\w/]+)\.md</code>(?!</a>)")
# Where a long name may have to break: code in a table, headings.
_NARROW = re.compile(r"<(td|h[1-3])\b.*?</\1>", re.DOTALL)
_TEXT = re.compile(r"<h[1-3].*|<code\b.*?</code>", re.DOTALL)
_PUNCTUATION = re.compile(r"(<[^>]*>)|([._/,=(]+)(?=[^\s<]{3})")
_CODE = re.compile(r"<code>([a-z_][\w.]*)</code>(?!</a>)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is made of other files."""
    pages = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    added = {file for page in pages for file in sources.linked(page)}
    added |= {file for source in added if source.suffix == ".md" for file in sources.linked(source)}
    for file in sorted(added):
        made = File.generated(config, sources.address(file), content=sources.content(file))
        files.append(made)
    for uri, name in sources.ROOT_PAGES.items():
        files.append(File.generated(config, uri, content=sources.from_the_root(name)))
    for page in pages:
        if page.parent.name == "tutorials":
            name = f"tutorials/{page.stem}.ipynb"
            files.append(File.generated(config, name, content=notebooks.notebook(page)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """List names, mend links, offer the notebook."""
    uri = page.file.src_uri
    if uri.startswith("tutorials/"):
        name = Path(uri).with_suffix(".ipynb").name
        title, rest = markdown.split("\n", 1)
        markdown = f"{title}\n\n[Download this page as a notebook]({name}){{ download }}\n{rest}"
    if page.file.abs_src_path:
        markdown = sources.redirected(markdown, Path(page.file.abs_src_path), uri)
    return reference.expanded(markdown)


def on_page_content(content: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw formulas, and link documents and the names of attrax."""
    content = formulas.rendered(content)
    content = _DOCUMENT.sub(lambda found: _page(found, page, files), content)
    prefixes = ["", "attrax."]
    if page.file.src_uri.startswith("reference/"):  # a name alone is of the page's namespace
        prefixes += [f"attrax.{Path(page.file.src_uri).stem}.", "attrax."]
    content = _CODE.sub(lambda found: _linked(found, prefixes), content)
    return _NARROW.sub(lambda found: _TEXT.sub(_breakable, found[0]), content)


def _breakable(found: re.Match[str]) -> str:
    """A name that may break behind its punctuation, unless that leaves only a letter or two."""
    return _PUNCTUATION.sub(lambda part: part[1] or f"{part[2]}<wbr>", found[0])


def _page(found: re.Match[str], page: Page, files: Files) -> str:
    """A link to a document that a docstring names, under the title of its page."""
    file = files.get_file_from_path(f"{found[1]}.md")
    if file is None or file.page is None:
        raise ValueError(f"{page.file.src_uri} names docs/{found[1]}.md, which does not exist.")
    return f'<a href="{file.url_relative_to(page.file)}">{html.escape(str(file.page.title))}</a>'


def _linked(found: re.Match[str], prefixes: list[str]) -> str:
    """A public name in code, with a link that mkdocs-autorefs resolves.

    A name without a dot is linked where it cannot be mistaken for that of an argument.
    """
    name = html.unescape(found[1])
    for prefix in prefixes[0 if "." in name else 2 :] if "." in name or "_" in name else ():
        if prefix + name in NAMES:
            return f'<autoref identifier="{prefix}{name}">{found[0]}</autoref>'
    return found[0]
