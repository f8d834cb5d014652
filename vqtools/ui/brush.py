"""The brush's row: what an area that is drawn on the picture is for, and the hand-over to the easel.

Knows areas and what an easel does with them; nothing about the page around.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.painting import prompts
from vqtools.painting.masks import Mask
from vqtools.painting.prompts import parse_prompts
from vqtools.ui.canvas import decode_mask, encode_mask

PROTECT, REPAINT, REFINE = "protect", "repaint", "refine"
TINTS = {PROTECT: "#2a9d8f", REPAINT: "#d1495b", REFINE: "#e9a23b"}
REGION_TINT = "#3a6ea5"
_MAX_NAME_CHARS = 24


class Brush:
    """A toggle, and the tools that it opens: what for, how wide, erase, apply, clear, lift.

    layer: of :func:`create_canvas.canvas`, or None; then the area is a box, by two sliders. do(act, go_on): gives the easel
    what is to be done. wrap: makes a callback show its errors.
    """

    def __init__(
        self, layer: Any, do: Callable[..., None], wrap: Callable[[Callable[[], None]], Callable[[Any], None]]
    ) -> None:
        self.layer, self._do = layer, do
        self._easel: Any = None
        self._prompt = self._shown = ""
        auto = widgets.Layout(width="auto")
        self.toggle = widgets.ToggleButton(
            False, description="Brush", tooltip="draw where a prompt counts, what stays, what is painted anew",
            disabled=True, layout=auto,
        )  # fmt: skip
        self.what = widgets.Dropdown(options=self._kinds([]), value=REPAINT, layout=widgets.Layout(width="230px"))
        self.width = widgets.IntSlider(
            12, 2, 50, description="width", readout=False, layout=widgets.Layout(width="190px"),
            style={"description_width": "40px"},
        )  # fmt: skip
        self.erase = widgets.ToggleButton(False, description="Erase", tooltip="take away instead", layout=auto)
        sides = {"readout": False, "layout": widgets.Layout(width="230px"), "style": {"description_width": "70px"}}
        self.across = widgets.IntRangeSlider(value=(25, 75), min=0, max=100, description="left, right", **sides)
        self.down = widgets.IntRangeSlider(value=(25, 75), min=0, max=100, description="top, bottom", **sides)
        self.apply = widgets.Button(description="Apply", tooltip="from the next step on", layout=auto)
        self.clear = widgets.Button(description="Clear", tooltip="begin this drawing anew", layout=auto)
        self.lift = widgets.Button(description="Lift", tooltip="let the area that is in force count no longer",
                                   layout=auto)  # fmt: skip
        drawn = [self.width, self.erase] if layer is not None else [self.across, self.down]
        last = [self.apply, *([self.clear] if layer is not None else []), self.lift]
        self.view = widgets.HBox([self.what, *drawn, *last])
        self.view.add_class("vqtools-row")
        self.view.add_class("vqtools-tools")
        self.view.layout.display = "none"
        for widget in (self.toggle, self.what, self.width, self.erase):
            widget.observe(wrap(self._follow), names=["value"])
        for button, act in ((self.apply, self._apply), (self.clear, self._clear), (self.lift, self._lift)):
            button.on_click(wrap(act))

    def refresh(self, easel: Any) -> None:
        """What can be drawn on now: an easel, or None."""
        self.toggle.disabled = easel is None or easel.position == 0 or not easel.can_repaint
        if easel is None:
            self.toggle.value = False
        elif easel is not self._easel or easel.settings.prompt != self._prompt:
            self._prompt = easel.settings.prompt
            chosen = self.what.value
            kinds = self._kinds(parse_prompts(self._prompt))
            self.what.options = kinds
            self.what.value = chosen if chosen in [value for _, value in kinds] else REPAINT
        if easel is not self._easel:
            self._easel = easel
            if self.layer is not None and easel is not None:
                self.layer.size, self.layer.mask = list(easel.settings.size), ""

    def area(self) -> Image.Image | tuple[float, ...]:
        """What is drawn; UserError where nothing is."""
        if self.layer is not None:
            drawn = decode_mask(self.layer.mask)
            if drawn is None:
                raise UserError("nothing is drawn yet: hold the pointer's button and paint over the picture")
            return drawn
        width, height = self._easel.settings.size
        (left, right), (top, bottom) = self.across.value, self.down.value
        return left / 100 * width, top / 100 * height, right / 100 * width, bottom / 100 * height

    @staticmethod
    def _kinds(asked: list[prompts.Prompt]) -> list[tuple[str, Any]]:
        regions = [(f"where “{_shorten_name(one.text)}” counts", index) for index, one in enumerate(asked)]
        return [("paint anew", REPAINT), ("work out further", REFINE), ("leave as it is", PROTECT), *regions]

    def _follow(self) -> None:
        self.view.layout.display = "" if self.toggle.value else "none"
        if self.layer is None:
            return
        self.layer.tint = TINTS.get(self.what.value, REGION_TINT)
        self.layer.radius, self.layer.erase = self.width.value / 200, self.erase.value
        if self.layer.brush != self.toggle.value or self._key() != self._shown:
            self._show()
        self.layer.brush = self.toggle.value

    def _key(self) -> str:
        what = self.what.value
        return "protect" if what == PROTECT else f"prompt {what}" if isinstance(what, int) else ""

    def _show(self) -> None:
        """What is in force for this, to be drawn on further; else nothing."""
        self._shown = self._key()
        self.layer.mask = self._in_force()

    def _in_force(self) -> str:
        mask = self._easel.masks.get(self._key()) if self._easel is not None else None
        return encode_mask(mask.png) if mask is not None else ""

    def _clear(self) -> None:
        """Away with what was drawn; once more, with what is in force too."""
        force = self._in_force()
        self.layer.mask = "" if self.layer.mask == force else force

    def _apply(self) -> None:
        if self._easel is None:
            raise UserError("there is no picture yet to draw on")
        what, mask = self.what.value, Mask.from_source(self.area(), self._easel.settings.size)
        if self.layer is not None and what in (REPAINT, REFINE):
            self.layer.mask = ""
        if isinstance(what, int):
            self._do(lambda easel: easel.set_region(what, mask) or f"{self._name(easel, what)} counts there alone")
        elif what == PROTECT:
            self._do(lambda easel: easel.protect(mask) or "that stays as it is")
        else:
            self._do(lambda easel: _repaint(easel, mask, what == REPAINT), go_on=True)

    def _lift(self) -> None:
        what = self.what.value
        if self.layer is not None:
            self.layer.mask = ""
        if isinstance(what, int):
            self._do(lambda easel: easel.set_region(what, None) or f"{self._name(easel, what)} counts everywhere")
        else:
            self._do(lambda easel: easel.protect(None) or "all of it is painted on")

    @staticmethod
    def _name(easel: Any, index: int) -> str:
        asked = parse_prompts(easel.settings.prompt)
        return f"“{_shorten_name(asked[index].text)}”" if index < len(asked) else f"prompt {index + 1}"


def _repaint(easel: Any, mask: Mask, fresh: bool) -> str:
    """Paint an area on; a run that has come to its end is made longer by half."""
    easel.repaint(mask, fresh, extend=True)
    return "painting there alone" if fresh else "working there alone"


def _shorten_name(text: str) -> str:
    return text if len(text) <= _MAX_NAME_CHARS else text[: _MAX_NAME_CHARS - 1] + "…"
