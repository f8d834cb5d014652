"""What `import vqtools` offers, what it costs, and what the wheel carries."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import vqtools

ROOT = Path(vqtools.__file__).parent.parent


def test_importing_costs_nothing() -> None:
    program = "import sys, vqtools; dir(vqtools); print([n for n in ('torch', 'pydantic') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    ran = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_notebooks_weights_and_licence(wheel: set[str]) -> None:
    assert {"vqtools/weights/weights.txt", "vqtools/notebooks/04_paint.ipynb", "vqtools/py.typed"} <= wheel
    starter = {str(one.relative_to(ROOT)) for one in (ROOT / "vqtools/weights/starter").rglob("*") if one.is_file()}
    assert starter and {one.replace("\\", "/") for one in starter} <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_wheel_carries_nothing_else(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {"vqtools", f"vqtools-{vqtools.__version__}.dist-info"}
    assert not [name for name in wheel if "checkpoints" in name or name.endswith((".state", ".pyc"))]
