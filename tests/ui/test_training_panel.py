"""The training panels: Train, Stop and continue; curves and codebook; errors."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from PIL import Image

from vqtools.training.settings import TrainTransformerSettings, TrainVQGANSettings
from vqtools.ui.train_transformer_panel import TransformerPanel
from vqtools.ui.train_vqgan_panel import TrainPanel
from vqtools.weights.load import load_transformer, load_vqgan

PICTURES = Path(__file__).parents[1] / "pictures"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainVQGANSettings:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    return TrainVQGANSettings(
        folder=str(PICTURES), name="tiny", size=32, batch_size=4, steps=6, measure_every=3, precision="fp32"
    )


def test_run_trains_a_model_that_loads_by_its_name(settings: TrainVQGANSettings, tmp_path: Path) -> None:
    panel = TrainPanel(settings, where=tmp_path)
    assert "held out for measurements" in panel.explanation.value
    model = asyncio.run(panel.run())
    assert model is not None and load_vqgan("tiny").config.codebook_size == 1024
    assert "tiny is ready" in panel.runner.status.value
    assert "held-out psnr" in panel.curves.value and "<svg" in panel.curves.value
    assert Image.open(io.BytesIO(panel.codebook.value)).size == (256, 256)
    assert Image.open(io.BytesIO(panel.runner.picture.value)).size == (4 * 32, 2 * 32)
    assert not panel.unfinished


def test_a_stopped_run_continues_in_another_panel(settings: TrainVQGANSettings, tmp_path: Path) -> None:
    panel = TrainPanel(settings.model_copy(update={"steps": 500}), where=tmp_path)
    panel.runner.start()
    while not panel.runner.job or panel.runner.job.position < 2:
        assert not panel.runner.wait(0.05), panel.runner.status.value
    panel.runner.stop()
    assert panel.runner.wait(300)
    stopped = panel.runner.job.position
    assert "Train continues from here" in panel.runner.status.value and panel.unfinished
    again = TrainPanel(settings, where=tmp_path)
    again.runner.start()
    while not again.runner.job or again.runner.job.position <= stopped:
        assert not again.runner.wait(0.05), again.runner.status.value
    again.runner.stop()
    assert again.runner.wait(300)
    assert again.form.settings().steps == 500  # a run keeps the settings it began with


def test_a_missing_folder_is_an_error_in_the_panel(tmp_path: Path) -> None:
    panel = TrainPanel(TrainVQGANSettings(folder=str(tmp_path / "absent")), where=tmp_path)
    assert "does not exist; expected a folder, a zip" in panel.runner.status.value
    panel.runner.buttons.children[0].click()
    assert panel.runner.wait(60)
    assert "does not exist" in panel.runner.status.value


def test_a_finished_run_is_not_overwritten(settings: TrainVQGANSettings, tmp_path: Path) -> None:
    panel = TrainPanel(settings, where=tmp_path)
    asyncio.run(panel.run())
    panel.runner.buttons.children[0].click()
    assert panel.runner.wait(60)
    assert "contains a run" in panel.runner.status.value and "another" in panel.runner.status.value


def test_a_transformer_is_trained_in_its_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    settings = TrainTransformerSettings(
        folder=str(PICTURES), name="coast", grid=4, layers=1, heads=2, width=16, views=2, batch_size=4, steps=4,
        measure_every=2, precision="fp32",
    )  # fmt: skip
    panel = TransformerPanel(settings, where=tmp_path)
    assert "no captions and no subfolders" in panel.explanation.value and panel.form.settings().holes
    model = asyncio.run(panel.run())
    assert model is not None and load_transformer("coast").config.grid == 4
    assert "coast is ready" in panel.runner.status.value and "03_sample" in panel.runner.status.value
    assert "held-out bits" in panel.curves.value
    assert Image.open(io.BytesIO(panel.runner.picture.value)).height == 4 * 32  # samples, two completions, the pictures
    assert not panel.unfinished
