"""The panel of notebook 04: a prompt, the picture that it becomes, and the hand that steers it meanwhile.

Knows which settings, easel and folder belong together; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vqtools import blocks
from vqtools.media import check_writable, file_stem, save_png
from vqtools.painting import prompts
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.settings import UserError
from vqtools.ui import files, handover
from vqtools.ui.arrivals import Arrivals
from vqtools.ui.brush import Brush
from vqtools.ui.canvas import canvas
from vqtools.ui.drafts import Choosing, Several, words_menu
from vqtools.ui.gallery import Gallery
from vqtools.ui.panels import PicturePanel
from vqtools.ui.sizing import Sizing
from vqtools.ui.steering import Steering

if TYPE_CHECKING:
    from vqtools.jobs import Job
    from vqtools.painting.easel import Easel
    from vqtools.sheets import Sheet

NEXT_RUN = "from the next run"


class PaintPanel(PicturePanel):
    """A prompt, and the picture it becomes under CLIP's guidance, steered while it forms.

    ``panel.easel`` is what the buttons act on: what they do, it does without them. A picture of ours that is dropped on
    the panel brings its settings back.
    """

    verb = "Paint"
    steered = True
    hint = "Say what you want to see and press Paint; the first picture takes some seconds."
    folds: Any = None  # a run that is taken over may end, and be saved, before they are built
    _last: tuple[Any, ...] = ()  # what the last file holds

    def __init__(self, settings: PaintSettings | None = None, **options: Any) -> None:
        super().__init__(settings or PaintSettings(), **options)
        self._held: set[str] = set()  # fields changed while no step was to come: they count when it goes on
        self._end_at: int | None = None  # where a picture that is made again had been stopped
        self._build_tools()
        self._place_tools()
        self.runner.going_on, self.runner.end = self._let_go, self._end
        self.runner.report, self.runner.changed = self._report, self._refresh
        self._refresh()

    def _build_tools(self) -> None:
        wrap = self.runner.guarded
        self.sizing = Sizing(self.form, self.runner)
        self.steering = Steering(self.runner, branch=self.branch, undo=self.undo, redo=self.redo, save=self.save)
        self.layer = canvas(
            picked=lambda x, y, more: self.choosing.clicked(x, y, more), dropped=self.take, failed=self.runner.fail
        )
        self.brush = Brush(self.layer, self._stroke, wrap)
        self.choosing = Choosing(self.layer, pick=self.pick, cross=self.cross, back=self.back_to_the_sheet, wrap=wrap)
        self.arrivals = Arrivals(
            self.folder / "inputs", load=self._load, again=self.make_again, use=self.use, wrap=wrap
        )  # fmt: skip
        self.arrivals.origin = self.runner.kept.get("origin", self.arrivals.origin)
        self.several = Several(self.grid, wrap)
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
        steering, wrap = self.steering, self.runner.guarded
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
        self.runner.beside_start(self.draft)
        helpers = widgets.HBox([
            words_menu(self.add_words, wrap),
            files.upload("Picture prompt", "draw the picture towards another picture", self._guarded(self._prompt_by)),
            files.upload("Open a picture", "bring back the settings inside a PNG of ours, or start from any picture;"
                         " or drop it on the panel", self._guarded(self.take)),
        ])  # fmt: skip
        helpers.add_class("vqtools-row")
        helpers.add_class("vqtools-helpers")
        folds = widgets.Accordion([self.gallery.view, self.several.view], selected_index=None)
        folds.set_title(0, "pictures made here")
        folds.set_title(1, "several at once")
        folds.add_class("vqtools-folds")
        folds.observe(wrap(lambda: self.gallery.refresh() if folds.selected_index == 0 else None), ["selected_index"])
        self.folds = folds
        style, prompt, page, *rest = self.view.children
        after = rest.index(self.runner.buttons) + 1
        tools = (self.choosing.view, self.arrivals.view, steering.view)
        self.view.children = (style, prompt, helpers, page, *rest[:after], *tools, *rest[after:], folds)

    @property
    def easel(self) -> Easel | None:
        """The painting that is being made, or was made last."""
        return self.runner.job if hasattr(self.runner.job, "branch") else None  # type: ignore[return-value]

    @property
    def sheet(self) -> Sheet | None:
        """The last sheet of drafts, or of several at once."""
        return self.runner.kept.get("sheet")

    # What the buttons do; each can be called from a cell.

    def edit(self, **changes: Any) -> None:
        """Change settings from the next step on, in the form too."""
        self.form.set(**{**PRESETS.get(str(changes.get("preset")), {}), **changes})
        self.runner.do(lambda easel: self._edit(easel, changes))

    def undo(self) -> None:
        """Back to just before the last edit or stroke."""
        self.runner.do(lambda easel: self._jump(easel, easel.undo, "undone"))

    def redo(self) -> None:
        """Forward again to where undo was called."""
        self.runner.do(lambda easel: self._jump(easel, easel.redo, "done again"))

    def branch(self, position: int) -> None:
        """Back to a step of this run, and on from there another way, with what was changed in the form meanwhile."""

        def act(easel: Easel) -> str:
            easel.branch(position)
            self._let_go(easel)
            self._show_settings(easel)
            return f"a new branch from step {position}"

        self.steering.return_to_now()
        self.runner.do(act, go_on=True)

    def save(self) -> None:
        """Keep the picture as it stands, also in mid-run."""
        self.runner.do(self._save)

    def drafts(self, count: int = 16) -> None:
        """A sheet of short runs from so many seeds, to choose among; :meth:`pick` or :meth:`cross` go on from it."""
        settings = self._ready()

        def make() -> Sheet:
            from vqtools import sheets

            short = settings.model_copy(update={"iterations": sheets.STEPS, "grids": sheets.GRIDS})
            return self._new_sheet(sheets.drafts(short, count=count, easel=self._make))

        self._set_off(make)

    def grid(self, vary: Mapping[str, list[Any]]) -> None:
        """Every combination of the values that fields take, as one sheet: ``{"prompt": [...], "seed": [1, 2, 3]}``."""
        settings = self._ready()

        def make() -> Sheet:
            from vqtools import sheets

            return self._new_sheet(sheets.grid(settings, vary, easel=self._make))

        self._set_off(make)

    def pick(self, index: int) -> None:
        """Go on with a painting of the sheet, by its number from 0, with what stands in the form."""
        sheet, wanted = self._there(), self.form.settings().quick()

        def make() -> Easel:
            easel = sheet.pick(index)
            before, most = easel.settings, max(wanted.iterations, easel.settings.iterations)
            if most == before.iterations:  # it has these already
                most += wanted.iterations
            changes = {
                name: getattr(wanted, name) for name in PaintSettings.model_fields
                if self._is_live(name) and name != "preset" and getattr(wanted, name) != getattr(before, name)
            }  # fmt: skip
            easel.edit({**changes, "iterations": most})
            return self._shown(easel)

        self._set_off(make)

    def cross(self, first: int, second: int, halves: Any = "left-right") -> None:
        """Begin with one half of each of two paintings of the sheet, by their numbers from 0."""
        sheet, wanted = self._there(), self.form.settings().quick()
        self._set_off(lambda: self._shown(sheet.cross(first, second, halves, iterations=wanted.iterations)))

    def back_to_the_sheet(self) -> None:
        """Show the last sheet again, to choose another of its paintings."""
        sheet = self._there()
        self.steering.begin()
        self.runner.follow(lambda: sheet, rest=True)

    def bigger(self, factor: float = 1.5) -> None:
        """Go on from the picture as it stands, at so many times its size; the smaller one is saved."""
        easel = self.easel
        if easel is None:
            raise UserError("there is no picture yet to make bigger; press Paint first")

        def make() -> Easel:
            from vqtools import onward

            return self._shown(onward.bigger(easel, factor))

        self._set_off(make)

    def animate(self) -> None:
        """Save the picture, and leave word for the page 05_animate to begin with it."""

        def act(easel: Easel) -> str:
            self._save(easel)
            assert self.saved is not None
            handover.give(self.folder.parent / "animations", self.saved)
            return f"open 05_animate and run it: it begins with {self.saved}"

        self.runner.do(act)

    def take(self, name: str, content: bytes) -> None:
        """A picture that was dropped on the panel or uploaded: settings inside come back."""
        self.arrivals.take(name, content)

    def open(self, path: str | Path) -> None:
        """Bring the settings inside one of our PNGs back into the form."""
        self.arrivals.open(Path(path))

    def use(self, field: str, path: Path) -> None:
        """Let a field name a picture: init_image, style_image, or the prompt, to which it is added."""
        if field == "prompt":
            asked = [*prompts.parse(self.form.values()["prompt"]), prompts.Prompt(f"picture:{path}")]
            self._type("prompt", prompts.format(asked))
        else:
            self._type(field, str(path))
        if field == "init_image":
            self.form.set(init="auto")
            self.runner.say(f"The next picture begins with {path}.")

    def add_words(self, name: str) -> None:
        """Add a building block to the prompt: words for a style, a medium, light, or what shall not be."""
        self._type("prompt", blocks.add(self.form.values()["prompt"], [name]))

    def make_again(self, record: Mapping[str, Any]) -> None:
        """Make a picture of ours again, every edit and stroke of its journal followed."""
        from vqtools.records import restored

        fields = restored({**record, "settings": record.get("began", record.get("settings"))}, {})
        settings = PaintSettings.parse(fields)
        self.arrivals.origin.check(settings)
        position = record.get("position")

        def make() -> Easel:
            easel: Easel = self._make(settings, record=record, replay=True)
            self._end_at = position if isinstance(position, int) else None
            return easel

        self._set_off(make)

    # How.

    def _guarded(self, take: Callable[[str, bytes], None]) -> Callable[[str, bytes], None]:
        return lambda name, content: self.runner.guarded(lambda: take(name, content))(None)

    def _prompt_by(self, name: str, content: bytes) -> None:
        from vqtools.media import load_picture

        load_picture(content, name)  # what is no picture is said, and not kept
        self.use("prompt", files.keep(self.folder / "inputs", name, content))

    def _type(self, name: str, value: Any) -> None:
        """Set a field as a person does."""
        self.form.set(**{name: value})
        self._changed(name)

    def _load(self, settings: PaintSettings) -> None:
        """Settings that came with a picture; the run under way keeps its own."""
        self.form.forget_notes()
        self.form.load(settings)
        self._held = {name for name in PaintSettings.model_fields if self._is_live(name)} if self.easel else set()
        self.runner.refresh()

    def _ready(self) -> PaintSettings:
        """What stands in the form, checked."""
        self.form.forget_notes()
        settings: PaintSettings = self.form.settings().quick()
        self.arrivals.origin.check(settings)
        check_writable(self.folder)
        return settings

    def _set_off(self, make: Callable[[], Job]) -> None:
        """Begin a job that comes of what is there."""
        self._held.clear()
        self._end_at = None
        self.brush.toggle.value = False
        self.steering.begin()
        self.runner.follow(self._noting(make))

    def _new_sheet(self, sheet: Sheet) -> Sheet:
        self.runner.kept["sheet"] = sheet
        return sheet

    def _there(self) -> Sheet:
        if self.sheet is None:
            raise UserError("there is no sheet to choose from; press Drafts first")
        return self.sheet

    def _shown(self, easel: Easel) -> Easel:
        self._show_settings(easel)
        return easel

    def _stroke(self, act: Callable[[Easel], str], go_on: bool = False) -> None:
        """Give what was drawn to the easel; the form follows where that changed a setting."""

        def done(easel: Easel) -> str:
            words = act(easel)
            self._show_settings(easel)
            return words

        self.runner.do(done, go_on=go_on)

    def _report(self, job: Any, report: Any) -> None:
        self.steering.report(job, report)
        if self._end_at is not None and report.position >= self._end_at:
            self._end_at = None
            self.runner.stop()
        if report.image is not None:
            with self.steering.lock:
                self._refresh_sheet()

    def _refresh(self) -> None:
        with self.steering.lock:
            self.steering.refresh()
            self.runner.kept["origin"] = self.arrivals.origin
            self.draft.disabled = self.runner.state != "idle"
            self.brush.refresh(self.easel)
            self._refresh_sheet()

    def _refresh_sheet(self) -> None:
        shown = self.sheet is not None and self.runner.job is self.sheet
        if shown and self.layer is not None and self.sheet is not None:
            self.layer.size = list(self.sheet.preview_size())
        self.choosing.refresh(self.sheet, shown)

    def _job(self, settings: PaintSettings, record: Mapping[str, Any] | None = None, replay: bool = False) -> Easel:
        from vqtools import studio  # loads torch: not before it is needed

        origin = self.arrivals.origin
        record = record or origin.record or None
        threads = (record or {}).get("threads")  # the same bits need as many
        threads = threads if isinstance(threads, int) and 1 <= threads <= 1024 else None
        return studio.easel(settings, threads=threads, record=record, trusted=origin.trusted, replay=replay)

    def _save(self, job: Any) -> str:
        state = job, job.position, len(job.journal.entries) if hasattr(job, "journal") else 0
        if state != self._last or self.saved is None:
            activity = getattr(job, "activity", "")
            stem = file_stem(job.settings.prompt, job.settings.seed) + (f"-{activity}" if activity else "")
            self.saved = save_png(self.folder / f"{stem}.png", job.picture(), job.record())
            self._last = state
            if self.folds is not None and self.folds.selected_index == 0:
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
            elif self.runner.state == "idle" or self.steering.looking is not None:
                self._held.add(name)
                if self.steering.looking is not None:
                    self.form.note(name, "from the branch on")
                self.runner.refresh()
            else:
                self._steer(name)

        self.runner.guarded(act)(None)

    def _steer(self, name: str) -> None:
        """Let a field that a person has changed count from the next step on, if it can be read."""
        values = self.form.values()
        if name in PaintSettings.problems(values):
            return
        self.form.note(name, "from the next step on")
        self.runner.do(lambda easel: self._edit(easel, {name: values[name]}))

    def _edit(self, easel: Easel, changes: dict[str, Any]) -> str:
        if not hasattr(easel, "edit"):  # a sheet
            return ""
        easel.edit(changes)
        for name in changes:
            self.form.note(name, f"since step {easel.position}")
        return f"{', '.join(name.replace('_', ' ') for name in changes)} changed"

    def _is_live(self, name: str) -> bool:
        return next(one.live for one in PaintSettings.options() if one.name == name)

    def _let_go(self, easel: Easel) -> None:
        """Give a job that goes on what was changed in the form while it was at rest."""
        values = self.form.values()
        changes = {name: values[name] for name in sorted(self._held) if self._is_live(name)}
        self._held.clear()
        if changes and hasattr(easel, "edit"):
            easel.edit(changes)

    def _end(self, easel: Easel) -> int:
        """The steps in all, with what stands in the form."""
        held = self.easel is not None and self._held & {"iterations", "preset"}
        wanted = self.form.values()["iterations"] if held else None
        return easel.total + (wanted - easel.settings.iterations if isinstance(wanted, int) else 0)

    def _jump(self, easel: Easel, move: Any, words: str) -> str:
        move()
        self._held.clear()
        self.steering.return_to_now()
        self._show_settings(easel)
        return words

    def _show_settings(self, easel: Easel) -> None:
        """The form shows what the job has come back to; fields that count from the next run alone stay."""
        self.form.forget_notes()
        self.form.set(**{name: getattr(easel.settings, name) for name in type(easel.settings).model_fields
                         if self._is_live(name)})  # fmt: skip

    def _plan(self) -> Any:
        make = super()._plan()
        self.arrivals.origin.check(self.form.settings())
        self._held.clear()
        self._end_at = None
        self.brush.toggle.value = False
        self.steering.begin()
        return make

    def _follow(self, name: str) -> None:
        values = self.form.values()
        self.sizing.changed(name)
        if name in ("vqgan", "clip"):
            self._match_transformer(values)

    def _match_transformer(self, values: dict[str, Any]) -> None:
        """The starter transformer draws for the starter VQGAN and CLIP alone."""
        both = values["vqgan"] == values["clip"] == "starter"
        if not both and values["transformer"] == "starter":
            self.form.set(transformer="none")
            self.form.note("transformer", "none: the starter draws for the starter VQGAN and CLIP alone")
            self.runner.say(
                "This VQGAN and CLIP have no transformer to draw the start: the picture begins with random codes."
            )
        elif both and values["transformer"] == "none":
            self.form.set(transformer="starter")
            self.form.note("transformer", "")
