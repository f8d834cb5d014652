"""A notebook whose kernel dies, as when Colab disconnects: Run All continues the training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from vqtools.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
SETTINGS = f"""
from vqtools.training.settings import TrainVQGANSettings

settings = TrainVQGANSettings(
    folder={str(ROOT / "notebooks" / "watercolours.zip")!r}, name="mine", size=32, batch_size=2, steps=9,
    measure_every=3, save_minutes=0, precision="fp32",
)
"""


@contextmanager
def kernel(folder: Path) -> Iterator[tuple[KernelManager, Any]]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def cells() -> list[str]:
    """The notebook's code up to the training, with small settings."""
    page = json.loads((ROOT / "notebooks/01_train_vqgan.ipynb").read_text("utf-8"))
    code = {cell["id"]: "".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "code"}
    code["settings"] = SETTINGS
    return [code[name] for name in ("ready", "settings", "panel", "run")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_training_whose_kernel_was_killed_continues_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = RunFolder(tmp_path / "mine")
    with kernel(tmp_path) as (manager, client):
        for code in cells():
            client.execute(code)
        end = time.monotonic() + 120
        while not run.states() or run.states()[-1][0] < 2:
            assert time.monotonic() < end, "no state was saved"
            time.sleep(0.1)
        manager.shutdown_kernel(now=True)  # no chance to save anything more
    saved = run.states()[-1][0]
    assert 2 <= saved < 9 and not list((tmp_path / "home").glob("mine*"))
    with kernel(tmp_path) as (_, client):
        for code in cells():
            answer = client.execute_interactive(code, timeout=180, output_hook=lambda message: None)
            assert answer["content"]["status"] == "ok", answer["content"]
    assert (tmp_path / "home" / "mine.safetensors").exists()
    _, rows = run.read_log()
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == 9, "every step was logged once, none again from the start"
