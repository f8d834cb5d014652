"""Which networks a page works with: those that ship, or the public ones, fetched when they are first wanted.

Knows names, sizes and whether there is a GPU and a network; nothing about what is made with them.
"""

from __future__ import annotations

import html
from typing import Any
from urllib.request import Request, urlopen

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.settings import quick_requested
from vqtools.weights.registry import find_record, format_bytes

PUBLIC_VQGAN, PUBLIC_CLIP = "vqgan-imagenet-f16-16384", "ViT-B-32-quickgelu/openai"
# what a T4's 15 GB hold with room to spare, and a few minutes there
PUBLIC_FIELDS = {
    "vqgan": PUBLIC_VQGAN, "clip": PUBLIC_CLIP, "transformer": "none", "size": (384, 384), "iterations": 300, "cutouts": 32,
}  # fmt: skip
TIMEOUT_SECONDS = 3.0  # seconds in which a host answers, or there is no network
STARTER_LABEL, PUBLIC_LABEL = "starter", "public models"


class Models:
    """A menu: the starters, at once, or the public models. Display it; `fields` go into the page's settings.

    Where there is a GPU and the public ones are here or can be fetched, they are the default; elsewhere the starters.
    """

    def __init__(self) -> None:
        self.public_models = [find_record("vqgan", PUBLIC_VQGAN), find_record("clip", PUBLIC_CLIP)]
        self.note = widgets.HTML()
        self.choice = widgets.ToggleButtons(
            options=[STARTER_LABEL, PUBLIC_LABEL], value=PUBLIC_LABEL if self._prefers_public() else STARTER_LABEL,
            style={"button_width": "140px"},
        )  # fmt: skip
        self.choice.observe(lambda _: self._explain(), "value")
        self.view = widgets.VBox([self.choice, self.note])
        self._explain()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)  # type: ignore[no-untyped-call]

    @property
    def missing(self) -> int:
        """Bytes of the public models that are not here yet."""
        return sum(one.bytes or 0 for one in self.public_models if not one.place.exists())

    @property
    def fields(self) -> dict[str, Any]:
        """What the choice means for the settings of painting and animating: none of them changed for the starters.

        The public models are fetched now where they are not here. Where that fails it is said, and the starters serve.
        """
        if quick_requested() or self.choice.value == STARTER_LABEL:
            return {}
        from vqtools.weights.fetch import fetch

        try:
            for one in self.public_models:
                fetch(one)
        except UserError as error:
            self.choice.value = STARTER_LABEL
            self.note.value = html.escape(f"The public models can't be had: {error}. The starters serve instead.")
            return {}
        self._explain()
        return dict(PUBLIC_FIELDS)

    def _prefers_public(self) -> bool:
        from vqtools.core.device import available_devices

        return (
            not quick_requested() and available_devices()[0] == "cuda" and (not self.missing or self._host_reachable())
        )

    def _host_reachable(self) -> bool:
        for url in self.public_models[0].urls:
            try:
                with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS):
                    return True
            except OSError:
                continue
            except ValueError:  # an address of the person's own list that is none
                continue
        return False

    def _explain(self) -> None:
        if self.choice.value == STARTER_LABEL:
            words = "The models that ship: icons and emoji, now, on any machine."
        elif self.missing:
            words = f"{PUBLIC_VQGAN} and {PUBLIC_CLIP}: {format_bytes(self.missing)}, about two minutes on Colab, once."
        else:
            words = f"{PUBLIC_VQGAN} and {PUBLIC_CLIP}: here already."
        self.note.value = html.escape(words + " After a change run the cells below again.")
