"""Make the files in this folder with vqtools 0.1: pictures, interrupted runs, and what 0.1 makes of them.

Later versions must open these files and continue these runs; tests/project/test_made_by_0_1.py checks that they do.
This script runs against version 0.1 only, on a CPU, and is kept to document how the files were made:

    cd CHECKOUT_OF_0.1 && PYTHONPATH=. python .../make.py EMPTY_FOLDER

Each run is interrupted by Ctrl-C between two steps. Copies of it are then resumed, one in this process and one in a
new process; both results must be equal, and their hashes are written to expected.json. The files are as 0.1 wrote
them, with two exceptions: absolute paths in morph/settings.json are made relative, because the folder moves, and files
that resuming does not read are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

THREADS = 2
os.environ |= {"OMP_NUM_THREADS": str(THREADS), "VQTOOLS_HOME": "home", "CUDA_VISIBLE_DEVICES": ""}
os.environ.pop("VQTOOLS_QUICK", None)

import torch  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402
from safetensors import safe_open  # noqa: E402

import vqtools  # noqa: E402
from vqtools import cli, jobs, media, studio  # noqa: E402
from vqtools.models.vqgan import VQGAN, VQGANConfig  # noqa: E402
from vqtools.painting.settings import PaintSettings  # noqa: E402
from vqtools.weights import files  # noqa: E402

PICTURES = Path(vqtools.__file__).parents[1] / "tests" / "pictures"
COMMON = ["--precision=fp32", "--grids=2", "--cutouts=2"]
SMALL = ["--size=64x64", *COMMON]
ANIMATED = ["--size=48x48", *COMMON, "--iterations=4", "--iterations-per-frame=2", "--seed=5"]
PACKAGES = ("kornia", "numpy", "open_clip_torch", "pillow", "timm")  # beside torch, that change bits

WISH = {"size": [64, 64], "precision": "fp32", "grids": 2, "cutouts": 2}

Enough = Callable[[Any], bool]


def call(*arguments: str, enough: Enough | None = None) -> None:
    """Run a command of vqtools here; with ``enough``, press Ctrl-C after the first step for which it is true."""
    run = jobs.run

    def interrupted(job: Any, **keywords: Any) -> bool:
        step = job.step

        def stepped() -> dict[str, float]:
            report: dict[str, float] = step()
            if enough is not None and enough(job):
                os.kill(os.getpid(), signal.SIGINT)
            return report

        job.step = stepped
        return run(job, **keywords)

    print("vqtools", *arguments, flush=True)
    with mock.patch.object(jobs, "run", interrupted):
        try:
            cli.main(arguments)
        except SystemExit as left:
            expected = 0 if enough is None else 130
            assert left.code == expected, f"exit code {left.code}, not {expected}"


def after(position: int) -> Enough:
    return lambda job: job.position >= position


# Pictures that are reproduced from their records.


def make_paintings() -> None:
    prompt = "a red apple on a table:1.5 | a blue sky:0.7"
    flags = ["--iterations=6", "--augment=Hf Af Ji Gn", "--symmetry=left-right", "--saturation=0.5"]
    flags += ["--palette=#d62828 #fcbf49 #003049", "--regions=1=0,0,1,0.6", "--ema=0.9"]
    call("paint", prompt, *SMALL, *flags, "--seed=11", "--out=paint.png")

    picture = media.load_picture(PICTURES / "fluentflat__green-apple.webp").resize((64, 64))
    picture.save("start.png")
    flags = ["--iterations=5", "--init-image=start.png", "--init-weight=0.5", "--optimiser=AdamW", "--prior=0.05"]
    call("paint", "a glass apple", *SMALL, *flags, "--seed=12", "--out=embedded.png")
    Path("start.png").unlink()  # the record holds it

    call("sample", "a green hill", "--size=64x64", "--grids=2", "--precision=fp32", "--seed=13", "--out=sample.png")
    call("drafts", "a castle", *SMALL, "--iterations=3", "--count=3", "--seed=14", "--out=drafts.png")
    call("grid", "a forest", *SMALL, "--iterations=3", "--vary=seed=1-2", "--out=grid.png")


def make_edited() -> None:
    """A painting whose edit log holds every kind of entry, also one from while the transformer draws the start."""
    fields = {**WISH, "prompt": "a red apple | a blue sky:0.5", "iterations": 10, "seed": 21}
    job = studio.easel(PaintSettings.parse(fields))

    def steps(count: int) -> None:
        for _ in range(count):
            job.step()

    steps(5)
    assert not job.begun
    job.edit({"cutouts": 3})
    while not job.begun:
        job.step()
    steps(2)
    job.edit({"prompt": "a green pear | a blue sky:0.5"})
    job.set_region(1, (0, 0, 64, 24))
    steps(1)
    job.edit({"learning_rate": 0.3, "optimiser": "AdamW"})
    steps(1)
    job.undo()
    steps(2)
    area = Image.new("L", (64, 64))
    ImageDraw.Draw(area).ellipse((8, 8, 40, 40), fill=255)
    job.protect(area)
    steps(2)
    job.branch(job.position - 1)
    job.repaint((32, 32, 64, 64))
    steps(1)
    job.repaint((0, 32, 32, 64), fresh=False)
    job.edit({"iterations": 12, "saturation": 1.0, "augment": "Hf Pe"})
    while job.position < job.total:
        job.step()
    media.save_png("edited.png", job.picture(), job.record())
    kinds = {entry["do"] for entry in job.record()["journal"]}
    assert kinds == {"edit", "region", "protect", "repaint", "go"}, kinds


# Runs that are interrupted.


def make_queue() -> None:
    """Three items interrupted midway, each with a state, and one not yet started."""
    folder = Path("queue")
    folder.mkdir()
    shutil.copy("edited.png", folder / "c-edited.png")
    call("queue", "queue", enough=lambda job: job.begun and job.position >= job.total - 5)
    sampled = {"activity": "sample", "prompt": "a house", "size": [64, 64], "precision": "fp32", "seed": 32}
    (folder / "b-sample.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in sampled.items()))
    call("queue", "queue", enough=after(30))
    painted = {**WISH, "prompt": "a boat | water", "iterations": 8, "seed": 31, "optimiser": "RAdam", "seamless": True}
    (folder / "a-paint.json").write_text(json.dumps(painted))
    call("queue", "queue", enough=lambda job: job.begun and job.position >= job.total - 4)
    shutil.move("grid.png", folder / "d-grid.png")
    assert len(list((folder / ".queue").glob("*.safetensors"))) == 3


def make_animations() -> None:
    flags = ["--frames=8", "--motion=zoom in", "--angle=2", "--cadence=2", "--color-coherence=LAB"]
    flags += ["--noise-schedule=0.02", "--init-weight=0.1"]
    call("animate", "a forest ^ the sea", *ANIMATED, *flags, "--out=zoom", enough=lambda job: job.done >= 5)
    flags = ["--octave-zoom", "--zoom=1.3", "--frames=6"]
    halfway: Enough = lambda job: job.position >= 1.5 * job.steps + 20  # noqa: E731
    call("animate", "a castle ^ a forest", *ANIMATED, *flags, "--out=octaves", enough=halfway)
    call("morph", "paint.png", "sample.png", "--size=48x48", "--frames=6", "--out=morph", enough=after(3))
    path = Path("morph", "settings.json")
    record = json.loads(path.read_text())
    record["pictures"] = [Path(one).name for one in record["pictures"]]
    path.write_text(json.dumps(record, indent=1) + "\n")
    for folder in ("zoom", "octaves", "morph"):
        for video in Path(folder).glob("*.mp4"):
            video.unlink()  # written again when the run ends
        states = sorted(Path(folder, "states").glob("*.safetensors"))
        for state in states[:-1]:
            state.unlink()  # resuming reads the newest only


def make_trainings() -> None:
    """A VQGAN and a transformer, both as small as the commands allow.

    The VQGAN is smaller than any that the command creates, so it starts from a file. It is interrupted
    before the discriminator's first step: its smallest form would add 300 kB of moments to the state.
    """
    Path("pictures").mkdir()
    for number, path in enumerate(sorted(PICTURES.glob("fluentflat__*.webp"))[:8]):
        media.load_picture(path).resize((32, 32)).save(f"pictures/{number}.png", optimize=True)
    torch.manual_seed(1)
    config = VQGANConfig(
        channels=4, channel_mult=(1, 1), res_blocks=1, attn_resolutions=(), resolution=32, z_channels=4, embed_dim=4,
        codebook_size=32, patch=2, mid_attention=False, norm_groups=2, metric="cosine",
    )  # fmt: skip
    vqgan = VQGAN(config)
    vqgan.quantize.embedding.weight.data.normal_()
    files.save_model(Path("small.safetensors"), "vqgan", config.to_dict(), vqgan.state_dict())

    flags = ["--precision=fp32", "--measure-every=3", "--save-minutes=1000", "--smallest-crop=0.8", "--steps=12"]
    given = ["--from=small.safetensors", "--size=32", "--batch-size=4", "--perceptual=lite0", "--warmup=2"]
    given += ["--disc-layers=1", "--disc-start=9", "--disc-ramp=2", "--learning-rate=0.002"]
    call("train-vqgan", "pictures", "--name=vqgan", *flags, *given, "--seed=3", enough=after(7))

    given = ["--vqgan=small.safetensors", "--grid=4", "--layers=1", "--heads=2", "--width=16", "--batch-size=4"]
    given += ["--views=2", "--warmup=2", "--dropout=0.1"]
    call("train-transformer", "pictures", "--name=transformer", *flags, *given, "--seed=4", enough=after(7))
    for folder in ("vqgan", "transformer"):
        for path in Path(folder).glob("*.png"):
            path.unlink()  # resuming does not read them
    shutil.rmtree("home", ignore_errors=True)  # cached codes of the pictures, computed again


# What 0.1 makes of them.

CONTINUED: dict[str, Sequence[str]] = {
    "paint": ["paint", "--from=paint.png", "--out=again.png"],
    "edited": ["paint", "--from=edited.png", "--replay", "--out=again.png"],
    "embedded": ["paint", "--from=embedded.png", "--out=again.png"],
    "bigger": ["paint", "--from=edited.png", "--bigger=1.5", "--iterations=2", "--out=again.png"],
    "sample": ["sample", "--from=sample.png", "--out=again.png"],
    "pick": ["drafts", "--from=drafts.png", "--pick=2", "--iterations=2", "--out=again.png"],
    "cross": ["drafts", "--from=drafts.png", "--cross=1,3", "--iterations=2", "--out=again.png"],
    "queue": ["queue", "queue"],
    "zoom": ["animate", "--resume=zoom"],
    "octaves": ["animate", "--resume=octaves"],
    "morph": ["morph", "--resume=morph"],
    "vqgan": ["train-vqgan", "--resume", "--name=vqgan"],
    "transformer": ["train-transformer", "--resume", "--name=transformer"],
}
MADE = {"queue": "queue/done/*.png", **{name: f"{name}/frames/*.png" for name in ("zoom", "octaves", "morph")}}
TRAININGS = ("vqgan", "transformer")


def pixels(path: Path) -> str:
    """The hash of a picture's RGB values; that of a PNG's bytes would depend on zlib."""
    with Image.open(path) as picture:
        return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()


def tensors(path: Path) -> str:
    """The hash of a model's tensors, in the order of their names."""
    found = hashlib.sha256()
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            found.update(name.encode() + file.get_tensor(name).contiguous().numpy().tobytes())
    return found.hexdigest()


def continued(data: Path, name: str, own_process: bool) -> tuple[dict[str, Any], list[Image.Image]]:
    """Continue one item in a copy of the data: its part of expected.json, and the pictures that were made."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(data, Path(folder) / "data")
        with chdir(copy):
            if own_process:
                subprocess.run([sys.executable, "-m", "vqtools", *CONTINUED[name]], check=True, capture_output=True)
            else:
                call(*CONTINUED[name])
        if name in TRAININGS:
            log = (copy / name / "log.csv").read_text()
            return {"tensors": tensors(copy / "home" / f"{name}.safetensors"), "log": log.splitlines()}, []
        paths = sorted(one for one in copy.glob(MADE.get(name, "again.png")) if one.name != "report.png")
        found = {"pictures": {path.relative_to(copy).as_posix(): pixels(path) for path in paths}}
        return found, [Image.open(path).convert("RGB") for path in paths]


def save_strip(path: Path, pictures: Sequence[Image.Image]) -> None:
    """All pictures side by side, for machines whose pixels differ a little."""
    strip = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)))
    left = 0
    for one in pictures:
        strip.paste(one, (left, 0))
        left += one.width
    strip.save(path, optimize=True)


def made_on() -> dict[str, Any]:
    """What the bits depend on: the CPU, as far as kernels and their blocking are chosen by it, and the libraries."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    cpuinfo = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    cpu = {name: cpuinfo[name] for name in ("model name", "cpu family", "model", "cache size") if name in cpuinfo}
    flags = [one for one in cpuinfo.get("flags", "").split() if one.startswith(("avx", "amx", "fma"))]
    return {
        "cpu": {**cpu, "flags": " ".join(sorted(flags)), "capability": torch.backends.cpu.get_cpu_capability()},
        "packages": {"torch": torch.__version__} | {name: metadata.version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
    }


def main(data: Path) -> None:
    assert vqtools.__version__ == "0.1.0", f"these files are made by 0.1.0, not by {vqtools.__version__}"
    torch.set_num_threads(THREADS)
    data.mkdir(parents=True, exist_ok=True)
    with chdir(data):
        for make in (make_paintings, make_edited, make_queue, make_animations, make_trainings):
            make()
        for path in sorted(Path().rglob("*.lock")):
            path.unlink()
    items: dict[str, Mapping[str, Any]] = {}
    (data / "expected").mkdir()
    for name, command in CONTINUED.items():
        found, pictures = continued(data, name, own_process=False)
        again, _ = continued(data, name, own_process=True)
        assert found == again, f"{name}: continued twice, two results"
        items[name] = {"command": command, **found}
        own = data / f"{name}.png"
        if pictures and own.is_file():
            assert list(found["pictures"].values()) == [pixels(own)], f"{name}: not made again from its record"
        elif pictures:
            save_strip(data / "expected" / f"{name}.png", pictures)
    text = json.dumps({"made_by": vqtools.__version__, "made_on": made_on(), "items": items}, indent=1)
    (data / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
