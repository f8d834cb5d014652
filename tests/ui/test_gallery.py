"""The gallery of the pictures in a folder."""

from __future__ import annotations

from PIL import Image

from tests.ui.conftest import save_example
from vqtools.ui.paint_panel import PaintPanel


def test_the_gallery_shows_settings_as_text_and_restores_them(panel: PaintPanel) -> None:
    panel.folder.mkdir()
    save_example(panel.folder / "boat.png")
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
