"""Badges, first cells and metadata of the notebooks follow from one setting."""

from __future__ import annotations

import json
from pathlib import Path

from recipes import pages

ROOT = Path(__file__).parents[2]


def test_notebooks_are_up_to_date() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text("utf-8")
        same = pages.to_text(pages.normalise(json.loads(text), path.name, pages.repository())) == text
        assert same, f"{path.name}: run python -m recipes.pages"


def test_the_readmes_badge_follows_the_repository() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert pages.readme(text, pages.repository()) == text
    assert "/somebody/else/blob/main/notebooks/04_paint.ipynb)" in pages.readme(
        text, "https://github.com/somebody/else"
    )


def test_badge_and_first_cell_follow_the_repository() -> None:
    page = json.loads((ROOT / "notebooks/04_paint.ipynb").read_text("utf-8"))
    copy = pages.normalise(page, "04_paint.ipynb", "https://github.com/somebody/else")
    text = pages.to_text(copy)
    assert "https://colab.research.google.com/github/somebody/else/blob/main/notebooks/04_paint.ipynb" in text
    assert "git+https://github.com/somebody/else\\n" in text and pages.repository() not in text
    assert copy["metadata"]["accelerator"] == "GPU"
    ids = [cell["id"] for cell in copy["cells"]]
    code = [cell["id"] for cell in copy["cells"] if cell["cell_type"] == "code"]
    assert code[0] == "ready" and ids[-1] == "done" and len(ids) == len(set(ids))
    assert pages.normalise(copy, "04_paint.ipynb", "https://github.com/somebody/else") == copy


def test_the_link_to_the_glossary_follows_the_repository() -> None:
    page = json.loads((ROOT / "notebooks/00_illustrated_vqgan.ipynb").read_text("utf-8"))
    text = pages.to_text(pages.normalise(page, "00_illustrated_vqgan.ipynb", "https://github.com/somebody/else"))
    assert "(https://github.com/somebody/else/blob/main/docs/glossary.md)" in text and pages.repository() not in text
