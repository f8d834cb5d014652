"""The shape of the package: what lies in its root, how large things may be, and one name for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import vqtools

PACKAGE = Path(vqtools.__file__).parent
PACKAGES = {
    "animation", "cli", "core", "illustrated", "media", "models", "painting", "pipelines", "sampling", "training", "ui",
    "weights",
}  # fmt: skip
MAX_FILE_LINES = 500
MAX_CLASS_LINES = 250
MAX_FUNCTION_LINES = 60

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "notebooks" not in path.relative_to(PACKAGE).parts:
            yield path, path.read_text("utf-8")


def line_count(node: Definition) -> int:
    """Lines of a definition, decorators included."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return (node.end_lineno or first) - first + 1


def test_the_root_holds_the_twelve_packages_and_nothing_else() -> None:
    ignored = {"__pycache__", "notebooks", "py.typed"}  # a wheel carries the notebooks inside the package
    found = {path.name for path in PACKAGE.iterdir()} - ignored
    assert found == PACKAGES | {"__init__.py", "__main__.py", "version.py"}


def test_files_classes_and_functions_stay_small() -> None:
    too_long = []
    for path, text in modules():
        name = path.relative_to(PACKAGE)
        if (lines := text.count("\n")) > MAX_FILE_LINES:
            too_long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Definition):
                limit = MAX_CLASS_LINES if isinstance(node, ast.ClassDef) else MAX_FUNCTION_LINES
                if (lines := line_count(node)) > limit:
                    too_long.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert not too_long


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path, text in modules():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
