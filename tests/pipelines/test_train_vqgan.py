"""A VQGAN trained from a folder: suggested settings, log, resuming after a kill, and the exported model."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vqtools.core.device import choose_machine
from vqtools.core.distributed import Distributed
from vqtools.core.errors import UserError
from vqtools.media.image import to_tensor
from vqtools.pipelines import train_vqgan
from vqtools.pipelines.train_vqgan import VQGANTrainer
from vqtools.pipelines.vqgan_advice import suggest_vqgan_settings
from vqtools.pipelines.vqgan_figures import draw_codebook
from vqtools.training import trainer
from vqtools.training.run_folder import RunFolder
from vqtools.training.settings import TrainVQGANSettings
from vqtools.weights.load import load_vqgan

PICTURES = Path(__file__).parents[1] / "pictures"
GOLDEN = Path(__file__).parents[1] / "golden"
WATERCOLOURS = Path(__file__).parents[2] / "notebooks" / "watercolours.zip"
TINY = {
    "folder": str(PICTURES), "from_": "none", "codebook_size": 32, "size": 32, "batch_size": 4, "steps": 24,
    "warmup": 2, "disc_start": 8, "disc_ramp": 4, "kmeans_batches": 1, "measure_every": 10, "perceptual": "lite0",
}  # fmt: skip
CPU = choose_machine(device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))


def training(where: Path, *, resume: bool = False, **fields: Any) -> VQGANTrainer:
    settings = TrainVQGANSettings.parse(TINY | {"name": "tiny"} | fields)
    return train_vqgan.train_vqgan(settings, folder=where, resume=resume, machine=CPU)


def test_a_training_writes_a_model_a_log_and_previews(tmp_path: Path) -> None:
    job = training(tmp_path)
    while job.position < job.total:
        job.step()
    names = {path.name for path in (tmp_path / "tiny").iterdir()}
    assert {"settings.json", "log.csv", "best.safetensors", "codebook.png", "state-00000024.safetensors"} <= names
    assert "reconstructions-00000010.png" in names
    columns, rows = job.run.read_log()
    assert [row["step"] for row in rows] == ["1", "10", "20", "24"]
    assert {"loss", "usage", "perplexity", "held-out psnr", "held-out ssim", "held-out perceptual"} <= set(columns)
    vqgan = load_vqgan("tiny")  # what paint --vqgan tiny does
    assert vqgan.config.codebook_size == 32
    averaged = job.stage.ema
    assert torch.equal(vqgan.decoder.conv_out.weight, averaged.decoder.conv_out.weight)


def test_a_killed_and_resumed_training_has_the_same_losses(tmp_path: Path) -> None:
    flags = [f"--{name.rstrip('_').replace('_', '-')}={value}" for name, value in TINY.items() if name != "folder"]
    command = [
        sys.executable,
        "-m",
        "vqtools",
        "train-vqgan",
        str(PICTURES),
        "--name",
        "tiny",
        "--save-minutes=0",
        *flags,
    ]
    command += ["--precision=fp32"]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not RunFolder(tmp_path / "tiny").states() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    job = training(tmp_path, resume=True)
    position = job.position
    whole = training(tmp_path / "whole", **job.settings.model_dump())  # a run that nobody killed
    expected = [whole.step()["loss"] for _ in range(24)]
    assert 0 < position < 24
    assert [job.step()["loss"] for _ in range(24 - position)] == expected[position:]


def test_resuming_deletes_rows_that_are_logged_again(tmp_path: Path) -> None:
    job = training(tmp_path)
    for _ in range(12):
        job.step()
    job.save()
    for _ in range(8):
        job.step()
    again = training(tmp_path, resume=True)
    assert again.position == 12
    assert [row["step"] for row in again.run.read_log()[1]] == ["1", "10"]


def test_a_broken_state_falls_back_to_the_previous_one(tmp_path: Path) -> None:
    job = training(tmp_path)
    for _ in range(2):
        job.step()
        job.save()
    (tmp_path / "tiny" / "state-00000002.safetensors").write_bytes(b"cut short")
    assert training(tmp_path, resume=True).position == 1


def test_a_second_run_of_a_name_and_resuming_no_run_raise_errors(tmp_path: Path) -> None:
    training(tmp_path)
    with pytest.raises(UserError, match="contains a run; continue it with --resume"):
        training(tmp_path)
    with pytest.raises(UserError, match=r"there is no run in .*absent"):
        training(tmp_path, resume=True, name="absent")
    for name in ("../climbs", "", ".hidden", "a/b"):
        with pytest.raises(UserError, match="is not a file name"):
            training(tmp_path, name=name)


def test_continuing_from_the_starter_starts_with_its_codes(tmp_path: Path) -> None:
    job = training(tmp_path, from_="starter", codebook_size=512)
    starter = load_vqgan("starter")
    assert torch.equal(job.stage.vqgan.codebook, starter.codebook)
    assert torch.equal(job.stage.vqgan.encode(job.held_out), starter.encode(job.held_out))
    job.step()
    assert not torch.equal(job.stage.vqgan.codebook, starter.codebook)


def test_a_gumbel_codebook_trains_and_resumes(tmp_path: Path) -> None:
    job = training(tmp_path, quantizer="gumbel")
    losses = [job.step()["loss"] for _ in range(4)]
    job.save()
    losses += [job.step()["loss"] for _ in range(3)]
    again = training(tmp_path, resume=True)
    assert [again.step()["loss"] for _ in range(3)] == losses[4:]
    assert 0.0625 < job.stage.vqgan.quantize.temperature < 1.0
    averaged = job.stage.ema  # what is kept draws nothing
    assert torch.equal(averaged.encode(job.held_out), averaged.encode(job.held_out))


def test_fine_tuning_a_public_checkpoint_on_forty_pictures_improves_it(tmp_path: Path) -> None:
    """The reference's checkpoint of the public architecture, small; the watercolours of notebook 01."""
    checkpoint = tmp_path / "last.ckpt"  # converted beside itself
    shutil.copy(GOLDEN / "taming_vqmodel.ckpt", checkpoint)
    shutil.copy(GOLDEN / "taming_vqmodel.yaml", tmp_path / "last.yaml")
    fields = {
        "from_": str(checkpoint), "folder": str(WATERCOLOURS), "steps": 30, "measure_every": 15,
        "learning_rate": 1e-3, "disc_start": 25, "size": 32,
    }  # fmt: skip
    job = training(tmp_path, **fields)
    began = train_vqgan.metrics.measure(job.stage.ema, job.held_out)
    for _ in range(9):
        job.step()
    job.save()
    job.step()  # lost
    again = training(tmp_path, resume=True)
    while again.position < again.total:
        again.step()
    assert again.measured["held-out psnr"] > began["psnr"] + 1
    assert load_vqgan("tiny").f == job.stage.vqgan.f


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": 36}, "size 36 is not a multiple of 8; the nearest is 32"),
        ({"ground": "octarine"}, "ground 'octarine' is not a colour"),
        ({"from_": "strater"}, "there is no vqgan named 'strater'; did you mean 'starter'"),
        ({"batch_size": 4000}, "fewer than a batch of 4000"),
    ],
)
def test_invalid_settings_raise_an_error_before_anything_is_written(
    fields: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        training(tmp_path, **fields)
    assert not (tmp_path / "tiny").exists()


def test_a_batch_size_that_does_not_fit_the_processes_raises_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Distributed()
    both.size = 2
    monkeypatch.setattr(trainer, "init_distributed", lambda machine: both)
    with pytest.raises(UserError, match="batch_size 5 is not a multiple of 2 processes; the nearest below is 4"):
        training(tmp_path, batch_size=5)


def test_a_loss_that_is_not_finite_raises_an_error(tmp_path: Path) -> None:
    job = training(tmp_path)
    job.step()
    with torch.no_grad():
        job.stage.vqgan.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="lower --learning-rate"):
        job.step()


def test_tensorboard_files_are_written_on_request(tmp_path: Path) -> None:
    job = training(tmp_path, tensorboard=True, steps=1)
    job.step()
    assert list((tmp_path / "tiny").glob("events.out.tfevents.*"))


def pictures(folder: Path, count: int) -> str:
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", (8, 8), (i % 256, 0, 0)).save(folder / f"{i}.png")
    return str(folder)


def test_missing_settings_are_suggested_by_the_folder(tmp_path: Path) -> None:
    few, why = suggest_vqgan_settings({"folder": pictures(tmp_path / "few", 60), "from_": "none"}, CPU)
    assert few.codebook_size == 256 and few.diff_augment and few.steps == 675
    assert few.disc_start == few.steps // 2
    assert "54 pictures to train on, 6 held out for measurements" in why
    tuned, _ = suggest_vqgan_settings({"folder": str(tmp_path / "few"), "learning_rate": 1e-5, "steps": 70}, CPU)
    assert tuned.learning_rate == 1e-5 and tuned.steps == 70


def test_architecture_settings_make_a_new_network_or_raise_an_error(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "few", 60)
    chosen, why = suggest_vqgan_settings({"folder": folder, "codebook_size": 64}, CPU)
    assert chosen.from_ == "none" and "a new small network with 64 codes" in why
    with pytest.raises(UserError, match=r"codebook_size, metric: .*starter keeps its own; .*--from none"):
        suggest_vqgan_settings({"folder": folder, "from_": "starter", "metric": "cosine", "codebook_size": 64}, CPU)


@pytest.mark.parametrize("from_", ["none", "starter"])
def test_the_codebook_loss_follows_the_settings(from_: str, tmp_path: Path) -> None:
    """Both forms have the same value; which gradient grows with the weight tells them apart."""
    found = {}
    for form in ("reference", "paper"):
        fields = {"codebook": "gradient", "commitment": form, "commitment_weight": 4.0, "from_": from_}
        vqgan = training(tmp_path / form, **fields).stage.vqgan
        latents = (torch.randn(1, vqgan.config.embed_dim, 4, 4, generator=torch.manual_seed(0))).requires_grad_()
        loss = vqgan.quantize(latents).loss
        found[form] = loss.detach(), torch.autograd.grad(loss, latents)[0].norm()
    torch.testing.assert_close(found["reference"][0], found["paper"][0])
    assert found["paper"][1] == pytest.approx(4 * found["reference"][1].item(), rel=1e-4)


def test_a_deeper_discriminator_needs_larger_pictures(tmp_path: Path) -> None:
    job = training(tmp_path, disc_layers=3)
    assert job.stage.discriminator(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 2, 2)
    with pytest.raises(UserError, match="disc_layers 4 need a size of at least 48, not 32"):
        training(tmp_path / "other", disc_layers=4)


def test_the_codebook_picture_shows_every_code_once() -> None:
    vqgan = load_vqgan("starter")
    picture = draw_codebook(vqgan)
    assert picture.size == (256, 256)
    image = to_tensor(picture)
    # the tile of a code is what a grid of that code alone looks like in its middle
    made = vqgan.decode(torch.full((1, 3, 3), 33)).clamp(-1, 1)[:, :, 8:16, 8:16]
    torch.testing.assert_close(image[:, :, 8:16, 8:16], made, rtol=0, atol=1 / 127)
