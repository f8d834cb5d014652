"""TODO: what this module is.

Split from vqtools.ui.drafts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from vqtools.painting.prompt_blocks import load_blocks
from vqtools.ui.callbacks import CallbackGuard


def prompt_block_menu(add: Callable[[str], None], wrap: CallbackGuard) -> Any:
    """A menu of the building blocks; ``add(name)`` is called with the one that was chosen."""
    options = [("add words …", "")]
    for group, texts in load_blocks().items():
        options.append((f"— {group} —", ""))
        options += [(name.replace("-", " "), name) for name in texts]
    # equal values would choose the first of them: a heading is one, and does nothing
    labels = [label for label, _ in options]
    menu = widgets.Dropdown(options=labels, value=labels[0], layout=widgets.Layout(width="150px"))
    names = dict(options)

    def chosen() -> None:
        name = names.get(menu.value, "")
        if menu.value != labels[0]:
            menu.value = labels[0]
        if name:
            add(name)

    menu.observe(wrap(chosen), names=["value"])
    return menu
