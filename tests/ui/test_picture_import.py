"""Pictures given to the painting panel: restored settings, permission for files, repeated runs."""

from __future__ import annotations

import io
import time
from pathlib import Path

from PIL import Image

from tests.ui.conftest import EXAMPLE_SETTINGS, paint_to_the_end, save_example, wait_until_idle
from vqtools.media.png_record import read_record
from vqtools.painting.image_inputs import requested_files
from vqtools.painting.settings import PaintSettings
from vqtools.ui.paint_panel import PaintPanel


def test_an_imported_picture_restores_every_setting(panel: PaintPanel, tmp_path: Path) -> None:
    path = save_example(tmp_path / "boat.png")
    panel.take(path.name, path.read_bytes())
    assert panel.form.settings() == PaintSettings.parse(read_record(path)["settings"])
    assert (
        panel.picture_import.view.layout.display == ""
        and panel.picture_import.buttons["allow"].layout.display == "none"
    )
    panel.picture_import.buttons["start"].click()
    kept = Path(panel.form.settings().init_image)
    assert kept.read_bytes() == path.read_bytes() and kept.parent == panel.folder / "inputs"
    panel.picture_import.buttons["prompt"].click()
    assert panel.form.settings().prompt == f"a <i>boat</i> | picture:{kept}"
    panel.picture_import.buttons["style"].click()
    assert panel.form.settings().style_image == str(kept)


def test_a_file_named_only_by_an_imported_picture_needs_permission(panel: PaintPanel, tmp_path: Path) -> None:
    settings = PaintSettings.parse({**EXAMPLE_SETTINGS, "init_image": "/home/me/<b>secret</b>.png"}).model_dump(
        mode="json"
    )
    path = save_example(tmp_path / "boat.png", settings=settings)
    assert requested_files(read_record(path)) == ["/home/me/<b>secret</b>.png"]
    panel.take("boat.png", path.read_bytes())
    assert "&lt;b&gt;secret" in panel.picture_import.message.value and "<b>" not in panel.picture_import.message.value
    panel.runner.buttons.children[0].click()
    assert "press Allow" in panel.runner.status.value and panel.runner.job is None
    panel.picture_import.buttons["allow"].click()
    panel.runner.buttons.children[0].click()
    wait_until_idle(panel)
    assert "press Allow" not in panel.runner.status.value


def test_a_file_without_our_settings_changes_nothing(panel: PaintPanel, tmp_path: Path) -> None:
    before = panel.form.settings()
    panel.tools.guarded_upload(panel.take)("notes.png", b"no picture")
    assert "not a picture that can be read" in panel.runner.status.value
    panel.tools.guarded_upload(panel.take)(
        "broken.png", save_example(tmp_path / "b.png", journal=[{"do": "x"}]).read_bytes()
    )
    assert "edit log" in panel.runner.status.value
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    panel.take("plain.png", plain.getvalue())
    assert "no settings of vqtools" in panel.picture_import.message.value and panel.form.settings() == before
    assert panel.picture_import.buttons["again"].layout.display == "none"


def test_an_edited_run_is_repeated_bit_for_bit(panel: PaintPanel) -> None:
    paint_to_the_end(panel)
    assert panel.session is not None
    panel.branch(3)
    wait_until_idle(panel)
    panel.edit(prompt="a blue sea", iterations=9)
    wait_until_idle(panel)
    panel.runner.step()
    while panel.session.position < 7:
        time.sleep(0.01)
    panel.runner.stop()
    wait_until_idle(panel)
    made, position = panel.saved, panel.session.position
    assert made is not None and position == 7
    panel.open(made)
    panel.picture_import.buttons["again"].click()
    wait_until_idle(panel)
    assert panel.session.position == position and panel.saved is not None and panel.saved != made
    assert Image.open(panel.saved).tobytes() == Image.open(made).tobytes()
