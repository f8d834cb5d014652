"""The panel of notebook 04: a prompt, the picture that it becomes, and the hand that steers it meanwhile.

Knows which settings, easel and folder belong together; nothing about how a picture is painted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.ui.panels import PicturePanel
from vqtools.ui.steering import Steering

if TYPE_CHECKING:
    from vqtools.painting.easel import Easel

NEXT_RUN = "from the next run"


class PaintPanel(PicturePanel):
    """A prompt, and the picture it becomes under CLIP's guidance, steered while it forms.

    ``panel.easel`` is what the buttons act on: what they do, it does without them.
    """

    verb = "Paint"
    steered = True
    hint = "Say what you want to see and press Paint; the first picture takes some seconds."

    def __init__(self, settings: PaintSettings | None = None, **options: Any) -> None:
        super().__init__(settings or PaintSettings(), **options)
        self._held: set[str] = set()  # fields changed while no step was to come: they count when it goes on
        self.steering = Steering(self.runner, branch=self.branch, undo=self.undo, redo=self.redo, save=self.save)
        self.runner.going_on, self.runner.end = self._let_go, self._end
        children = list(self.view.children)
        after = children.index(self.runner.buttons) + 1
        self.view.children = (*children[:after], self.steering.view, *children[after:])

    @property
    def easel(self) -> Easel | None:
        """The painting that is being made, or was made last."""
        return self.runner.job if hasattr(self.runner.job, "branch") else None  # type: ignore[return-value]

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

    # How.

    def _job(self, settings: PaintSettings) -> Easel:
        from vqtools import studio  # loads torch: not before it is needed

        return studio.easel(settings)

    def _changed(self, name: str) -> None:
        def act() -> None:
            self._follow(name)
            if self.runner.job is None and self.runner.state == "idle":
                return
            if not self._is_live(name):
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
        if changes:
            easel.edit(changes)

    def _end(self, easel: Easel) -> int:
        """The steps in all, with what stands in the form."""
        wanted = self.form.values()["iterations"] if self._held & {"iterations", "preset"} else None
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
        self._held.clear()
        self.steering.begin()
        return make

    def _follow(self, name: str) -> None:
        values = self.form.values()
        if name == "preset":
            self.form.set(**PRESETS[values["preset"]])
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


def last_saved(folder: Path) -> list[Path]:
    """The PNGs of a folder, the newest first."""
    return sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime, reverse=True)
