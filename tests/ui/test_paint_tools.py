"""What the painting panel offers besides edits: saving, additions to the prompt, a larger size."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.ui.conftest import paint_to_the_end, save_example, wait_until_idle
from vqtools.core.errors import UserError
from vqtools.painting.prompt_blocks import load_blocks
from vqtools.painting.settings import PaintSettings
from vqtools.ui.paint_panel import PaintPanel


def test_saving_an_unchanged_picture_again_writes_no_second_file(panel: PaintPanel) -> None:
    paint_to_the_end(panel)
    panel.save()
    wait_until_idle(panel)
    assert len(list(panel.folder.glob("*.png"))) == 1


def test_blocks_and_pictures_are_added_to_the_prompt(panel: PaintPanel, tmp_path: Path) -> None:
    panel.add_words("watercolour")
    text = load_blocks()["media"]["watercolour"]
    assert panel.form.settings().prompt == f"a red apple, {text} | <b>blur</b>:-0.5"
    panel.add_picture_prompt("../my apple.png", save_example(tmp_path / "x.png").read_bytes())
    kept = panel.folder / "inputs" / "my-apple.png"
    assert kept.exists() and panel.form.settings().prompt.endswith(f" | picture:{kept}")


def test_bigger_continues_at_a_larger_size(tmp_path: Path) -> None:
    settings = PaintSettings(prompt="a red apple", size=(32, 32), iterations=2, cutouts=2, grids=1, seed=1)
    panel = PaintPanel(settings, folder=tmp_path)
    with pytest.raises(UserError, match="no picture yet"):
        panel.bigger()
    paint_to_the_end(panel)
    panel.history_bar.buttons["bigger"].click()
    wait_until_idle(panel)
    assert panel.session is not None and panel.session.settings.size == (48, 48)
    with Image.open(panel.saved or "") as made:
        assert made.size == (48, 48) and panel.form.settings().size == (32, 32)
