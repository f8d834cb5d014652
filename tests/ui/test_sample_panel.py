"""The sampling panel."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from PIL import Image

from vqtools.media.png_record import read_record
from vqtools.pipelines.sample import SampleJob
from vqtools.sampling.settings import SampleSettings
from vqtools.ui.sample_panel import SamplePanel


def test_run_saves_the_picture_under_its_prompt_and_seed(counting_job: Any, tmp_path: Path) -> None:
    def make(settings: SampleSettings) -> Any:
        job = counting_job(3)
        job.settings, job.picture, job.activity = settings, job.preview, SampleJob.activity
        job.record = lambda: {"settings": settings.model_dump(mode="json"), "activity": "sample"}
        return job

    panel = SamplePanel(SampleSettings(size=(64, 64), seed=4), folder=tmp_path, make=make)
    assert isinstance(asyncio.run(panel.run()), Image.Image)
    assert panel.saved == tmp_path / "sample-4.png"
    assert read_record(panel.saved)["activity"] == "sample"
