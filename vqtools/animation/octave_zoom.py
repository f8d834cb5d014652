"""The octave zoom, an endless zoom without flicker: one picture per doubling, and frames resampled from two of them.

Pictures are painted from the inside out. The centre of each is the picture before at half its size; its surroundings
are new. A frame shows a part of the wider picture and, over its centre, the finer one. No frame is painted, so none can
flicker or drift. Networks are arguments. Knows pictures and levels; nothing about curves' text or video files.

A *level* is the width of the view in doublings: picture k fills the frame at level k.

Removing frames also removes the pictures that no earlier frame needs: narrower ones where the zoom moves in, wider ones
where it moves out. What is painted instead is joined to the pictures that stay. Their files, and the frames that stay,
never change; where the last of those frames differs from the new pictures, it is carried on by the zoom and fades out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools.animation.animator import GuidedPictureJob
from vqtools.animation.octave_plan import OctavePlan, RewindPoint
from vqtools.animation.octave_pyramid import (
    centre_mask,
    close_loop,
    fade_from_previous,
    find_loop_offset,
    insert_centre,
    match_rims,
    render_level,
    upscale_centre,
)
from vqtools.animation.project import Project
from vqtools.animation.settings import OCTAVE_ZOOM_LIVE_FIELDS, AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, to_picture, to_tensor
from vqtools.media.png_record import save_png
from vqtools.media.video import frame_name

InitTransform = Callable[["Image.Image | None"], "Image.Image | None"]
"""Changes the image that a picture's guidance starts from: a candidate of the transformer, or None for random codes."""
PictureJobFactory = Callable[[str, int, InitTransform], GuidedPictureJob]
"""Creates the job that paints a picture from a prompt, a seed, and a transform of its start."""


class OctaveZoom:
    """An octave zoom as a job: the guidance steps of all pictures, then one step per frame.

    create_job: see :data:`PictureJobFactory`. Pictures that the folder already holds are not painted again.
    """

    def __init__(
        self,
        settings: AnimateSettings,
        create_job: PictureJobFactory,
        project: Project,
        *,
        seed: int,
        timeline: Timeline | None = None,
    ) -> None:
        width, height = settings.size
        if width % 2 or height % 2:
            raise UserError(f"size {width}x{height}: an octave zoom halves it, so both sides must be even")
        self.settings, self.create_job, self.project, self.seed = settings, create_job, project, seed
        self.timeline = timeline or Timeline(settings, seed)
        self.plan = OctavePlan(settings, self.timeline)
        self.levels, self.count, self.ring = self.plan.levels, self.plan.count, self.plan.loop
        self.rewind_point = RewindPoint()
        if not self.ring:
            self.rewind_point = RewindPoint.from_record(project.record, settings.frames, self.count)
        self._delete_discarded()  # finishes a rewind that was interrupted
        paths = {k: self._picture_path(k) for k in range(self.count)}
        self.painted = {k: to_tensor(load_picture(path)) for k, path in paths.items() if path.is_file()}
        if not self.rewind_point.inner:  # each is painted around the one before
            gap = next((k for k in range(self.count) if k not in self.painted), self.count)
            self.painted = {k: picture for k, picture in self.painted.items() if k < gap}
        self._matched: list[Tensor] = []
        self._loop_offset = 0.0  # level of a loop's first frame
        self.frames_written = 0
        self._current_job = self._create_job()
        self.steps = self._current_job.total if self._current_job else 1  # of one picture; all have as many
        most = settings.frames if self._current_job is None else self.rewind_point.frame
        while self.frames_written < most and self._frame_path(self.frames_written).is_file():
            self.frames_written += 1

    @property
    def pictures(self) -> list[Tensor]:
        """The painted pictures (1, 3, H, W), the innermost first."""
        return [self.painted[k] for k in sorted(self.painted)]

    def _picture_path(self, k: int) -> Path:
        return self.project.folder / "octaves" / f"octave-{k:03d}.png"

    def _frame_path(self, number: int) -> Path:
        return self.project.frames / frame_name(number)

    @property
    def position(self) -> int:
        """Guidance steps of all pictures done, plus frames written."""
        current = min(self._current_job.position, self.steps) if self._current_job else 0
        return len(self.painted) * self.steps + current + self.frames_written

    @property
    def total(self) -> int:
        """Guidance steps of all pictures, plus frames."""
        return self.count * self.steps + self.settings.frames

    @property
    def done(self) -> int:
        """Frames written so far."""
        return self.frames_written

    def prompt(self, k: int) -> str:
        """The prompt of picture k."""
        return self.plan.prompt(k, self.timeline)

    @property
    def _current_index(self) -> int:
        """The innermost picture that is not painted."""
        return next(k for k in range(self.count + 1) if k not in self.painted)

    @property
    def _outer_rim(self) -> Tensor | None:
        """What the current picture must show at its border: set if a picture outside it is painted already.

        The last picture of a loop shows the first one again there; one inside a picture that stayed shows the centre of
        that picture.
        """
        k = self._current_index
        if self.ring and k == self.count - 1:
            return self.painted[0]
        return upscale_centre(self.painted[k + 1], 2.0) if k + 1 in self.painted else None

    def _create_job(self) -> GuidedPictureJob | None:
        k = self._current_index
        if k == self.count:
            return None
        return self.create_job(self.prompt(k), (self.seed + k) % 2**63, self._compose_init)

    def _compose_init(self, start: Image.Image | None) -> Image.Image | None:
        """The start of guidance: a candidate, or the picture before at full size, with the picture before inserted."""
        inner, rim = self.painted.get(self._current_index - 1), self._outer_rim
        if inner is None and rim is None:
            return start
        image = to_tensor(start) if start is not None else rim if inner is None else inner
        assert image is not None
        if rim is not None:
            image = rim if self.ring else torch.lerp(rim, image, centre_mask(*rim.shape[-2:]))
        return to_picture(image if inner is None else insert_centre(image, inner))

    def step(self) -> dict[str, float]:
        """Do one guidance step of the current picture, or write one frame."""
        if self._current_job is not None:
            scalars = self._current_job.step()
            self._freeze_joined_codes()
            if self._current_job.position >= self._current_job.total:
                self._finish_picture()
            return scalars
        picture = to_picture(self.render_frame(self.frames_written))
        self.project.save_frame(self.frames_written, picture, {"level": self._level(self.frames_written)})
        self.frames_written += 1
        return {"frame": float(self.frames_written)}

    def _freeze_joined_codes(self) -> None:
        """Reset the latents where the current picture joins painted ones: guidance changes only what is new."""
        painter, within = (
            self._current_job.painter if self._current_job else None,
            self._current_index - 1 in self.painted,
        )
        joined = self._outer_rim is not None
        if painter is None or not (within or joined):
            return
        state = painter.state_dict()
        frozen = torch.zeros(1, 1, *state["start"].shape[-2:], dtype=torch.bool)
        if within:  # where the mask is below 0.9, the surroundings grow onto the centre
            frozen = F.pad(centre_mask(*(n // 2 for n in frozen.shape[-2:])) >= 0.9, _centre_padding(frozen.shape[-2:]))
        if joined:  # the next wider picture has grown onto the border
            frozen = frozen | (centre_mask(*frozen.shape[-2:]) < 0.9)
        for name in ("latents", "average"):
            state[name] = torch.where(frozen, state["start"], state[name])
        painter.load_state_dict(state)

    def _finish_picture(self) -> None:
        assert self._current_job is not None and self._current_job.painter is not None
        image, k = self._current_job.painter.image()[None], self._current_index
        if k - 1 in self.painted:
            image = insert_centre(image, self.painted[k - 1])
        picture = to_picture(image)
        record = {**self.project.record, "octave": k, "shown": self.prompt(k)}
        save_png(self._picture_path(k), picture, record, overwrite=True)
        self.painted[k] = to_tensor(picture)
        self._current_job = self._create_job()

    def preview(self) -> Image.Image:
        """The current picture, or the newest frame; before the current picture's first step, what was there before."""
        if self._current_job is None:
            return to_picture(self.render_frame(max(0, self.frames_written - 1)))
        if self._current_job.position or not self.painted:
            return self._current_job.preview()
        if self.frames_written:
            return load_picture(self._frame_path(self.frames_written - 1))
        return to_picture(self.pictures[-1])

    def render_frame(self, frame: int) -> Tensor:
        """A frame (1, 3, H, W) in [-1, 1]; all pictures must be painted."""
        if len(self._matched) != self.plan.distinct:
            self._match_pictures()
        view = render_level(self._matched, self._level(frame), self.ring)
        progress = (frame - self.rewind_point.frame + 1) / (self.settings.crossfade + 1)
        if not 0 < self.rewind_point.frame <= frame or progress >= 1:
            return view
        last = self.rewind_point.frame - 1  # the last frame that was kept
        kept = to_tensor(load_picture(self._frame_path(last)))
        before = render_level(self._matched, self.levels[last])
        return fade_from_previous(view, kept, before, 2 ** (self.levels[last] - self.levels[frame]), progress)

    def _match_pictures(self) -> None:
        pictures = self.pictures
        if self.ring:
            self._matched = match_rims(close_loop([pictures[-1], *pictures[1:-1]]), True)
            self._loop_offset = find_loop_offset(self._matched, self.levels)
            return
        if self.rewind_point.inner:  # the pictures around the repainted ones hold the former ones
            for k in range(self.rewind_point.inner, self.count):
                pictures[k] = insert_centre(pictures[k], pictures[k - 1])
        self._matched = match_rims(pictures)

    def _level(self, frame: int) -> float:
        return (self.levels[frame] + self._loop_offset) % (self.count - 1) if self.ring else self.levels[frame]

    def rewind(self, frames: int) -> int:
        """Remove the last frames, and the pictures that only they need; return how many frames are left.

        The folder's record changes first: if the process is killed here, the next one finishes the removal.
        """
        if self.ring:
            raise UserError("a loop has no frame from which another path could start: its end leads to its beginning")
        if frames > self.frames_written:
            raise UserError(f"{frames} frames can't be removed: the folder holds {self.frames_written}")
        left = self.frames_written - frames
        needed = self.plan.pictures_of(left)
        removed = [k for k in sorted(self.painted) if k not in needed]
        inner = (needed.start or self.rewind_point.inner) if left else 0
        self.rewind_point = RewindPoint(left, inner)
        self.project.record["turn"] = {**self.rewind_point._asdict(), "thrown": removed}
        self.project.save()
        self._delete_discarded()
        self.painted = {k: picture for k, picture in self.painted.items() if k not in removed}
        self.frames_written, self._matched, self._current_job = left, [], self._create_job()
        self.steps = self._current_job.total if self._current_job else self.steps
        return left

    def _delete_discarded(self) -> None:
        """Delete the files that a rewind has marked, then clear the mark."""
        stored = self.project.record.get("turn")
        if not isinstance(stored, dict) or "thrown" not in stored:
            return
        for number in range(self.rewind_point.frame, self.settings.frames):
            self._frame_path(number).unlink(missing_ok=True)
        for k in range(self.count):
            if k in stored["thrown"]:
                self._picture_path(k).unlink(missing_ok=True)
        self.project.record["turn"] = self.rewind_point._asdict()
        self.project.save()

    @property
    def steerable_fields(self) -> frozenset[str]:
        """Names of the settings that :meth:`steer` can change."""
        return OCTAVE_ZOOM_LIVE_FIELDS

    def steer(self, changes: Mapping[str, Any]) -> None:
        """Change the prompts of pictures that are not begun, in the folder too. UserError for any other setting."""
        if fixed := sorted(set(changes) - self.steerable_fields):
            raise UserError(f"{fixed[0]} can't change in an octave zoom that is begun; only prompts can")
        self.settings = type(self.settings).parse({**self.settings.model_dump(), **changes})
        self.timeline = Timeline(self.settings, self.seed, self.timeline.audio)
        self.project.record["settings"] = self.settings.model_dump(mode="json")
        self.project.save()
        if self._current_job is not None and not self._current_job.position:
            self._current_job = self._create_job()

    def state_dict(self) -> dict[str, Any]:
        """The painted pictures, the state of the current one, and the number of frames written."""
        job = self._current_job.state_dict() if self._current_job else None
        pictures = {k: picture.clone() for k, picture in self.painted.items()}
        return {"pictures": pictures, "job": job, "frames": self.frames_written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; frames that it counts must be in the folder."""
        self.painted = {k: picture.clone() for k, picture in state["pictures"].items()}
        self.frames_written, self._matched = int(state["frames"]), []
        self._current_job = self._create_job() if state["job"] is not None else None
        if self._current_job is not None:
            self._current_job.load_state_dict(state["job"])


def _centre_padding(shape: torch.Size) -> tuple[int, int, int, int]:
    """Padding for F.pad that restores a grid of rows and columns from its central half."""
    (rows, columns), (h, w) = shape, (n // 2 for n in shape)
    top, left = (rows - h) // 2, (columns - w) // 2
    return left, columns - w - left, top, rows - h - top
