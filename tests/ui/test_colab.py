"""The first cell of every notebook: it installs what is missing, changes nothing installed, and uses Colab's Drive."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from vqtools.core.errors import UserError
from vqtools.ui import colab
from vqtools.ui.colab import NOT_INSTALLED, installed_versions, missing_requirements, normalised_name, pip_constraints

ROOT = Path(__file__).parents[2]
NEVER = ("torch", "numpy", "ipywidgets", "ipykernel")


def requirements() -> list[str]:
    return list(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"])


def colab_versions() -> dict[str, str]:
    """Colab's packages: local version labels taken off, those without a version on PyPI left out."""
    lines = (ROOT / "tests/colab-pip-freeze.txt").read_text("utf-8").splitlines()
    pairs = [line.partition("==") for line in lines if "==" in line and " @ " not in line and not line.startswith("#")]
    return {normalised_name(name): version.partition("+")[0] for name, _, version in pairs}


def test_names_are_normalised_as_on_pypi() -> None:
    assert normalised_name("Open_CLIP.torch>=2.30") == normalised_name("open-clip-torch") == "open-clip-torch"
    assert normalised_name("ipykernel>=6.17,!=7.0.*") == "ipykernel"


def test_only_missing_requirements_are_installed_and_never_jupyterlab() -> None:
    assert missing_requirements(["torch>=2.6", "kornia>=0.7", "jupyterlab>=4"], {"torch": "2.0"}) == ["kornia>=0.7"]
    wanted = {normalised_name(one) for one in missing_requirements(requirements(), colab_versions())}
    assert "kornia" in wanted and wanted.isdisjoint(NEVER)


def test_constraints_keep_every_installed_version() -> None:
    held = pip_constraints({"torch": "2.11.0+cu128", "numpy": "2.1.3"})
    assert held == "numpy==2.1.3\ntorch==2.11.0+cu128\n"
    assert re.search(
        rf"^torch=={re.escape(installed_versions()['torch'])}$", pip_constraints(installed_versions()), re.MULTILINE
    )


def test_outside_colab_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(colab, "requirements", requirements)
    colab.ready(drive=True, release=True)
    colab.done()
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == [] and Path.cwd() == tmp_path


def test_requirements_come_from_the_metadata_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(one.startswith("torch") for one in colab.requirements())
    assert not [one for one in colab.requirements() if "extra" in one]

    def nowhere(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(colab.metadata, "requires", nowhere)
    assert colab.requirements() == []


def test_the_module_imports_no_requirement() -> None:
    names = sorted({normalised_name(one).replace("-", "_") for one in requirements()} | {"PIL", "yaml", "cv2"})
    program = f"import sys, vqtools.ui.colab; print([n for n in {names!r} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.fixture
def colab_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Python that believes to be on Colab: google.colab's three modules write down what they are asked."""
    package = tmp_path / "site" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name, functions in {
        "output": "enable_custom_widget_manager", "drive": "mount flush_and_unmount", "runtime": "unassign",
    }.items():  # fmt: skip
        lines = [f"def {one}(*given): asked.append(('{one}', *given))" for one in functions.split()]
        (package / f"{name}.py").write_text("\n".join(["from google.colab import asked", *lines]))
    (package / "__init__.py").write_text("asked = []")
    for name in [one for one in sys.modules if one == "google" or one.startswith("google.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(colab, "requirements", requirements)
    monkeypatch.setattr(colab, "RELEASE_DELAY_SECONDS", 0.01)
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    here = tmp_path / "content"
    here.mkdir()
    monkeypatch.chdir(here)
    yield here
    for name in [one for one in sys.modules if one == "google" or one.startswith("google.colab")]:
        del sys.modules[name]


def asked() -> list[str]:
    from google.colab import asked

    return [one[0] for one in asked]


def test_on_colab_the_files_beside_the_notebook_are_copied(colab_folder: Path) -> None:
    (colab_folder / "watercolours.zip").write_text("mine")
    colab.ready()
    assert (colab_folder / "watercolours.zip").read_text() == "mine" and not list(colab_folder.glob("*.ipynb"))
    (colab_folder / "watercolours.zip").unlink()
    colab.ready()
    assert (colab_folder / "watercolours.zip").stat().st_size > 50_000
    assert asked() == ["enable_custom_widget_manager"] * 2 and Path.cwd() == colab_folder
    colab.done()
    assert "unassign" not in asked()


def test_drive_holds_models_and_results(colab_folder: Path, tmp_path: Path) -> None:
    colab.ready(drive=True)
    mine = tmp_path / "drive" / "MyDrive" / "vqtools"
    assert os.environ["VQTOOLS_HOME"] == str(mine / "models") and Path.cwd() == mine
    assert (mine / "watercolours.zip").exists() and "mount" in asked()
    colab.ready(drive=True)  # a second Run All
    assert Path.cwd() == mine


def test_the_machine_is_released_only_if_results_are_in_drive(colab_folder: Path) -> None:
    with pytest.raises(UserError, match="keep_in_drive"):
        colab.ready(release=True)
    colab.ready(drive=True, release=True)
    colab.done()
    assert asked()[-2:] == ["flush_and_unmount", "unassign"]


def test_an_interrupt_keeps_the_machine(colab_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    colab.ready(drive=True, release=True)
    colab.done()
    assert "unassign" not in asked()


@pytest.mark.network
def test_colab_keeps_its_packages(tmp_path: Path) -> None:
    """What the first cell asks pip for, with Colab's versions as constraints, for Colab's Python."""
    here = colab_versions()
    # PyPI's torch of that version asks for another CUDA than Colab's own build, which is what its label says
    held = {name: version for name, version in here.items() if not name.startswith(("nvidia-", "cuda-", "triton"))}
    (tmp_path / "constraints.txt").write_text(pip_constraints(held))
    wanted = [one for one in requirements() if normalised_name(one) not in NOT_INSTALLED]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += ["--python-version", "3.13", "--only-binary", ":all:", "--target", str(tmp_path / "there")]
    command += ["--constraint", str(tmp_path / "constraints.txt"), "--report", str(tmp_path / "report.json"), *wanted]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=540)
    assert ran.returncode == 0, ran.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    chosen = {normalised_name(one["metadata"]["name"]): one["metadata"]["version"] for one in report["install"]}
    changed = {name: (held[name], chosen[name]) for name in chosen if held.get(name, chosen[name]) != chosen[name]}
    assert set(NEVER) <= set(chosen) and not changed
    brought = {name for name in chosen if name not in here}
    assert brought >= {"kornia", "open-clip-torch", "torchmetrics"}, brought


@pytest.mark.network
def test_pip_fails_rather_than_change_an_installed_package(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = next(path for path in (tmp_path / "venv").glob("*/python*") if path.stem == "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "packaging==23.0"], check=True)
    program = textwrap.dedent("""
        import sys
        from importlib import metadata
        from vqtools.ui import colab
        required = ["packaging>=20", "platformdirs>=4"]
        colab.install(colab.missing_requirements(required, colab.installed_versions()))
        import platformdirs
        try:
            colab.install(["hatchling>=1.26"])  # asks for a packaging that is newer than 23
        except RuntimeError as error:
            print("refused")
        print(metadata.version("packaging"))
    """)
    ran = subprocess.run(
        [python, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line.partition(";")[0] for line in ran.stdout.splitlines()]
    assert said == ["installing platformdirs", "installing hatchling", "refused", "23.0"], ran.stderr
