"""A menu of the prompt's building blocks.

Knows their names and groups; nothing about prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from vqtools.painting.prompt_blocks import load_blocks
from vqtools.ui.callbacks import CallbackGuard


def prompt_block_menu(add: Callable[[str], None], guard: CallbackGuard) -> Any:
    """A menu of the building blocks by group; ``add(name)`` is called with the chosen one."""
    names = {"add words …": ""}  # by label; headings have none
    for group, blocks in load_blocks().items():
        names[f"— {group} —"] = ""
        names |= {name.replace("-", " "): name for name in blocks}
    labels = list(names)
    # the labels are the values: of several options with the value "", the menu would select the first
    menu = widgets.Dropdown(options=labels, value=labels[0], layout=widgets.Layout(width="150px"))

    def choose() -> None:
        name = names.get(menu.value, "")
        if menu.value != labels[0]:
            menu.value = labels[0]
        if name:
            add(name)

    menu.observe(guard(choose), names=["value"])
    return menu
