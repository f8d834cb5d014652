"""What the painting panel offers beside steering: brush, pictures given to it, gallery, drafts, bigger, hand-over."""

from __future__ import annotations

import base64
import html
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.image_inputs import requested_files
from vqtools.painting.prompt_blocks import load_blocks
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.ui import canvas
from vqtools.ui.animation_start import FILE_NAME, clear_start_picture, load_start_picture, save_start_picture
from vqtools.ui.canvas import _PNG_DATA_URL, decode_mask
from vqtools.ui.paint_panel import PaintPanel
from vqtools.ui.uploads import _uploaded_files, save_upload

SETTINGS = {"prompt": "a red apple | <b>blur</b>:-0.5", "size": (24, 16), "iterations": 6, "cutouts": 2, "seed": 5}


@pytest.fixture
def make(make_easel: Any) -> Callable[..., PaintSession]:
    def made(settings: PaintSettings, record: Any = None, replay: bool = False) -> PaintSession:
        easel: PaintSession = make_easel(
            settings.model_copy(update={"seed": 5 if settings.seed is None else settings.seed})
        )
        return PaintSession(easel.job, record=record if replay else None)

    return made


@pytest.fixture
def panel(make: Callable[..., PaintSession], tmp_path: Path) -> Iterator[PaintPanel]:
    panel = PaintPanel(PaintSettings.parse(SETTINGS), folder=tmp_path / "pictures", make=make)
    yield panel
    panel.runner.stop()
    assert panel.runner.wait(30)


def paint(panel: PaintPanel) -> None:
    panel.runner.start()
    rest(panel)


def rest(panel: PaintPanel) -> None:
    end = time.monotonic() + 300  # the starters are loaded in one
    while panel.runner.state != "idle" or not panel.runner.wait(1):
        assert time.monotonic() < end
        time.sleep(0.01)


def drawn(box: tuple[int, int, int, int], size: tuple[int, int] = (512, 341)) -> str:
    """What the brush sends: white where it went, transparent elsewhere."""
    picture = Image.new("RGBA", size)
    picture.paste((255, 255, 255, 255), box)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return _PNG_DATA_URL + base64.b64encode(data.getvalue()).decode()


def a_png(path: Path, **more: Any) -> Path:
    settings = PaintSettings.parse({**SETTINGS, "prompt": "a <i>boat</i>", "saturation": 0.5, "seed": 77})
    record = {"settings": settings.model_dump(mode="json"), "position": 6, "total": 6, **more}
    return save_png(path, Image.new("RGB", (24, 16), (200, 30, 30)), record)


def test_the_brush_gives_a_prompt_its_region_and_undo_takes_it_back(panel: PaintPanel) -> None:
    assert panel.brush.toggle.disabled
    paint(panel)
    panel.brush.toggle.value = True
    assert panel.brush.view.layout.display == "" and panel.canvas.brush and panel.canvas.size == [24, 16]
    panel.brush.purpose.value = 1
    panel.canvas.mask = drawn((0, 0, 256, 341))
    panel.brush.apply.click()
    rest(panel)
    assert panel.session is not None and "“<b>blur</b>” applies only there" in html.unescape(panel.runner.status.value)
    covered = panel.session.masks["prompt 1"].at_size(16, 24) > 0.5
    assert covered[:, :11].all() and not covered[:, 13:].any()
    assert panel.session.edit_log.entries[-1]["do"] == "region" and panel.session.edit_log.entries[-1]["prompt"] == 1
    panel.brush.purpose.value = "protect"
    assert panel.canvas.mask == ""  # nothing is protected
    panel.brush.purpose.value = 1
    seen = np.asarray(decode_mask(panel.canvas.mask))[..., 3]
    assert seen[:, :10].all() and not seen[:, 14:].any()  # what is in force is there to be drawn on
    panel.history_bar.buttons["undo"].click()
    rest(panel)
    assert panel.session.masks == {}


def test_what_is_painted_anew_goes_on_after_the_end_and_the_rest_stays(panel: PaintPanel) -> None:
    paint(panel)
    assert panel.session is not None
    before = panel.session.job.z_ema.clone()  # type: ignore[attr-defined]
    panel.brush.toggle.value = True
    panel.canvas.mask = drawn((0, 0, 171, 341))
    panel.brush.apply.click()
    rest(panel)
    assert panel.session.position == 16 and panel.form.settings().iterations == 16
    moved = (panel.session.job.z_ema - before).abs().amax((0, 1, 2))  # type: ignore[attr-defined]
    assert (moved[:4] > 0).all() and (moved[4:] == 0).all()
    panel.brush.remove_button.click()
    rest(panel)
    assert panel.session.masks == {}


def test_nothing_drawn_is_said_and_a_broken_mask_too(panel: PaintPanel) -> None:
    paint(panel)
    panel.brush.toggle.value = True
    panel.brush.apply.click()
    assert "nothing is drawn yet" in panel.runner.status.value
    panel.canvas.mask = _PNG_DATA_URL + "AAAA"
    panel.brush.apply.click()
    assert "no valid mask" in panel.runner.status.value and panel.session is not None and not panel.session.masks


def test_without_anywidget_a_box_does_the_same(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., PaintSession], tmp_path: Path
) -> None:
    monkeypatch.setattr(canvas, "_canvas_class", lambda: None)
    panel = PaintPanel(PaintSettings.parse(SETTINGS), folder=tmp_path, make=make)
    paint(panel)
    panel.brush.toggle.value = True
    panel.brush.purpose.value = "protect"
    panel.brush.x_range.value, panel.brush.y_range.value = (0, 50), (0, 100)
    panel.brush.apply.click()
    rest(panel)
    assert panel.session is not None and float(panel.session.masks["protect"].at_size(16, 24).mean()) == pytest.approx(
        0.5
    )


def test_a_picture_of_ours_brings_back_every_setting(panel: PaintPanel, tmp_path: Path) -> None:
    path = a_png(tmp_path / "boat.png")
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


def test_a_file_that_a_strangers_picture_names_is_asked_about(panel: PaintPanel, tmp_path: Path) -> None:
    settings = PaintSettings.parse({**SETTINGS, "init_image": "/home/me/<b>secret</b>.png"}).model_dump(mode="json")
    path = a_png(tmp_path / "boat.png", settings=settings)
    assert requested_files(read_record(path)) == ["/home/me/<b>secret</b>.png"]
    panel.take("boat.png", path.read_bytes())
    assert "&lt;b&gt;secret" in panel.picture_import.message.value and "<b>" not in panel.picture_import.message.value
    panel.runner.buttons.children[0].click()
    assert "press Allow" in panel.runner.status.value and panel.runner.job is None
    panel.picture_import.buttons["allow"].click()
    panel.runner.buttons.children[0].click()
    rest(panel)
    assert "press Allow" not in panel.runner.status.value


def test_what_is_no_picture_of_ours_changes_nothing(panel: PaintPanel, tmp_path: Path) -> None:
    before = panel.form.settings()
    panel.tools.guarded_upload(panel.take)("notes.png", b"no picture")
    assert "not a picture that can be read" in panel.runner.status.value
    panel.tools.guarded_upload(panel.take)("broken.png", a_png(tmp_path / "b.png", journal=[{"do": "x"}]).read_bytes())
    assert "edit log" in panel.runner.status.value
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    panel.take("plain.png", plain.getvalue())
    assert "no settings of vqtools" in panel.picture_import.message.value and panel.form.settings() == before
    assert panel.picture_import.buttons["again"].layout.display == "none"


def test_a_steered_picture_is_made_again_bit_for_bit(panel: PaintPanel) -> None:
    paint(panel)
    assert panel.session is not None
    panel.branch(3)
    rest(panel)
    panel.edit(prompt="a blue sea", iterations=9)
    rest(panel)
    panel.runner.step()
    while panel.session.position < 7:
        time.sleep(0.01)
    panel.runner.stop()
    rest(panel)
    made, position = panel.saved, panel.session.position
    assert made is not None and position == 7
    panel.open(made)
    panel.picture_import.buttons["again"].click()
    rest(panel)
    assert panel.session.position == position and panel.saved is not None and panel.saved != made
    assert Image.open(panel.saved).tobytes() == Image.open(made).tobytes()


def test_the_gallery_shows_settings_as_text_and_gives_them_back(panel: PaintPanel) -> None:
    panel.folder.mkdir()
    a_png(panel.folder / "boat.png")
    Image.new("RGB", (30, 20)).save(panel.folder / "foreign.png")
    (panel.folder / "broken.png").write_bytes(b"\x89PNG")
    panel.tools.accordion.selected_index = 0
    assert len(panel.gallery.cards.children) == 3
    card = next(one for one in panel.gallery.cards.children if "boat" in one.children[1].children[0].value)
    text = card.children[1].children[0].value
    assert "&lt;i&gt;boat" in text and "<i>" not in text and "saturation 0.5" in text and "seed 77" in text
    bring, start = card.children[1].children[1].children
    bring.click()
    assert panel.form.settings().seed == 77
    start.click()
    assert panel.form.settings().init_image == str(panel.folder / "boat.png")
    assert panel.gallery.older.disabled and panel.gallery.newer.disabled


def test_drafts_are_chosen_by_a_click_gone_on_with_and_crossed(panel: PaintPanel, make: Any) -> None:
    panel.make_job = lambda settings, **more: make(settings.model_copy(update={"iterations": 3}), **more)
    panel.candidates(4)
    rest(panel)
    sheet = panel.last_grid
    assert sheet is not None and panel.runner.job is sheet and len(sheet.finished) == 4 and panel.canvas.pick
    assert read_record(panel.saved or "")["activity"] == "drafts"
    left, top, right, bottom = sheet.boxes()[2]
    panel.grid_picker.clicked((left + right) / 2, (top + bottom) / 2, False)
    assert panel.grid_picker.first_choice.value == 2 and panel.canvas.frames == [[left, top, right, bottom]]
    panel.grid_picker.clicked(0.5 * left, 0, False)  # between the paintings
    assert panel.grid_picker.first_choice.value == 2
    panel.grid_picker.continue_button.click()
    rest(panel)
    assert panel.session is not None and panel.session.settings.seed == 7 and panel.session.position == 6
    assert not panel.canvas.pick and panel.canvas.frames == []
    panel.grid_picker.back_button.click()
    assert panel.runner.job is sheet and panel.canvas.pick
    assert panel.grid_picker.cross_button.disabled
    again = PaintPanel(PaintSettings(), folder=panel.folder, make=make)
    assert again.last_grid is sheet and again.grid_picker.continue_button in again.grid_picker.view.children


def test_several_at_once_are_each_with_each(panel: PaintPanel) -> None:
    panel.grid_form.prompts.value, panel.grid_form.seeds.value = "a tree\na <b>boat</b>", "1 2 3"
    assert panel.grid_form.vary() == {"prompt": ["a tree", "a <b>boat</b>"], "seed": [1, 2, 3]}
    panel.grid_form.button.click()
    rest(panel)
    assert panel.last_grid is not None and len(panel.last_grid.finished) == 6
    panel.grid_form.seeds.value = "1 two"
    panel.grid_form.button.click()
    assert "seed &#x27;two&#x27;" in panel.runner.status.value
    panel.grid_form._load_file("list.txt", b"# mine\na cat\n\na dog\n")
    assert panel.grid_form.prompts.value == "a cat\na dog"


def test_a_second_save_of_the_same_makes_no_second_file(panel: PaintPanel) -> None:
    paint(panel)
    panel.save()
    rest(panel)
    assert len(list(panel.folder.glob("*.png"))) == 1


def test_words_and_pictures_are_added_to_the_prompt(panel: PaintPanel, tmp_path: Path) -> None:
    panel.add_words("watercolour")
    text = load_blocks()["media"]["watercolour"]
    assert panel.form.settings().prompt == f"a red apple, {text} | <b>blur</b>:-0.5"
    panel.add_picture_prompt("../my apple.png", a_png(tmp_path / "x.png").read_bytes())
    kept = panel.folder / "inputs" / "my-apple.png"
    assert kept.exists() and panel.form.settings().prompt.endswith(f" | picture:{kept}")


def test_uploads_of_both_ipywidgets_are_read() -> None:
    new = ({"name": "a.png", "content": memoryview(b"1"), "size": 1},)
    old = {"a.png": {"metadata": {}, "content": b"1"}}
    assert _uploaded_files(new) == _uploaded_files(old) == [("a.png", b"1")]


def test_a_kept_file_never_takes_anothers_place(tmp_path: Path) -> None:
    one = save_upload(tmp_path, "a.png", b"1")
    assert save_upload(tmp_path, "a.png", b"1") == one
    assert save_upload(tmp_path, "a.png", b"2").name == "a-2.png" and one.read_bytes() == b"1"
    assert save_upload(tmp_path, "..\\..\\etc/.passwd", b"3").parent == tmp_path


def test_the_picture_is_handed_to_the_animation(panel: PaintPanel) -> None:
    paint(panel)
    panel.animate()
    rest(panel)
    animations = panel.folder.parent / "animations"
    assert load_start_picture(animations) == panel.saved and panel.saved is not None
    panel.saved.unlink()
    assert load_start_picture(animations) is None
    (animations / FILE_NAME).write_text(json.dumps(["x"]))
    assert load_start_picture(animations) is None


def test_bigger_goes_on_from_the_picture_by_the_starter(tmp_path: Path) -> None:
    settings = PaintSettings(prompt="a red apple", size=(32, 32), iterations=2, cutouts=2, grids=1, seed=1)
    panel = PaintPanel(settings, folder=tmp_path)
    with pytest.raises(UserError, match="no picture yet"):
        panel.bigger()
    paint(panel)
    panel.history_bar.buttons["bigger"].click()
    rest(panel)
    assert panel.session is not None and panel.session.settings.size == (48, 48)
    with Image.open(panel.saved or "") as made:
        assert made.size == (48, 48) and panel.form.settings().size == (32, 32)


def test_the_animations_panel_begins_with_what_was_handed_over_once(tmp_path: Path) -> None:
    from vqtools.animation.settings import AnimateSettings
    from vqtools.ui.animate_panel import AnimatePanel

    picture = a_png(tmp_path / "boat.png")
    save_start_picture(tmp_path / "animations", picture)
    wanted = AnimateSettings(prompt="a castle", octave_zoom=True, frames=9)
    panel = AnimatePanel(wanted, folder=tmp_path / "animations")
    settings = panel.form.settings()
    assert (settings.init_image, settings.prompt, settings.size) == (str(picture), "a <i>boat</i>", (24, 16))
    assert settings.octave_zoom and settings.frames == 9 and "boat.png, from 04_paint" in panel.runner.status.value
    clear_start_picture(tmp_path / "animations")
    assert AnimatePanel(wanted, folder=tmp_path / "animations").form.settings().prompt == "a castle"
