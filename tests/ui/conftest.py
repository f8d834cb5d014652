"""A job that counts and draws gradients, or breaks; sessions and panels with small real networks."""

from __future__ import annotations

import base64
import importlib.util
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vqtools.media.png_record import save_png
from vqtools.painting.painter import Painter
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.ui.canvas import _PNG_DATA_URL
from vqtools.ui.paint_panel import PaintPanel

EXAMPLE_SETTINGS = {
    "prompt": "a red apple | <b>blur</b>:-0.5", "size": (24, 16), "iterations": 6, "cutouts": 2, "seed": 5,
}  # fmt: skip


class CountingJob:
    """Counts its steps. breaks_at: the step that raises an error. held: a step waits until ``gate`` is released."""

    steerable = supports_branching = False
    activity, revision = "", 0

    def __init__(self, total: int = 20, *, breaks_at: int | None = None, held: bool = False) -> None:
        self.position, self.total = 0, total
        self.breaks_at = breaks_at
        self.gate = threading.Semaphore(0) if held else None

    def step(self) -> dict[str, float]:
        if self.gate is not None:
            assert self.gate.acquire(timeout=20)
        if self.position == self.breaks_at:
            raise RuntimeError("the <b>job</b> broke")
        self.position += 1
        return {"loss": 1 / self.position}

    def preview(self) -> Image.Image:
        return Image.linear_gradient("L").point(lambda value: (value + 10 * self.position) % 256).convert("RGB")

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


@pytest.fixture
def counting_job() -> type[CountingJob]:
    return CountingJob


def _tiny() -> Any:
    """The small real networks of the tests of painting."""
    path = Path(__file__).parents[1] / "painting" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_networks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_session() -> Callable[[PaintSettings], PaintSession]:
    """Makes sessions with small real networks, for settings whose sizes are multiples of 2."""
    tiny = _tiny()

    def make(settings: PaintSettings) -> PaintSession:
        return PaintSession(Painter(settings, tiny.tiny_vqgan(), [tiny.TinyCLIP()], machine=tiny.CPU))

    return make


@pytest.fixture
def make_painting(make_session: Any) -> Callable[..., PaintSession]:
    """Makes sessions as a panel does; also repeats the run of a record."""

    def make(settings: PaintSettings, record: Any = None, replay: bool = False) -> PaintSession:
        seed = 5 if settings.seed is None else settings.seed
        session: PaintSession = make_session(settings.model_copy(update={"seed": seed}))
        return PaintSession(session.job, record=record if replay else None)

    return make


@pytest.fixture
def panel(make_painting: Callable[..., PaintSession], tmp_path: Path) -> Iterator[PaintPanel]:
    panel = PaintPanel(PaintSettings.parse(EXAMPLE_SETTINGS), folder=tmp_path / "pictures", make=make_painting)
    yield panel
    panel.runner.stop()
    assert panel.runner.wait(30)


def wait_until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until a condition holds; fail after 30 seconds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited in vain {what}"
        time.sleep(0.005)


def paint_to_the_end(panel: PaintPanel) -> None:
    panel.runner.start()
    wait_until_idle(panel)


def wait_until_idle(panel: PaintPanel) -> None:
    end = time.monotonic() + 300  # one test loads the starter models
    while panel.runner.state != "idle" or not panel.runner.wait(1):
        assert time.monotonic() < end
        time.sleep(0.01)


def drawn_mask(box: tuple[int, int, int, int], size: tuple[int, int] = (512, 341)) -> str:
    """What the canvas sends for a drawing: white inside the box, transparent elsewhere."""
    picture = Image.new("RGBA", size)
    picture.paste((255, 255, 255, 255), box)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return _PNG_DATA_URL + base64.b64encode(data.getvalue()).decode()


def save_example(path: Path, **entries: Any) -> Path:
    """Save a PNG with the record of a painting; ``entries`` are added to the record."""
    settings = PaintSettings.parse({**EXAMPLE_SETTINGS, "prompt": "a <i>boat</i>", "saturation": 0.5, "seed": 77})
    record = {"settings": settings.model_dump(mode="json"), "position": 6, "total": 6, **entries}
    return save_png(path, Image.new("RGB", (24, 16), (200, 30, 30)), record)
