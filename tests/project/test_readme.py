"""The README says what the code does."""

import re
import tomllib
from pathlib import Path

import yaml

from recipes import pages

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_settings_tables_are_generated() -> None:
    page = (ROOT / "docs/settings.md").read_text("utf-8")
    marks = re.findall(r"<!-- settings: (\w+) -->", page)
    assert marks == [settings_class.__name__ for settings_class, _ in pages.TABLES] and len(set(marks)) == 7
    assert page == pages.settings_page(page), "run python -m recipes.pages"


def test_a_changed_help_text_changes_the_settings_page() -> None:
    page = (ROOT / "docs/settings.md").read_text("utf-8")
    stale = page.replace("multiples of the VQGAN's f", "something else", 1)
    assert stale != page and pages.settings_page(stale) == page


def test_the_tree_lists_every_package_in_the_order_of_the_layers() -> None:
    tree = README.split("## What is where")[1].split("```")[1]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    packages = [name.removeprefix("vqtools.") for layer in contracts[0]["layers"] for name in layer.split(" | ")]
    assert re.findall(r"^  (\w+)/", tree, re.MULTILINE) == [name for name in packages if name != "version"]
    assert {path.parent.name for path in (ROOT / "vqtools").glob("*/__init__.py")} == {*packages} - {"version"}


def test_the_two_commands_are_those_that_are_tested() -> None:
    assert 'pip install . && vqtools paint "a red apple"' in README
    assert 'pip install -e ".[test]" && pytest' in README
    ci = (ROOT / ".ci/run").read_text()
    assert 'pip install --quiet --disable-pip-version-check -e ".[test]"' in ci and 'check "pytest" pytest' in ci


def test_environment_yml_names_what_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    (listed,) = [one["pip"] for one in environment["dependencies"] if isinstance(one, dict)]
    assert listed == [*project["dependencies"], "-e ."]
    assert "python=3.12" in environment["dependencies"] and project["requires-python"] == ">=3.11"


def test_every_test_that_the_page_of_untrusted_input_names_exists() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/hostile.md").read_text("utf-8"))
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 30
    assert not set(named) - defined
