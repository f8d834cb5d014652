"""What `import vqtools` offers, what it costs, and what the wheel carries."""

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


def test_importing_costs_nothing() -> None:
    program = "import sys, vqtools; dir(vqtools); print([n for n in ('torch', 'pydantic') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def processor_seconds(*arguments: str) -> float:
    """What a Python process costs: processor time, which other work on the machine lengthens little; the least of 5."""
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
    """Every command and the commands in it, as words to type."""
    yield path
    for name, one in sorted(group.commands.items()):
        yield from commands(one, (*path, name)) if isinstance(one, click.Group) else [(*path, name)]


@pytest.mark.parametrize("words", list(commands()), ids=lambda words: " ".join(words) or "vqtools")
def test_help_takes_less_than_half_a_second(words: tuple[str, ...]) -> None:
    assert processor_seconds("-m", "vqtools", *words, "--help") < 0.5


def test_every_name_on_offer_is_there() -> None:
    assert set(vqtools.__all__) <= set(dir(vqtools))
    for name in vqtools.__all__:
        assert getattr(vqtools, name) is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+", vqtools.__version__)
    with pytest.raises(AttributeError, match="no attribute 'pant'"):
        vqtools.pant  # noqa: B018


def test_python_m_vqtools_is_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "vqtools", "--version"], capture_output=True, text=True, check=True)
    assert vqtools.__version__ in ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    ran = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(built: Path) -> set[str]:
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_the_wheel_is_small(built: Path) -> None:
    assert built.stat().st_size < 45e6


def test_the_wheel_carries_notebooks_weights_and_licence(wheel: set[str]) -> None:
    assert {"vqtools/weights/weights.txt", "vqtools/notebooks/04_paint.ipynb", "vqtools/py.typed"} <= wheel
    starter = {str(one.relative_to(ROOT)) for one in (ROOT / "vqtools/weights/starter").rglob("*") if one.is_file()}
    assert starter and {one.replace("\\", "/") for one in starter} <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_wheel_carries_nothing_else(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {"vqtools", f"vqtools-{vqtools.__version__}.dist-info"}
    assert not [name for name in wheel if "checkpoints" in name or name.endswith((".state", ".pyc"))]
