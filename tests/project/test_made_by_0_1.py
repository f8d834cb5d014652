"""Files made by version 0.1 still open, and its interrupted runs continue as 0.1 would have continued them.

tests/made_by_0_1 holds the files, the script that made them (make.py), and the results of 0.1 (expected.json). The
tests use the commands and the package's public names only, so they survive any rearrangement of the modules.

On the kind of machine that made the files, with the same libraries, results must be equal bit for bit. Other CPUs and
other versions of the libraries round sums differently; there, pictures and losses must be close (tolerances below).
"""

from __future__ import annotations

import csv
import hashlib
import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops, ImageStat
from safetensors import safe_open

import vqtools

DATA = Path(__file__).parents[1] / "made_by_0_1"
EXPECTED = json.loads((DATA / "expected.json").read_text("utf-8"))
ITEMS: dict[str, dict[str, Any]] = EXPECTED["items"]


def this_machine() -> dict[str, Any]:
    """What bits depend on, in the form of made_on() in make.py."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    cpuinfo = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    cpu = {name: cpuinfo[name] for name in ("model name", "cpu family", "model", "cache size") if name in cpuinfo}
    flags = [one for one in cpuinfo.get("flags", "").split() if one.startswith(("avx", "amx", "fma"))]
    return {
        "cpu": {**cpu, "flags": " ".join(sorted(flags)), "capability": torch.backends.cpu.get_cpu_capability()},
        "packages": {
            name: torch.__version__ if name == "torch" else metadata.version(name)
            for name in EXPECTED["made_on"]["packages"]
        },
    }


def different() -> list[str]:
    """What differs between this machine and the one that made the files."""
    here = this_machine()
    return [
        f"{name} {here[kind].get(name)}, not {value}"
        for kind in here
        for name, value in EXPECTED["made_on"][kind].items()
        if here[kind].get(name) != value
    ]


DIFFERENT = different()

# Measured with 0.1 on these files, with AVX2 kernels instead of AVX512 (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA): mean
# absolute differences below 0.001 of 255, except in the octave zoom, where a changed code gives up to 4.2. Neighbouring
# frames of "zoom" differ by more than 9, unrelated pictures by more than 40. Losses differ by less than 1e-5.
CLOSE_PIXELS = 8.0
CLOSE_LOSS = 0.01


@pytest.fixture(autouse=True)
def _copy_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a copy of the data, on the CPU, with as many threads as the files were made with."""
    monkeypatch.chdir(shutil.copytree(DATA, tmp_path / "data"))
    monkeypatch.setenv("VQTOOLS_HOME", "home")
    monkeypatch.delenv("VQTOOLS_QUICK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the files were made on a CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(EXPECTED["made_on"]["threads"])
    yield
    torch.set_num_threads(threads)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """``python -m vqtools`` in this process, which saves importing torch for every item."""
    monkeypatch.setattr(sys, "argv", ["vqtools", *arguments])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("vqtools", run_name="__main__")
    assert not left.value.code, f"exit code {left.value.code}; the message is above"


def rgb(path: str | Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def pixels(picture: Image.Image) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, of 255."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)


def tensors(path: str) -> str:
    """The hash of a model's tensors, in the order of their names."""
    found = hashlib.sha256()
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            found.update(name.encode() + file.get_tensor(name).contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", [name for name, item in ITEMS.items() if "pictures" in item])
def test_pictures_match_those_of_0_1(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    item = ITEMS[name]
    command(monkeypatch, *item["command"])
    made = {path: rgb(path) for path in item["pictures"]}
    own = DATA / f"{name}.png"  # reproduced from its own record; otherwise all results side by side
    strip, left = rgb(own if own.is_file() else DATA / "expected" / f"{name}.png"), 0
    for path, picture in made.items():
        wanted = strip.crop((left, 0, left + picture.width, picture.height))
        left += picture.width
        assert distance(picture, wanted) < CLOSE_PIXELS, path
    assert left == strip.width
    if not DIFFERENT:
        assert {path: pixels(picture) for path, picture in made.items()} == item["pictures"]


@pytest.mark.parametrize("name", [name for name, item in ITEMS.items() if "log" in item])
def test_training_continues_with_the_losses_of_0_1(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    item = ITEMS[name]
    command(monkeypatch, *item["command"])
    made = Path(name, "log.csv").read_text("utf-8").splitlines()
    assert losses(made).keys() == losses(item["log"]).keys()
    for step, loss in losses(item["log"]).items():
        assert losses(made)[step] == pytest.approx(loss, rel=CLOSE_LOSS), step
    if not DIFFERENT:
        assert made == item["log"]
        assert tensors(f"home/{name}.safetensors") == item["tensors"]


def losses(log: list[str]) -> dict[int, float]:
    """The loss at each step of a log.csv."""
    return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(log)}


def test_a_painting_is_reproduced_from_python() -> None:
    """The public function, with the settings that 0.1 wrote into the PNG."""
    with Image.open("paint.png") as picture:
        record = json.loads(picture.text["vqtools"])  # type: ignore[attr-defined]
    made = vqtools.paint(**record["settings"])
    assert distance(made, rgb("paint.png")) < CLOSE_PIXELS
    if not DIFFERENT:
        assert made.tobytes() == rgb("paint.png").tobytes()


@pytest.mark.parametrize(
    ("load", "path"),
    [
        (vqtools.load_vqgan, "small.safetensors"),
        (vqtools.load_vqgan, "vqgan/best.safetensors"),
        (vqtools.load_transformer, "transformer/best.safetensors"),
    ],
)
def test_models_load_with_the_weights_that_were_saved(load: Callable[[str], torch.nn.Module], path: str) -> None:
    weights = load(path).state_dict()
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(weights)
        assert all(torch.equal(file.get_tensor(name), weights[name]) for name in file.keys())  # noqa: SIM118
