"""CONTRIBUTING.md names every module, and only files, tests and names that exist."""

from __future__ import annotations

import re
from pathlib import Path

from recipes import file_map, pages

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_the_map_lists_every_module_once() -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / "vqtools").rglob("*.py")]
    below_a_package = {path for path in modules if path.count("/") > 1 and path.endswith("/__init__.py")}
    assert sorted(file_map.mapped_files(TEXT)) == sorted({*modules} - below_a_package), "run python -m recipes.pages"


def test_every_module_says_what_it_is() -> None:
    lines = file_map.file_map(ROOT, pages.packages()).splitlines()
    assert not [line for line in lines if re.fullmatch(r"\S+\.py\s*", line) or "TODO" in line]


def test_the_layers_are_those_of_the_contract() -> None:
    table = TEXT.partition("## Layers")[2].partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == pages.packages()


def test_paths_in_the_text_exist() -> None:
    text = TEXT.partition(file_map.START)[0]
    paths = re.findall(r"`([\w./]+/[\w.]+\.(?:py|md|txt))`", text)
    assert len(paths) > 15
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / "vqtools" / path).exists(), path


def test_names_in_the_instructions_exist() -> None:
    sections = TEXT.partition("## Where to add")[2].partition("## Glossary")[0]
    names = {
        name for name in re.findall(r"`@?(\w+)(?:\([^`]*)?`", sections) if "_" in name.strip("_") or name.isupper()
    }
    sources = [path.read_text("utf-8") for folder in ("vqtools", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(names) > 10
    assert not [name for name in names if not any(re.search(rf"\b{name}\b", source) for source in sources)]


def test_a_new_module_makes_the_map_incomplete(tmp_path: Path) -> None:
    package = tmp_path / "vqtools" / "core"
    package.mkdir(parents=True)
    (tmp_path / "vqtools" / "__init__.py").write_text('"""All."""')
    (package / "a.py").write_text('"""One thing. Knows nothing."""')
    page = f"{file_map.START}{file_map.END}"
    assert file_map.mapped_files(file_map.contributing(page, tmp_path, ["core"])) == [
        "vqtools/__init__.py",
        "vqtools/core/a.py",
    ]
    assert "a.py  One thing\n" in file_map.contributing(page, tmp_path, ["core"])
