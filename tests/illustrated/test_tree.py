"""The tree of ideas: each idea names a paper and an existing object of this library."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vqtools
from vqtools.illustrated import tree
from vqtools.illustrated.tree import idea_tree, load_ideas, node_positions

ROOT = Path(vqtools.__file__).parent.parent


@pytest.mark.parametrize("idea", load_ideas().values(), ids=lambda idea: idea.id)
def test_an_idea_names_an_existing_object_of_this_library(idea: tree.Idea) -> None:
    assert idea.object() is not None
    file, line, lines = idea.source()
    text = (ROOT / file).read_text("utf-8").splitlines(keepends=True)
    assert text[line - 1 : line - 1 + len(lines)] == lines
    name = idea.code.rpartition(":")[2].rpartition(".")[2]
    assert any(re.search(rf"(def|class) {name}\b", source_line) for source_line in lines)


@pytest.mark.parametrize("idea", load_ideas().values(), ids=lambda idea: idea.id)
def test_an_idea_is_not_older_than_its_parents(idea: tree.Idea) -> None:
    for parent in idea.parents:
        assert load_ideas()[parent].year <= idea.year, parent
    assert idea.authors and idea.summary.endswith(".")
    if idea.arxiv:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", idea.arxiv)
        assert 0 <= idea.year - (2000 + int(idea.arxiv[:2])) <= 1
    assert node_positions()[idea.id] is not None


def test_the_ancestors_of_clip_guidance_include_vqgan_and_clip() -> None:
    ancestors = tree.ancestors("guided")
    assert {"autoencoder", "gan", "kmeans", "attention", "vqvae", "patchgan", "vqgan", "clip"} <= ancestors
    assert "lecam" not in ancestors
    assert len(set(node_positions().values())) == len(load_ideas())  # no two ideas at one position


def test_selecting_an_idea_shows_its_paper_and_its_code() -> None:
    box = idea_tree()
    names, figure, details = box.children
    before = figure.value
    names.value = "lecam"
    assert figure.value != before and figure.value.startswith("<svg")
    assert "https://arxiv.org/abs/2104.03310" in details.value and "def lecam" in details.value
    assert "vqtools/training/losses.py" in details.value
