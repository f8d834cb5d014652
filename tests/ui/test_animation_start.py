"""The picture that is handed from the painting panel to the animation panel."""

from __future__ import annotations

import json
from pathlib import Path

from tests.ui.conftest import paint_to_the_end, save_example, wait_until_idle
from vqtools.ui.animation_start import FILE_NAME, clear_start_picture, load_start_picture, save_start_picture
from vqtools.ui.paint_panel import PaintPanel


def test_the_picture_is_handed_to_the_next_animation(panel: PaintPanel) -> None:
    paint_to_the_end(panel)
    panel.animate()
    wait_until_idle(panel)
    animations = panel.folder.parent / "animations"
    assert load_start_picture(animations) == panel.saved and panel.saved is not None
    panel.saved.unlink()
    assert load_start_picture(animations) is None
    (animations / FILE_NAME).write_text(json.dumps(["x"]))
    assert load_start_picture(animations) is None


def test_the_animation_panel_starts_with_the_picture_that_was_handed_over(tmp_path: Path) -> None:
    from vqtools.animation.settings import AnimateSettings
    from vqtools.ui.animate_panel import AnimatePanel

    picture = save_example(tmp_path / "boat.png")
    save_start_picture(tmp_path / "animations", picture)
    wanted = AnimateSettings(prompt="a castle", octave_zoom=True, frames=9)
    panel = AnimatePanel(wanted, folder=tmp_path / "animations")
    settings = panel.form.settings()
    assert (settings.init_image, settings.prompt, settings.size) == (str(picture), "a <i>boat</i>", (24, 16))
    assert settings.octave_zoom and settings.frames == 9 and "boat.png, from 04_paint" in panel.runner.status.value
    clear_start_picture(tmp_path / "animations")
    assert AnimatePanel(wanted, folder=tmp_path / "animations").form.settings().prompt == "a castle"
