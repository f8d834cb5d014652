"""The tools around a painting: history, brush, candidates, imported pictures, gallery; built and placed on the panel.

Knows widgets and which method of the panel each of them calls; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vqtools.ui.brush import Brush
from vqtools.ui.canvas import create_canvas
from vqtools.ui.gallery import Gallery
from vqtools.ui.grid_form import GridForm
from vqtools.ui.grid_picker import GridPicker
from vqtools.ui.history_bar import HistoryBar
from vqtools.ui.picture_import import PictureImport
from vqtools.ui.prompt_block_menu import prompt_block_menu
from vqtools.ui.uploads import upload_button

if TYPE_CHECKING:
    from vqtools.painting.session import PaintSession
    from vqtools.ui.paint_panel import PaintPanel

_GALLERY_PAGE = 0  # of the accordion


class PaintTools:
    """Builds the tools of a painting panel and keeps them up to date."""

    def __init__(self, panel: PaintPanel) -> None:
        self._panel, self._guard = panel, panel.runner.guard
        self.history_bar = HistoryBar(
            panel.runner, branch=panel.branch, undo=panel.undo, redo=panel.redo, save=panel.save
        )
        self.canvas = create_canvas(
            picked=self._pick_cell,
            dropped=panel.take,
            failed=panel.runner.show_error,
        )
        self.brush = Brush(self.canvas, panel.apply_stroke, self._guard)
        self.grid_picker = GridPicker(
            self.canvas, pick=panel.pick, cross=panel.cross, back=panel.back_to_grid, guard=self._guard
        )
        self.picture_import = PictureImport(
            panel.folder / "inputs",
            load=panel.live_form.load,
            replay=panel.make_again,
            use=panel.use,
            guard=self._guard,
        )
        self.grid_form = GridForm(panel.grid, self._guard)
        self.gallery = Gallery(
            panel.folder, open=panel.open, start=lambda path: panel.use("init_image", path), guard=self._guard
        )
        self.candidates_button = widgets.Button(
            description="Candidates",
            tooltip="paint sixteen seeds for forty steps each, to choose among",
            layout=widgets.Layout(width="96px"),
        )
        self.candidates_button.on_click(self._guard(panel.candidates))
        self.factor = widgets.Dropdown(
            options=[("1.5×", 1.5), ("2×", 2.0)], tooltip="the factor of Bigger", layout=widgets.Layout(width="64px")
        )
        self.accordion = self._build_accordion()
        self._complete_history_bar()

    def _pick_cell(self, x: float, y: float, extend: bool) -> None:
        self.grid_picker.clicked(x, y, extend)

    def _complete_history_bar(self) -> None:
        bar, panel = self.history_bar, self._panel
        bar.add_widget(self.brush.toggle, self.brush.view)
        bar.add_button(
            "bigger", "Bigger", "continue from here at a larger size", lambda: panel.bigger(float(self.factor.value))
        )
        bar.add_button("animate", "Animate this", "save the picture and start 05_animate with it", panel.animate)
        buttons = bar.buttons
        bar.row.children = (
            bar.slider,
            buttons["branch"],
            buttons["undo"],
            buttons["redo"],
            self.brush.toggle,
            buttons["save"],
            buttons["bigger"],
            self.factor,
            buttons["animate"],
        )

    def _build_accordion(self) -> Any:
        accordion = widgets.Accordion([self.gallery.view, self.grid_form.view], selected_index=None)
        accordion.set_title(_GALLERY_PAGE, "pictures made here")
        accordion.set_title(1, "several at once")
        accordion.add_class("vqtools-folds")
        accordion.observe(lambda _: self.refresh_gallery(), ["selected_index"])
        return accordion

    def _build_helpers(self) -> Any:
        helpers = widgets.HBox(
            [
                prompt_block_menu(self._panel.add_words, self._guard),
                upload_button(
                    "Picture prompt",
                    "guide the picture towards another picture",
                    self.guarded_upload(self._panel.add_picture_prompt),
                ),
                upload_button(
                    "Open a picture",
                    "restore the settings inside a PNG made here, or start from any picture; or drop it on the panel",
                    self.guarded_upload(self._panel.take),
                ),
            ]
        )
        helpers.add_class("vqtools-row")
        helpers.add_class("vqtools-helpers")
        return helpers

    def arrange(self, rows: Sequence[Any]) -> tuple[Any, ...]:
        """The rows of the panel with the tools among them: those in use below the buttons, the others folded away.

        rows: style sheet, prompt, page, then others, among them the runner's buttons.
        """
        runner = self._panel.runner
        if self.canvas is not None:
            runner.view.children = (runner.picture, self.canvas)
        runner.controls.insert_after_start(self.candidates_button)
        style, prompt, page, *others = rows
        after = others.index(runner.buttons) + 1
        tools = (self.grid_picker.view, self.picture_import.view, self.history_bar.view)
        helpers = self._build_helpers()
        return (style, prompt, helpers, page, *others[:after], *tools, *others[after:], self.accordion)

    def guarded_upload(self, take: Callable[[str, bytes], None]) -> Callable[[str, bytes], None]:
        """The same function of a file's name and content, with its exceptions shown in the panel."""
        return lambda name, content: self._guard(lambda: take(name, content))(None)

    def refresh(self, session: PaintSession | None) -> None:
        """Enable what can be used now."""
        with self.history_bar.lock:
            self.history_bar.refresh()
            self.candidates_button.disabled = self._panel.runner.state != "idle"
            self.brush.refresh(session)
            self.refresh_grid_picker()

    def refresh_grid_picker(self) -> None:
        """Show which paintings of the last grid can be chosen."""
        grid, shown = self._panel.last_grid, self._panel.grid_runs.is_shown
        with self.history_bar.lock:
            if grid is not None and shown and self.canvas is not None:
                self.canvas.size = list(grid.preview_size())
            self.grid_picker.refresh(grid, shown)

    def refresh_gallery(self) -> None:
        """Read the gallery's folder again, if it is open."""
        if self.accordion.selected_index == _GALLERY_PAGE:
            self._guard(self.gallery.refresh)(None)

    def reset(self) -> None:
        """Clear what belongs to the last run: the brush and the history."""
        self.brush.toggle.value = False
        self.history_bar.reset()
