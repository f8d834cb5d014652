"""The brush: an area that is drawn on the picture, what it is for, and the edit of the session that it becomes.

Knows areas and what a session does with them; nothing about the page around.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from PIL import Image

from vqtools.core.errors import UserError, ellipsize
from vqtools.painting.masks import Mask
from vqtools.painting.prompts import Prompt, parse_prompts
from vqtools.ui.callbacks import CallbackGuard
from vqtools.ui.canvas import decode_mask, encode_mask

PROTECT, REPAINT, REFINE = "protect", "repaint", "refine"
TINTS = {PROTECT: "#2a9d8f", REPAINT: "#d1495b", REFINE: "#e9a23b"}
REGION_TINT = "#3a6ea5"
_MAX_NAME_CHARS = 24


class Brush:
    """A toggle button and the tools that it opens: purpose, width, erase, apply, clear, remove.

    canvas: from :func:`~vqtools.ui.canvas.create_canvas`, or None; then the area is a box, set by two sliders.
    edit(act, resume=False): queues ``act(session)``. guard: makes callbacks show their errors.
    """

    def __init__(self, canvas: Any, edit: Callable[..., None], guard: CallbackGuard) -> None:
        self.canvas, self._edit = canvas, edit
        self._session: Any = None
        self._prompt = self._shown_mask = ""
        auto = widgets.Layout(width="auto")
        self.toggle = widgets.ToggleButton(
            False,
            description="Brush",
            tooltip="draw where a prompt applies, what stays, or what is painted again",
            disabled=True,
            layout=auto,
        )
        self.purpose = widgets.Dropdown(options=self._purposes([]), value=REPAINT, layout=widgets.Layout(width="230px"))
        self.width = widgets.IntSlider(
            12,
            2,
            50,
            description="width",
            readout=False,
            layout=widgets.Layout(width="190px"),
            style={"description_width": "40px"},
        )
        self.erase = widgets.ToggleButton(False, description="Erase", tooltip="erase instead of drawing", layout=auto)
        sides = {"readout": False, "layout": widgets.Layout(width="230px"), "style": {"description_width": "70px"}}
        self.x_range = widgets.IntRangeSlider(value=(25, 75), min=0, max=100, description="left, right", **sides)
        self.y_range = widgets.IntRangeSlider(value=(25, 75), min=0, max=100, description="top, bottom", **sides)
        self.apply = widgets.Button(description="Apply", tooltip="from the next step on", layout=auto)
        self.clear = widgets.Button(description="Clear", tooltip="discard this drawing", layout=auto)
        self.remove_button = widgets.Button(
            description="Remove", tooltip="remove the area that is in effect", layout=auto
        )
        drawn = [self.width, self.erase] if canvas is not None else [self.x_range, self.y_range]
        last = [self.apply, *([self.clear] if canvas is not None else []), self.remove_button]
        self.view = widgets.HBox([self.purpose, *drawn, *last])
        self.view.add_class("vqtools-row")
        self.view.add_class("vqtools-tools")
        self.view.layout.display = "none"
        for widget in (self.toggle, self.purpose, self.width, self.erase):
            widget.observe(guard(self._update_canvas), names=["value"])
        for button, act in ((self.apply, self._apply), (self.clear, self._clear), (self.remove_button, self._remove)):
            button.on_click(guard(act))

    def refresh(self, session: Any) -> None:
        """Enable the brush for a session, or disable it for None."""
        self.toggle.disabled = session is None or session.position == 0 or not session.can_repaint
        if session is None:
            self.toggle.value = False
        elif session is not self._session or session.settings.prompt != self._prompt:
            self._prompt = session.settings.prompt
            chosen = self.purpose.value
            options = self._purposes(parse_prompts(self._prompt))
            self.purpose.options = options
            self.purpose.value = chosen if chosen in [value for _, value in options] else REPAINT
        if session is not self._session:
            self._session = session
            if self.canvas is not None and session is not None:
                self.canvas.size, self.canvas.mask = list(session.settings.size), ""

    def area(self) -> Image.Image | tuple[float, ...]:
        """What is drawn: a mask, or a box (left, top, right, bottom) in pixels. Raises UserError if nothing is."""
        if self.canvas is not None:
            drawn = decode_mask(self.canvas.mask)
            if drawn is None:
                raise UserError("nothing is drawn yet; hold the mouse button and draw on the picture")
            return drawn
        width, height = self._session.settings.size
        (left, right), (top, bottom) = self.x_range.value, self.y_range.value
        return left / 100 * width, top / 100 * height, right / 100 * width, bottom / 100 * height

    @staticmethod
    def _purposes(prompts: list[Prompt]) -> list[tuple[str, Any]]:
        regions = [
            (f"where “{ellipsize(prompt.text, _MAX_NAME_CHARS)}” applies", index)
            for index, prompt in enumerate(prompts)
        ]
        return [("paint again", REPAINT), ("refine", REFINE), ("leave as it is", PROTECT), *regions]

    def _update_canvas(self) -> None:
        """Give the canvas the state of the tools."""
        self.view.layout.display = "" if self.toggle.value else "none"
        if self.canvas is None:
            return
        self.canvas.tint = TINTS.get(self.purpose.value, REGION_TINT)
        self.canvas.radius = self.width.value / 200  # half of a width in percent
        self.canvas.erase = self.erase.value
        if self.canvas.brush != self.toggle.value or self._mask_name() != self._shown_mask:
            self._show_mask()
        self.canvas.brush = self.toggle.value

    def _mask_name(self) -> str:
        """The name in ``session.masks`` of the area that is edited, or ""."""
        purpose = self.purpose.value
        return "protect" if purpose == PROTECT else f"prompt {purpose}" if isinstance(purpose, int) else ""

    def _show_mask(self) -> None:
        """Show the area that is in effect for the purpose, to be drawn on further."""
        self._shown_mask = self._mask_name()
        self.canvas.mask = self._mask_in_effect()

    def _mask_in_effect(self) -> str:
        """The data URL of the area in effect for the purpose, or ""."""
        mask = self._session.masks.get(self._mask_name()) if self._session is not None else None
        return encode_mask(mask.png) if mask is not None else ""

    def _clear(self) -> None:
        """Discard what was drawn; the second time, also the area in effect."""
        in_effect = self._mask_in_effect()
        self.canvas.mask = "" if self.canvas.mask == in_effect else in_effect

    def _apply(self) -> None:
        if self._session is None:
            raise UserError("there is no picture yet to draw on")
        purpose, mask = self.purpose.value, Mask.from_source(self.area(), self._session.settings.size)
        if self.canvas is not None and purpose in (REPAINT, REFINE):
            self.canvas.mask = ""
        if isinstance(purpose, int):
            self._edit(lambda session: _set_region(session, purpose, mask))
        elif purpose == PROTECT:
            self._edit(lambda session: session.protect(mask) or "that stays as it is")
        else:
            self._edit(lambda session: _repaint(session, mask, purpose == REPAINT), resume=True)

    def _remove(self) -> None:
        purpose = self.purpose.value
        if self.canvas is not None:
            self.canvas.mask = ""
        if isinstance(purpose, int):
            self._edit(lambda session: _set_region(session, purpose, None))
        else:
            self._edit(lambda session: session.protect(None) or "no area is protected")


def _set_region(session: Any, index: int, mask: Mask | None) -> str:
    """Limit a prompt to an area, or lift the limit."""
    session.set_region(index, mask)
    prompts = parse_prompts(session.settings.prompt)
    name = f"“{ellipsize(prompts[index].text, _MAX_NAME_CHARS)}”" if index < len(prompts) else f"prompt {index + 1}"
    return f"{name} applies {'only there' if mask is not None else 'everywhere'}"


def _repaint(session: Any, mask: Mask, fresh: bool) -> str:
    """Paint only inside an area; a finished run is extended for it."""
    session.repaint(mask, fresh, extend=True)
    return "painting only there" if fresh else "refining only there"
