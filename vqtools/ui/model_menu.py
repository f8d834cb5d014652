"""A menu of the networks that a notebook uses: the starter models that ship, or public models to download.

Knows names, sizes and whether there is a GPU and an internet connection; nothing about what is made with them.
"""

from __future__ import annotations

import html
from typing import Any
from urllib.request import Request, urlopen

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.settings import quick_requested
from vqtools.ui.display import Displayed
from vqtools.weights.registry import find_record, format_bytes

PUBLIC_VQGAN, PUBLIC_CLIP = "vqgan-imagenet-f16-16384", "ViT-B-32-quickgelu/openai"
# fits into a T4's 15 GB; takes a few minutes there
PUBLIC_FIELDS = {
    "vqgan": PUBLIC_VQGAN,
    "clip": PUBLIC_CLIP,
    "transformer": "none",
    "size": (384, 384),
    "iterations": 300,
    "cutouts": 32,
}
TIMEOUT_SECONDS = 3.0  # without an answer of a host, there is no connection
STARTER_LABEL, PUBLIC_LABEL = "starter", "public models"


class Models(Displayed):
    """A menu of starter and public models, to be displayed; :attr:`fields` go into the notebook's settings.

    The public models are the default if there is a GPU and they are here or can be downloaded, else the starter models.
    """

    def __init__(self) -> None:
        self.public_models = [find_record("vqgan", PUBLIC_VQGAN), find_record("clip", PUBLIC_CLIP)]
        self.note = widgets.HTML()
        self.choice = widgets.ToggleButtons(
            options=[STARTER_LABEL, PUBLIC_LABEL],
            value=PUBLIC_LABEL if self._prefers_public() else STARTER_LABEL,
            style={"button_width": "140px"},
        )
        self.choice.observe(lambda _: self._explain(), "value")
        self.view = widgets.VBox([self.choice, self.note])
        self._explain()

    @property
    def missing(self) -> int:
        """Bytes of the public models that are still to be downloaded."""
        return sum(model.bytes or 0 for model in self.public_models if not model.path.exists())

    @property
    def fields(self) -> dict[str, Any]:
        """Settings of painting and animating for the choice; empty for the starter models.

        Missing public models are downloaded now. If that fails, the note says so and the starter models are used.
        """
        if quick_requested() or self.choice.value == STARTER_LABEL:
            return {}
        from vqtools.weights.fetch import fetch

        try:
            for model in self.public_models:
                fetch(model)
        except UserError as error:
            self.choice.value = STARTER_LABEL
            self.note.value = html.escape(
                f"The public models can't be downloaded: {error}. The starter models are used instead."
            )
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
            except ValueError:  # not a URL, in a user's own list
                continue
        return False

    def _explain(self) -> None:
        if self.choice.value == STARTER_LABEL:
            text = "The models that ship with vqtools: icons and emoji, at once, on any machine."
        elif self.missing:
            size = format_bytes(self.missing)
            text = f"{PUBLIC_VQGAN} and {PUBLIC_CLIP}: {size} to download once, about two minutes on Colab."
        else:
            text = f"{PUBLIC_VQGAN} and {PUBLIC_CLIP}: downloaded already."
        self.note.value = html.escape(text + " After a change, run the cells below again.")
