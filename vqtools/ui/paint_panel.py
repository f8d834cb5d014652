"""The panel of notebook 04: a prompt, the picture that it becomes, and the hand that steers it meanwhile.

Knows which settings, easel and folder belong together; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.files import check_writable
from vqtools.core.paths import file_stem
from vqtools.media.png_record import save_png
from vqtools.painting import prompts
from vqtools.painting.prompt_blocks import add_blocks
from vqtools.painting.prompts import format_prompts, parse_prompts
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.ui.animation_start import save_start_picture
from vqtools.ui.brush import Brush
from vqtools.ui.canvas import create_canvas
from vqtools.ui.gallery import Gallery
from vqtools.ui.grid_form import GridForm
from vqtools.ui.grid_picker import GridPicker
from vqtools.ui.history_bar import HistoryBar
from vqtools.ui.panel import PicturePanel
from vqtools.ui.picture_import import PictureImport
from vqtools.ui.preset_sizes import PresetSizes
from vqtools.ui.prompt_block_menu import prompt_block_menu
from vqtools.ui.uploads import save_upload, upload_button

if TYPE_CHECKING:
    from PIL.Image import Image

    from vqtools.core.job import Job
    from vqtools.painting.session import PaintSession
    from vqtools.pipelines.grid import PaintGrid

NEXT_RUN = "from the next run"


class PaintPanel(PicturePanel):
    """A prompt, and the picture it becomes under CLIP's guidance, steered while it forms.

    ``panel.easel`` is what the buttons act on: what they do, it does without them. A picture of ours that is dropped on
    the panel brings its settings back.
    """

    verb = "Paint"
    resumable = True
    hint = "Say what you want to see and press Paint; the first picture takes some seconds."
    _last: tuple[Any, ...] = ()  # what the last file holds

    def __init__(self, settings: PaintSettings | None = None, **options: Any) -> None:
        super().__init__(settings or PaintSettings(), **options)
        self._held: set[str] = set()  # fields changed while no step was to come: they count when it goes on
        self._stop_at: int | None = None  # where a picture that is made again had been stopped
        self._build_tools()
        self._place_tools()
        self._attach()

    def _build_tools(self) -> None:
        wrap = self.runner.guard
        self.preset_sizes = PresetSizes(self.form, self.runner)
        self.history_bar = HistoryBar(self.runner, branch=self.branch, undo=self.undo, redo=self.redo, save=self.save)
        self.layer = create_canvas(
            picked=lambda x, y, more: self.grid_picker.clicked(x, y, more),
            dropped=self.take,
            failed=self.runner.show_error,
        )
        self.brush = Brush(self.layer, self._stroke, wrap)
        self.grid_picker = GridPicker(self.layer, pick=self.pick, cross=self.cross, back=self.back_to_grid, wrap=wrap)
        self.picture_import = PictureImport(
            self.folder / "inputs", load=self._load, again=self.make_again, use=self.use, wrap=wrap
        )  # fmt: skip
        self.picture_import.origin = self.runner.panel_state.get("origin", self.picture_import.origin)
        self.grid_form = GridForm(self.grid, wrap)
        self.gallery = Gallery(
            self.folder, open=self.open, start=lambda path: self.use("init_image", path), wrap=wrap
        )  # fmt: skip
        self.draft = widgets.Button(
            description="Drafts", tooltip="sixteen seeds, forty steps each, to choose among",
            layout=widgets.Layout(width="84px"),
        )  # fmt: skip
        self.draft.on_click(wrap(self.drafts))
        self.factor = widgets.Dropdown(
            options=[("1.5×", 1.5), ("2×", 2.0)], tooltip="how much bigger", layout=widgets.Layout(width="64px")
        )

    def _place_tools(self) -> None:
        """Few things on view: tools open where they are asked for, the rest is folded away at the foot."""
        steering, wrap = self.history_bar, self.runner.guard
        steering.add(self.brush.toggle, self.brush.view)
        steering.add_button("bigger", "Bigger", "go on from here at a larger size",
                            lambda: self.bigger(float(self.factor.value)))  # fmt: skip
        steering.add_button("animate", "Animate this", "save it, and let 05_animate begin with it", self.animate)
        buttons = steering.buttons
        steering.row.children = (
            steering.slider, buttons["branch"], buttons["undo"], buttons["redo"], self.brush.toggle, buttons["save"],
            buttons["bigger"], self.factor, buttons["animate"],
        )  # fmt: skip
        if self.layer is not None:
            self.runner.view.children = (self.runner.picture, self.layer)
        self.runner.controls.insert_after_start(self.draft)
        helpers = widgets.HBox([
            prompt_block_menu(self.add_words, wrap),
            upload_button("Picture prompt", "draw the picture towards another picture", self._guarded(self._add_picture_prompt)),
            upload_button("Open a picture", "bring back the settings inside a PNG of ours, or start from any picture;"
                         " or drop it on the panel", self._guarded(self.take)),
        ])  # fmt: skip
        helpers.add_class("vqtools-row")
        helpers.add_class("vqtools-helpers")
        folds = widgets.Accordion([self.gallery.view, self.grid_form.view], selected_index=None)
        folds.set_title(0, "pictures made here")
        folds.set_title(1, "several at once")
        folds.add_class("vqtools-folds")
        folds.observe(wrap(lambda: self.gallery.refresh() if folds.selected_index == 0 else None), ["selected_index"])
        self.folds = folds
        style, prompt, page, *rest = self.view.children
        after = rest.index(self.runner.buttons) + 1
        tools = (self.grid_picker.view, self.picture_import.view, steering.view)
        self.view.children = (style, prompt, helpers, page, *rest[:after], *tools, *rest[after:], folds)

    @property
    def easel(self) -> PaintSession | None:
        """The painting that is being made, or was made last."""
        return self.runner.job if hasattr(self.runner.job, "branch") else None  # type: ignore[return-value]

    @property
    def sheet(self) -> PaintGrid | None:
        """The last sheet of drafts, or of several at once."""
        return self.runner.panel_state.get("sheet")

    # What the buttons do; each can be called from a cell.

    def edit(self, **changes: Any) -> None:
        """Change settings from the next step on, in the form too."""
        self.form.set(**{**PRESETS.get(str(changes.get("preset")), {}), **changes})
        self.runner.queue_action(lambda easel: self._edit(easel, changes))

    def undo(self) -> None:
        """Back to just before the last edit or stroke."""
        self.runner.queue_action(lambda easel: self._restore(easel, easel.undo, "undone"))

    def redo(self) -> None:
        """Forward again to where undo was called."""
        self.runner.queue_action(lambda easel: self._restore(easel, easel.redo, "done again"))

    def branch(self, position: int) -> None:
        """Back to a step of this run, and on from there another way, with what was changed in the form meanwhile."""

        def act(easel: PaintSession) -> str:
            easel.branch(position)
            self.before_resume(easel)
            self._show_settings(easel)
            return f"a new branch from step {position}"

        self.history_bar.show_present()
        self.runner.queue_action(act, resume=True)

    def save(self) -> None:
        """Keep the picture as it stands, also in mid-run."""
        self.runner.queue_action(self.finish)

    def drafts(self, count: int = 16) -> None:
        """A sheet of short runs from so many seeds, to choose among; :meth:`pick_cell` or :meth:`cross` go on from it."""
        settings = self._checked_settings()

        def make() -> PaintGrid:
            from vqtools.pipelines.grid import create_candidate_grid

            grid = create_candidate_grid(settings, count=count, explicit=(), create_session=self._make)
            return self._keep_grid(grid)

        self._switch_to(make)

    def grid(self, vary: Mapping[str, list[Any]]) -> None:
        """Every combination of the values that fields take, as one sheet: ``{"prompt": [...], "seed": [1, 2, 3]}``."""
        settings = self._checked_settings()

        def make() -> PaintGrid:
            from vqtools.pipelines.grid import create_settings_grid

            return self._keep_grid(create_settings_grid(settings, vary, create_session=self._make))

        self._switch_to(make)

    def pick(self, index: int) -> None:
        """Go on with a painting of the sheet, by its number from 0, with what stands in the form."""
        sheet, wanted = self._there(), self.form.settings().quick()

        def make() -> PaintSession:
            return self._shown(sheet.pick_with(index, wanted))

        self._switch_to(make)

    def cross(self, first: int, second: int, halves: Any = "left-right") -> None:
        """Begin with one half of each of two paintings of the sheet, by their numbers from 0."""
        sheet, wanted = self._there(), self.form.settings().quick()
        self._switch_to(lambda: self._shown(sheet.cross(first, second, halves, iterations=wanted.iterations)))

    def back_to_grid(self) -> None:
        """Show the last sheet again, to choose another of its paintings."""
        sheet = self._there()
        self.history_bar.begin()
        self.runner.switch_to(lambda: sheet, at_rest=True)

    def bigger(self, factor: float = 1.5) -> None:
        """Go on from the picture as it stands, at so many times its size; the smaller one is saved."""
        easel = self.easel
        if easel is None:
            raise UserError("there is no picture yet to make bigger; press Paint first")

        def make() -> PaintSession:
            from vqtools.pipelines.variations import enlarge

            return self._shown(enlarge(easel, factor))

        self._switch_to(make)

    def animate(self) -> None:
        """Save the picture, and leave word for the page 05_animate to begin with it."""

        def act(easel: PaintSession) -> str:
            self.finish(easel)
            assert self.saved is not None
            save_start_picture(self.folder.parent / "animations", self.saved)
            return f"open 05_animate and run it: it begins with {self.saved}"

        self.runner.queue_action(act)

    def take(self, name: str, content: bytes) -> None:
        """A picture that was dropped on the panel or uploaded: settings inside come back."""
        self.picture_import.take(name, content)

    def open(self, path: str | Path) -> None:
        """Bring the settings inside one of our PNGs back into the form."""
        self.picture_import.open(Path(path))

    def use(self, field: str, path: Path) -> None:
        """Let a field name a picture: init_image, style_image, or the prompt, to which it is added."""
        if field == "prompt":
            asked = [*parse_prompts(self.form.values()["prompt"]), prompts.Prompt(f"picture:{path}")]
            self._set_field("prompt", format_prompts(asked))
        else:
            self._set_field(field, str(path))
        if field == "init_image":
            self.form.set(init="auto")
            self.runner.set_status(f"The next picture begins with {path}.")

    def add_words(self, name: str) -> None:
        """Add a building block to the prompt: words for a style, a medium, light, or what shall not be."""
        self._set_field("prompt", add_blocks(self.form.values()["prompt"], [name]))

    def make_again(self, record: Mapping[str, Any]) -> None:
        """Make a picture of ours again, every edit and stroke of its journal followed."""
        from vqtools.pipelines.reproduce import settings_from_record

        fields = settings_from_record({**record, "settings": record.get("began", record.get("settings"))}, {})
        settings = PaintSettings.parse(fields)
        self.picture_import.origin.check(settings)
        position = record.get("position")

        def make() -> PaintSession:
            easel: PaintSession = self._make(settings, record=record, replay=True)
            self._stop_at = position if isinstance(position, int) else None
            return easel

        self._switch_to(make)

    # How.

    def _guarded(self, take: Callable[[str, bytes], None]) -> Callable[[str, bytes], None]:
        return lambda name, content: self.runner.guard(lambda: take(name, content))(None)

    def _add_picture_prompt(self, name: str, content: bytes) -> None:
        from vqtools.media.image import load_picture

        load_picture(content, name)  # what is no picture is said, and not kept
        self.use("prompt", save_upload(self.folder / "inputs", name, content))

    def _set_field(self, name: str, value: Any) -> None:
        """Set a field as a person does."""
        self.form.set(**{name: value})
        self._changed(name)

    def _load(self, settings: PaintSettings) -> None:
        """Settings that came with a picture; the run under way keeps its own."""
        self.form.clear_notes()
        self.form.load(settings)
        self._held = {name for name in PaintSettings.model_fields if self._is_live(name)} if self.easel else set()
        self.runner.refresh()

    def _checked_settings(self) -> PaintSettings:
        """What stands in the form, checked."""
        self.form.clear_notes()
        settings: PaintSettings = self.form.settings().quick()
        self.picture_import.origin.check(settings)
        check_writable(self.folder)
        return settings

    def _switch_to(self, make: Callable[[], Job]) -> None:
        """Begin a job that comes of what is there."""
        self._held.clear()
        self._stop_at = None
        self.brush.toggle.value = False
        self.history_bar.begin()
        self.runner.switch_to(self._mark_failing_field(make))

    def _keep_grid(self, sheet: PaintGrid) -> PaintGrid:
        self.runner.panel_state["sheet"] = sheet
        return sheet

    def _there(self) -> PaintGrid:
        if self.sheet is None:
            raise UserError("there is no sheet to choose from; press Drafts first")
        return self.sheet

    def _shown(self, easel: PaintSession) -> PaintSession:
        self._show_settings(easel)
        return easel

    def _stroke(self, act: Callable[[PaintSession], str], go_on: bool = False) -> None:
        """Give what was drawn to the easel; the form follows where that changed a setting."""

        def done(easel: PaintSession) -> str:
            words = act(easel)
            self._show_settings(easel)
            return words

        self.runner.queue_action(done, resume=go_on)

    def preview(self, job: Any) -> Image | None:
        return self.history_bar.preview(job)

    def step_done(self, job: Any, report: Any) -> None:
        self.history_bar.step_done(report)
        if self._stop_at is not None and report.position >= self._stop_at:
            self._stop_at = None
            self.runner.stop()
        if report.image is not None:
            with self.history_bar.lock:
                self._refresh_grid_picker()

    def state_changed(self) -> None:
        with self.history_bar.lock:
            self.history_bar.refresh()
            self.runner.panel_state["origin"] = self.picture_import.origin
            self.draft.disabled = self.runner.state != "idle"
            self.brush.refresh(self.easel)
            self._refresh_grid_picker()

    def _refresh_grid_picker(self) -> None:
        shown = self.sheet is not None and self.runner.job is self.sheet
        if shown and self.layer is not None and self.sheet is not None:
            self.layer.size = list(self.sheet.preview_size())
        self.grid_picker.refresh(self.sheet, shown)

    def _create_job(
        self, settings: PaintSettings, record: Mapping[str, Any] | None = None, replay: bool = False
    ) -> PaintSession:
        from vqtools.pipelines.paint import create_session  # loads torch: not before it is needed

        origin = self.picture_import.origin
        record = record or origin.record or None
        threads = (record or {}).get("threads")  # the same bits need as many
        threads = threads if isinstance(threads, int) and 1 <= threads <= 1024 else None
        return create_session(settings, threads=threads, record=record, trusted=origin.trusted, replay=replay)

    def finish(self, job: Any) -> str:
        state = job, job.position, len(job.edit_log.entries) if hasattr(job, "edit_log") else 0
        if state != self._last or self.saved is None:
            activity = getattr(job, "activity", "")
            stem = file_stem(job.settings.prompt, job.settings.seed) + (f"-{activity}" if activity else "")
            self.saved = save_png(self.folder / f"{stem}.png", job.picture(), job.record())
            self._last = state
            if self.folds.selected_index == 0:
                self.gallery.refresh()
        return f"saved as {self.saved}"

    def _changed(self, name: str) -> None:
        def act() -> None:
            self._follow(name)
            if self.runner.job is None and self.runner.state == "idle":
                return
            if self.runner.job is not None and self.easel is None:  # a sheet: what is picked goes on with the form
                self.form.note(name, "from the one that you go on with" if self._is_live(name) else NEXT_RUN)
            elif not self._is_live(name):
                if self.runner.state != "idle":
                    self.form.note(name, NEXT_RUN)
            elif self.runner.state == "idle" or self.history_bar.viewed_position is not None:
                self._held.add(name)
                if self.history_bar.viewed_position is not None:
                    self.form.note(name, "from the branch on")
                self.runner.refresh()
            else:
                self._edit_from_form(name)

        self.runner.guard(act)(None)

    def _edit_from_form(self, name: str) -> None:
        """Let a field that a person has changed count from the next step on, if it can be read."""
        values = self.form.values()
        if name in PaintSettings.problems(values):
            return
        self.form.note(name, "from the next step on")
        self.runner.queue_action(lambda easel: self._edit(easel, {name: values[name]}))

    def _edit(self, easel: PaintSession, changes: dict[str, Any]) -> str:
        if not hasattr(easel, "edit"):  # a sheet
            return ""
        easel.edit(changes)
        for name in changes:
            self.form.note(name, f"since step {easel.position}")
        return f"{', '.join(name.replace('_', ' ') for name in changes)} changed"

    def _is_live(self, name: str) -> bool:
        return next(one.live for one in PaintSettings.options() if one.name == name)

    def before_resume(self, easel: PaintSession) -> None:
        """Give a job that goes on what was changed in the form while it was at rest."""
        values = self.form.values()
        changes = {name: values[name] for name in sorted(self._held) if self._is_live(name)}
        self._held.clear()
        if changes and hasattr(easel, "edit"):
            easel.edit(changes)

    def total_steps(self, easel: PaintSession) -> int:
        """The steps in all, with what stands in the form."""
        held = self.easel is not None and self._held & {"iterations", "preset"}
        wanted = self.form.values()["iterations"] if held else None
        return easel.total + (wanted - easel.settings.iterations if isinstance(wanted, int) else 0)

    def _restore(self, easel: PaintSession, move: Any, words: str) -> str:
        move()
        self._held.clear()
        self.history_bar.show_present()
        self._show_settings(easel)
        return words

    def _show_settings(self, easel: PaintSession) -> None:
        """The form shows what the job has come back to; fields that count from the next run alone stay."""
        self.form.clear_notes()
        self.form.set(**{name: getattr(easel.settings, name) for name in type(easel.settings).model_fields
                         if self._is_live(name)})  # fmt: skip

    def plan(self) -> Any:
        make = super().plan()
        self.picture_import.origin.check(self.form.settings())
        self._held.clear()
        self._stop_at = None
        self.brush.toggle.value = False
        self.history_bar.begin()
        return make

    def _follow(self, name: str) -> None:
        values = self.form.values()
        self.preset_sizes.changed(name)
        if name in ("vqgan", "clip"):
            self._match_transformer(values)

    def _match_transformer(self, values: dict[str, Any]) -> None:
        """The starter transformer draws for the starter VQGAN and CLIP alone."""
        both = values["vqgan"] == values["clip"] == "starter"
        if not both and values["transformer"] == "starter":
            self.form.set(transformer="none")
            self.form.note("transformer", "none: the starter draws for the starter VQGAN and CLIP alone")
            self.runner.set_status(
                "This VQGAN and CLIP have no transformer to draw the start: the picture begins with random codes."
            )
        elif both and values["transformer"] == "none":
            self.form.set(transformer="starter")
            self.form.note("transformer", "")
