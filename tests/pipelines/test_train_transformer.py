"""A transformer trained from a folder: conditions found there, log, resuming after a kill, and the exported model."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vqtools.core.device import choose_machine
from vqtools.core.errors import UserError
from vqtools.core.paths import home_folder
from vqtools.pipelines import sample, train_transformer
from vqtools.pipelines.sample import create_sample_job
from vqtools.pipelines.train_transformer import TransformerTrainer
from vqtools.pipelines.transformer_advice import suggest_transformer_settings
from vqtools.sampling.settings import SampleSettings
from vqtools.training.folder_labels import find_captions
from vqtools.training.image_dataset import find_pictures
from vqtools.training.run_folder import RunFolder
from vqtools.training.settings import TrainTransformerSettings
from vqtools.weights.load import load_transformer, load_vqgan
from vqtools.weights.model_file import read_header, read_transformer, save_model

WATERCOLOURS = Path(__file__).parents[2] / "notebooks" / "watercolours.zip"
TINY = {
    "grid": 4, "layers": 2, "heads": 2, "width": 32, "steps": 24, "batch_size": 4, "views": 2, "measure_every": 8,
    "warmup": 2, "patience": 0,
}  # fmt: skip
CPU = choose_machine(device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))


@pytest.fixture
def classes(tmp_path: Path) -> str:
    """Twelve pictures, red ones and blue ones in folders of their own, with captions beside them."""
    for kind, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        folder = tmp_path / "pictures" / kind
        folder.mkdir(parents=True)
        for i in range(6):
            picture = Image.new("RGB", (40, 36), colour)
            picture.paste((250, 250, 250), (4 * i, 8, 4 * i + 12, 20))
            picture.save(folder / f"{i}.png")
            (folder / f"{i}.txt").write_text(f"a box on {kind}\n")
    return str(tmp_path / "pictures")


def training(where: Path, folder: str, *, resume: bool = False, **fields: Any) -> TransformerTrainer:
    settings = TrainTransformerSettings.parse(TINY | {"folder": folder, "name": "tiny"} | fields)
    return train_transformer.train_transformer(settings, folder=where, resume=resume, machine=CPU)


def run_through(job: TransformerTrainer) -> None:
    while job.position < job.total:
        job.step()


def sampled(**fields: Any) -> Image.Image:
    return sample.sample(transformer="tiny", size=(48, 32), seed=0, **fields)


def test_a_training_writes_a_model_a_log_and_previews(tmp_path: Path, classes: str) -> None:
    job = training(tmp_path, classes)
    run_through(job)
    names = {path.name for path in (tmp_path / "tiny").iterdir()}
    assert {
        "settings.json",
        "log.csv",
        "best.safetensors",
        "samples-00000008.png",
        "state-00000024.safetensors",
    } <= names
    columns, rows = job.run.read_log()
    assert [row["step"] for row in rows] == ["1", "8", "10", "16", "20", "24"]
    assert {"loss", "bits", "held-out nll", "held-out bits", "held-out perplexity", "held-out nll in holes"} <= set(
        columns
    )
    last = rows[-1]
    assert float(last["held-out bits"]) == pytest.approx(float(last["held-out nll"]) / 0.693147, rel=1e-4)
    assert job.run.finished
    gpt = load_transformer("tiny")  # by its name, as sample --transformer tiny
    assert gpt.config.mask_code == 1024 and gpt.config.grid == 4
    assert sampled().size == (48, 32)
    complete = Path(classes) / "red" / "0.png"
    assert sampled(complete=str(complete), keep="lower").size == (48, 32)
    assert job.preview().size == (4 * 32, 4 * 32) or job.preview().size[0] == 32  # as many as are held out


def test_the_exported_weights_are_the_best_measured(
    tmp_path: Path, classes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = training(tmp_path, classes)
    found = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr(job.stage, "measure", lambda batches: next(found) if job.settings.holes is False else 9.0)
    job.settings.holes = False
    run_through(job)
    assert read_header(home_folder() / "tiny.safetensors")["about"]["step"] == 16


def test_training_stops_early_without_improvement(tmp_path: Path, classes: str) -> None:
    job = training(tmp_path, classes, steps=4000, learning_rate=0.05, patience=2, measure_every=5, dropout=0)
    run_through(job)
    assert job.stopped_early and job.position < 2000 and job.run.finished
    kept = read_header(home_folder() / "tiny.safetensors")["about"]
    assert kept["step"] == job.position - 10  # two measurements before
    again = training(tmp_path, classes, resume=True)
    assert again.position == again.total == job.position


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"condition": "class", "holes": False}, {"label": "red"}),
        ({"condition": "caption"}, {"prompt": "a box on blue"}),
        ({"condition": "caption", "holes": False}, {"prompt": "a box on blue"}),
        ({"condition": "none", "holes": False}, {}),
    ],
    ids=lambda fields: " ".join(map(str, fields.values())),
)
def test_every_condition_trains_and_samples(tmp_path: Path, classes: str, fields: Any, asked: Any) -> None:
    job = training(tmp_path, classes, steps=4, **fields)
    run_through(job)
    assert sampled(**asked).size == (48, 32)


def test_a_class_is_learned(tmp_path: Path, classes: str) -> None:
    run_through(training(tmp_path, classes, condition="class", holes=False, steps=120, learning_rate=1e-2, dropout=0))
    for label, channel in (("red", 0), ("blue", 2)):
        image = torch.frombuffer(bytearray(sampled(label=label, guidance=1.0).tobytes()), dtype=torch.uint8)
        means = image.view(-1, 3).float().mean(0)
        assert int(means.argmax()) == channel, (label, means)


def test_codes_of_another_picture_are_a_condition(tmp_path: Path, classes: str) -> None:
    second = tmp_path / "grey"
    for path in Path(classes).rglob("*.png"):
        place = second / path.relative_to(classes)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").convert("RGB").save(place)
    job = training(tmp_path, classes, condition="codes", others=str(second), holes=False, steps=4)
    run_through(job)
    batch = job.stage.batch(0)
    assert batch.condition is not None and batch.condition.shape == batch.codes.shape
    assert not torch.equal(batch.condition, batch.codes)
    assert read_transformer(home_folder() / "tiny.safetensors").config.spatial
    (second / "red" / "3.png").unlink()
    with pytest.raises(UserError, match="has no picture called 'red/3'"):
        training(tmp_path, classes, condition="codes", others=str(second), holes=False, name="other")


def test_pictures_are_encoded_once(tmp_path: Path, classes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = training(tmp_path, classes)
    kept = sorted((tmp_path / "home" / "codes").iterdir())
    assert len(kept) == 2
    calls = []
    vqgan = load_vqgan("starter")
    monkeypatch.setattr(vqgan, "encode", lambda images: calls.append(1) or type(vqgan).encode(vqgan, images))
    second = training(tmp_path, classes, name="again")
    assert not calls
    assert torch.equal(first.stage.batch(3).codes, second.stage.batch(3).codes)
    Image.new("RGB", (40, 40)).save(Path(classes) / "red" / "0.png")  # another content, other codes
    training(tmp_path, classes, name="third")
    assert calls
    kept[0].write_bytes(b"cut short")
    training(tmp_path, classes, name="fourth")


def test_a_killed_and_resumed_training_has_the_same_losses(tmp_path: Path, classes: str) -> None:
    fields = TINY | {"steps": 60, "learning_rate": 3e-3}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in fields.items()]
    command = [sys.executable, "-m", "vqtools", "train-transformer", classes, "--name", "tiny", "--save-minutes=0"]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [*command, *flags, "--precision=fp32", "--condition=none"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not RunFolder(tmp_path / "tiny").states() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    job = training(tmp_path, classes, resume=True)
    position = job.position
    whole = training(tmp_path / "whole", **job.settings.model_dump())  # a run that nobody killed
    expected = [whole.step()["loss"] for _ in range(position + 20)]
    assert 0 < position <= 40
    assert [job.step()["loss"] for _ in range(20)] == expected[position:]


def test_the_condition_is_suggested_by_the_folder(tmp_path: Path, classes: str) -> None:
    captioned, why = suggest_transformer_settings({"folder": classes}, CPU)
    assert captioned.condition == "caption" and captioned.holes and "captions" in " ".join(why)
    for path in Path(classes).rglob("*.txt"):
        path.unlink()
    by_class, why = suggest_transformer_settings({"folder": classes}, CPU)
    assert by_class.condition == "class" and not by_class.holes and "blue, red" in " ".join(why)
    plain, _ = suggest_transformer_settings({"folder": str(Path(classes) / "red")}, CPU)
    assert plain.condition == "none" and plain.holes and plain.batch_size == 5
    kept, _ = suggest_transformer_settings({"folder": classes, "condition": "none", "steps": 7, "width": 64}, CPU)
    assert (kept.condition, kept.steps, kept.width) == ("none", 7, 64)


@pytest.mark.parametrize("packing", ["folder", "zip", "tar"])
def test_captions_are_found_beside_pictures(tmp_path: Path, packing: str) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("a boat\n\na ship \n", "utf-8")
    (folder / "b.json").write_text(json.dumps({"caption": "a tree", "width": 8}))
    (folder / "c.json").write_text("{broken")
    path = folder
    if packing == "zip":
        path = tmp_path / "one.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
    elif packing == "tar":
        path = tmp_path / "one.tar"
        with tarfile.open(path, "w") as tar:
            for file in sorted(folder.iterdir()):
                tar.add(file, file.name)
    assert find_captions(path, find_pictures(path)) == [["a boat", "a ship"], ["a tree"], []]


def test_contradicting_settings_raise_an_error(tmp_path: Path, classes: str) -> None:
    red = str(Path(classes) / "red")
    (tmp_path / "empty").mkdir()
    for fields, words in (
        ({"folder": str(tmp_path / "empty")}, "holds no pictures"),
        ({"batch_size": 64}, "11 pictures to train on are fewer than a batch of 64"),
        ({"folder": red, "condition": "class", "holes": False}, "needs pictures in sub-folders"),
        ({"folder": str(WATERCOLOURS), "condition": "caption"}, "has none: add a .txt"),
        ({"condition": "class"}, "add --no-holes"),
        ({"condition": "codes", "holes": False}, "needs --others"),
        ({"others": "depth"}, "used with --condition codes only"),
        ({"width": 30, "heads": 4}, "width 30 is not a multiple of 4 heads; the nearest below is 28"),
        ({"vqgan": "nothing"}, "there is no vqgan named 'nothing'"),
        ({"ground": "nocolour"}, "is not a colour"),
        ({"name": "../up"}, "is not a file name"),
    ):
        with pytest.raises(UserError, match=words):
            training(tmp_path, **{"folder": classes} | fields)
    assert not (tmp_path / "tiny").exists()


def test_a_transformer_of_another_vqgan_raises_an_error(tmp_path: Path, classes: str) -> None:
    run_through(training(tmp_path, classes, steps=2))
    vqgan = load_vqgan("starter")
    home_folder().mkdir(exist_ok=True)
    tensors = vqgan.state_dict()
    save_model(home_folder() / "other.safetensors", "vqgan", vqgan.config.to_dict(), tensors, made="elsewhere")
    with pytest.raises(UserError, match="trained with another vqgan"):
        create_sample_job(SampleSettings.parse({"transformer": "tiny", "vqgan": "other", "size": "48x32"}))
