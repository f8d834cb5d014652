"""The public names of `vqtools`, the cost of importing it and of --help, and the contents of the wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import vqtools
from vqtools.cli.main import command

ROOT = Path(vqtools.__file__).parent.parent


def test_importing_vqtools_imports_neither_torch_nor_pydantic() -> None:
    program = "import sys, vqtools; dir(vqtools); print([n for n in ('torch', 'pydantic') if n in sys.modules])"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"


def processor_seconds(*arguments: str) -> float:
    """Processor time of a Python process in seconds, the least of 5 runs, so that other load changes it little."""
    costs = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = os.times()
        costs.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(costs)


def test_importing_takes_less_than_a_fifth_of_a_second() -> None:
    assert processor_seconds("-c", "import vqtools") < 0.2


def commands(group: click.Group = command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command and its subcommands, as the words to type; hidden aliases excluded."""
    yield path
    for name, child in sorted(group.commands.items()):
        if not child.hidden:
            yield from commands(child, (*path, name)) if isinstance(child, click.Group) else [(*path, name)]


@pytest.mark.parametrize("words", list(commands()), ids=lambda words: " ".join(words) or "vqtools")
def test_help_takes_less_than_half_a_second(words: tuple[str, ...]) -> None:
    assert processor_seconds("-m", "vqtools", *words, "--help") < 0.5


def test_every_public_name_can_be_imported() -> None:
    assert set(vqtools.__all__) <= set(dir(vqtools))
    for name in vqtools.__all__:
        assert getattr(vqtools, name) is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+", vqtools.__version__)
    with pytest.raises(AttributeError, match="no attribute 'pant'"):
        vqtools.pant  # noqa: B018


def test_python_m_vqtools_runs_the_command() -> None:
    process = subprocess.run([sys.executable, "-m", "vqtools", "--version"], capture_output=True, text=True, check=True)
    assert vqtools.__version__ in process.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    process = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(built: Path) -> set[str]:
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_the_wheel_is_small(built: Path) -> None:
    assert built.stat().st_size < 45e6


def test_the_wheel_contains_notebooks_weights_and_licence(wheel: set[str]) -> None:
    assert {"vqtools/weights/weights.txt", "vqtools/notebooks/04_paint.ipynb", "vqtools/py.typed"} <= wheel
    starter = {str(path.relative_to(ROOT)) for path in (ROOT / "vqtools/weights/starter").rglob("*") if path.is_file()}
    assert starter and {path.replace("\\", "/") for path in starter} <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_wheel_contains_nothing_else(wheel: set[str]) -> None:
    roots = {name.split("/")[0] for name in wheel}
    assert roots == {"vqtools", f"vqtools-{vqtools.__version__}.dist-info"}
    assert not [name for name in wheel if "checkpoints" in name or name.endswith((".state", ".pyc"))]
