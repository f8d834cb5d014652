"""TODO: what this module is.

Split from vqtools.ui.drafts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.painting.prompts import parse_prompts
from vqtools.ui.callbacks import CallbackGuard
from vqtools.ui.uploads import upload_button


class GridForm:
    """A fold for several pictures at once: prompts by line or from a file, seeds, VQGANs, each with each.

    paint(vary): called with the values of fields, as :func:`vqtools.sheets.grid` takes them.
    """

    def __init__(self, paint: Callable[[dict[str, list[Any]]], None], wrap: CallbackGuard) -> None:
        style = {"description_width": "88px"}
        wide = widgets.Layout(width="auto")
        self.prompts = widgets.Textarea(
            description="prompts", placeholder="one a line; empty: the prompt above", style=style, layout=wide, rows=3
        )
        self.seeds = widgets.Text(description="seeds", placeholder="1 2 3", style=style, layout=wide)
        self.vqgans = widgets.Text(
            description="VQGANs", placeholder="names, separated by spaces; empty: the one above", style=style,
            layout=wide,
        )  # fmt: skip
        self.button = widgets.Button(description="Paint them all", layout=widgets.Layout(width="auto"))
        self.button.on_click(wrap(lambda: paint(self.vary())))
        file = upload_button("Prompt file", "a text with one prompt a line", self._file, accept=".txt")
        row = widgets.HBox([self.button, file])
        row.add_class("vqtools-row")
        self.view = widgets.VBox([self.prompts, self.seeds, self.vqgans, row])
        self._wrap = wrap

    def vary(self) -> dict[str, list[Any]]:
        """What stands in the fold; UserError where it can't be read."""
        asked = [line.strip() for line in self.prompts.value.splitlines() if line.strip()]
        for line in asked:
            parse_prompts(line)
        words = self.seeds.value.replace(",", " ").split()
        if wrong := [word for word in words if not word.isdigit()]:
            raise UserError(f"seed {wrong[0]!r}: write whole numbers, as 1 2 3")
        vary: dict[str, list[Any]] = {
            "prompt": asked, "vqgan": self.vqgans.value.replace(",", " ").split(), "seed": [int(one) for one in words]
        }  # fmt: skip
        return {name: values for name, values in vary.items() if values}

    def _file(self, name: str, content: bytes) -> None:
        def read() -> None:
            try:
                lines = content.decode("utf-8-sig").splitlines()
            except UnicodeDecodeError:
                raise UserError(f"{name!r} is no text in UTF-8; save it as one") from None
            kept = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
            self.prompts.value = "\n".join(kept)
            self.vary()

        self._wrap(read)(None)
