"""Links in the README, docs and notebooks: files, headings and attachments exist; external pages with -m network."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "vqtools/weights/starter/MODEL_CARD.md",
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
EXTERNAL = re.compile(r"^(https?|mailto):")
PLACEHOLDER = "OWNER/REPO"  # pyproject.toml's address until the repository is public


def prose(text: str) -> str:
    """Markdown without code: fenced blocks and spans."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def cells(page: Path) -> list[tuple[str, dict[str, object]]]:
    """The markdown of a page, with the attachments that its links may name; a notebook has several."""
    if page.suffix != ".ipynb":
        return [(page.read_text("utf-8"), {})]
    notebook = json.loads(page.read_text("utf-8"))
    return [
        ("".join(cell["source"]), cell.get("attachments", {}))
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
    ]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: Counter[str] = Counter()
    names = set()
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return names


def broken_links(page: Path) -> Iterator[str]:
    """The local links of a page that lead nowhere."""
    for text, attachments in cells(page):
        for target in LINK.findall(prose(text)):
            if EXTERNAL.match(target):
                continue
            if target.startswith("attachment:"):
                if target.removeprefix("attachment:") not in attachments:
                    yield target
                continue
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
                yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A *new* page: 1\n[a](page.md#a-new-page-1) [b](#nothing) [c](gone.md) `[d](code.md)` ![e](attachment:x.png)"
    )
    assert list(broken_links(page)) == ["#nothing", "gone.md", "attachment:x.png"]


def test_the_glossary_is_linked_from_where_newcomers_start() -> None:
    for page in (ROOT / "README.md", ROOT / "docs/README.md", ROOT / "notebooks/00_illustrated_vqgan.ipynb"):
        assert any("glossary.md)" in text for text, _ in cells(page)), page.name


def is_dead(url: str) -> bool | None:
    """True if a server says that there is no such page, None if nobody answers."""
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return False
    except urllib.error.HTTPError as error:
        return error.code in (404, 410)  # others refuse scripts, or are busy
    except OSError:
        return None


@pytest.mark.network
def test_no_external_link_is_dead() -> None:
    urls = {
        target.partition("#")[0]
        for page in PAGES
        for text, _ in cells(page)
        for target in LINK.findall(prose(text))
        if target.startswith("http") and PLACEHOLDER not in target
    }
    assert len(urls) > 5
    with ThreadPoolExecutor(8) as pool:
        dead = dict(zip(sorted(urls), pool.map(is_dead, sorted(urls)), strict=True))
    if all(found is None for found in dead.values()):
        pytest.skip("no network")
    assert [url for url, found in dead.items() if found] == []
