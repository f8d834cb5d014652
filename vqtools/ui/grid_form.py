"""A form for several pictures at once: prompts, seeds and VQGANs, each combined with each.

Knows widgets and prompts; nothing about how a grid is painted.
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
    """Prompts line by line or from a file, seeds, VQGANs.

    paint(vary): called with lists of values by field, for :func:`vqtools.pipelines.grid.create_settings_grid`.
    """

    def __init__(self, paint: Callable[[dict[str, list[Any]]], None], guard: CallbackGuard) -> None:
        style = {"description_width": "88px"}
        wide = widgets.Layout(width="auto")
        self.prompts = widgets.Textarea(
            description="prompts",
            placeholder="one per line; empty: the prompt above",
            style=style,
            layout=wide,
            rows=3,
        )
        self.seeds = widgets.Text(description="seeds", placeholder="1 2 3", style=style, layout=wide)
        self.vqgans = widgets.Text(
            description="VQGANs",
            placeholder="names, separated by spaces; empty: the VQGAN of the form",
            style=style,
            layout=wide,
        )
        self.button = widgets.Button(description="Paint them all", layout=widgets.Layout(width="auto"))
        self.button.on_click(guard(lambda: paint(self.vary())))
        file = upload_button("Prompt file", "a text file with one prompt per line", self._load_file, accept=".txt")
        row = widgets.HBox([self.button, file])
        row.add_class("vqtools-row")
        self.view = widgets.VBox([self.prompts, self.seeds, self.vqgans, row])
        self._guard = guard

    def vary(self) -> dict[str, list[Any]]:
        """The values by field, without fields left empty. Raises UserError if a prompt or a seed can't be read."""
        prompts = [line.strip() for line in self.prompts.value.splitlines() if line.strip()]
        for prompt in prompts:
            parse_prompts(prompt)
        seeds = self.seeds.value.replace(",", " ").split()
        if wrong := [seed for seed in seeds if not seed.isdigit()]:
            raise UserError(f"seed {wrong[0]!r}: must be a whole number; write them as 1 2 3")
        vary: dict[str, list[Any]] = {
            "prompt": prompts,
            "vqgan": self.vqgans.value.replace(",", " ").split(),
            "seed": [int(seed) for seed in seeds],
        }
        return {name: values for name, values in vary.items() if values}

    def _load_file(self, name: str, content: bytes) -> None:
        def load() -> None:
            try:
                lines = content.decode("utf-8-sig").splitlines()
            except UnicodeDecodeError:
                raise UserError(f"{name!r} is not a text in UTF-8; save it as one") from None
            prompts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
            self.prompts.value = "\n".join(prompts)
            self.vary()

        self._guard(load)(None)
