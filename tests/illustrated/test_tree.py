"""The tree of knowledge: every node names a paper and a line of this library that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vqtools
from vqtools.illustrated import tree
from vqtools.illustrated.tree import idea_tree, load_ideas, node_positions

ROOT = Path(vqtools.__file__).parent.parent


@pytest.mark.parametrize("one", load_ideas().values(), ids=lambda one: one.id)
def test_an_idea_names_an_existing_line_of_this_library(one: tree.Idea) -> None:
    assert one.object() is not None
    file, line, lines = one.source()
    text = (ROOT / file).read_text("utf-8").splitlines(keepends=True)
    assert text[line - 1 : line - 1 + len(lines)] == lines
    name = one.code.rpartition(":")[2].rpartition(".")[2]
    assert any(re.search(rf"(def|class) {name}\b", each) for each in lines)


@pytest.mark.parametrize("one", load_ideas().values(), ids=lambda one: one.id)
def test_an_idea_is_no_older_than_what_it_grew_from(one: tree.Idea) -> None:
    for parent in one.parents:
        assert load_ideas()[parent].year <= one.year, parent
    assert one.by and one.idea.endswith((".", "n²."))
    if one.arxiv:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", one.arxiv)
        assert 0 <= one.year - (2000 + int(one.arxiv[:2])) <= 1
        # the papers that the code's own docstrings cite are the same ones
    assert node_positions()[one.id] is not None


def test_the_tree_leads_from_its_roots_to_vqgan_and_clip_guidance() -> None:
    family = tree.ancestors("guided")
    assert {"autoencoder", "gan", "kmeans", "attention", "vqvae", "patchgan", "vqgan", "clip"} <= family
    assert "lecam" not in family
    assert len(set(node_positions().values())) == len(load_ideas())  # no two in one place


def test_choosing_an_idea_shows_its_paper_and_its_code() -> None:
    box = idea_tree()
    names, figure, words = box.children
    before = figure.value
    names.value = "lecam"
    assert figure.value != before and figure.value.startswith("<svg")
    assert "https://arxiv.org/abs/2104.03310" in words.value and "def lecam" in words.value
    assert "vqtools/training/losses.py" in words.value
