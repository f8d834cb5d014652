"""Two processes with half the batch each make the steps of one with the whole."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqtools.core.distributed import Distributed
from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.training.run_folder import RunFolder
from vqtools.training.settings import VQGANStageSettings
from vqtools.training.vqgan_stage import VQGANStage

CONFIG = VQGANConfig(
    channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), resolution=16, z_channels=8, embed_dim=4,
    codebook_size=64, patch=2, mid_attention=False, norm_groups=4, metric="cosine", ema_decay=0.8,
)  # fmt: skip


def training(team: Distributed) -> VQGANStage:
    """A discriminator from the third step, dead codes to revive, every draw there is."""
    torch.manual_seed(0)
    settings = VQGANStageSettings(
        steps=60, warmup=2, disc_start=2, disc_ramp=1, kmeans_batches=2, revive_below=0.6, lecam_weight=0.1,
        diff_augment=True, perceptual_pictures=2,
    )  # fmt: skip

    def batch(step: int) -> torch.Tensor:
        whole = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1
        return team.shard(whole)

    networks = VQGAN(CONFIG), PatchDiscriminator(8, layers=2, norm="group")
    return VQGANStage(settings, *networks, lambda a, b: (a - b).square().mean(), batch, team=team)


def environments(count: int) -> list[dict[str, str]]:
    """What a launcher tells each of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [{**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def processes(count: int, out: Path, script: str = "distributed_run.py") -> dict[str, torch.Tensor]:
    call = [sys.executable, str(Path(__file__).with_name(script)), str(out)]
    team = [subprocess.Popen(call, env=env, stderr=subprocess.PIPE, text=True) for env in environments(count)]
    for process in team:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return load_file(out)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    found = processes(2, tmp_path / "two.safetensors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes: other numbers round sums otherwise
    try:
        job = training(Distributed())
        reports = [job.step() for _ in range(6)]
    finally:
        torch.set_num_threads(threads)
    assert {"adaptive", "usage", "disc"} <= set(reports[-1])
    for i, report in enumerate(reports):
        for name, value in report.items():
            assert found[f"told.{i}.{name}"].item() == pytest.approx(value, rel=1e-5, abs=1e-5), (i, name)
    for part, module in (("vqgan", job.vqgan), ("discriminator", job.discriminator)):
        for name, tensor in module.state_dict().items():
            # Adam makes a step of any gradient, also of one that is nothing but rounding
            atol = 1e-5 if name.startswith("quantize.") else 1e-3
            torch.testing.assert_close(
                found[f"{part}.{name}"], tensor, rtol=1e-5, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
            )


PICTURES = Path(__file__).parents[1] / "pictures"


def stopped(folders: list[Path], *arguments: str) -> int:
    """Let two processes train, each in its folder; interrupt the second one alone; the step of the saved state."""
    run = RunFolder(folders[0] / "both")
    before = len(run.read_log()[1])
    call = [sys.executable, "-m", "vqtools", "train-vqgan", "--name=both", *arguments]
    team = [
        subprocess.Popen(call, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for folder, env in zip(folders, environments(2), strict=True)
    ]
    try:
        end = time.monotonic() + 200
        while len(run.read_log()[1]) < before + 2:
            assert time.monotonic() < end and all(process.poll() is None for process in team)
            time.sleep(0.05)
        team[1].send_signal(signal.SIGINT)
        for process in team:
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 130, errors
    finally:
        for process in team:
            process.kill()
    return run.states()[-1][0]


def test_one_interrupt_stops_all_at_the_same_step_and_they_go_on_without_a_shared_disk(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    first = stopped(folders, str(PICTURES), "--size=32", "--batch-size=4", "--steps=100000", "--perceptual=lite0")
    assert not list(folders[1].iterdir())  # only the first process writes
    assert stopped(folders, "--resume") > first > 0
