"""The endless zoom that does not flicker: one picture a doubling, every frame resampled from two of them.

Pictures are painted from the inside out. Each one's middle is the picture before, at half its size; the surroundings
are new. A frame shows a part of the wider picture and, over its middle, the finer one: no frame is ever painted, so
none can flicker or drift. Networks are handed in. Knows pictures and levels; nothing about curves' text or video files.

A *level* is the width that is seen, in doublings: picture k whole at level k.

Frames that are thrown away take with them the pictures that no frame before them needs: narrower ones where the zoom
goes in, wider ones where it goes out. What is painted in their place is joined to those that stay, whose files and
frames are never touched; what the last frame that stays shows otherwise is carried on by the zoom while it fades.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools.animation.animator import GuidedPictureJob
from vqtools.animation.octave_pyramid import (
    centre_mask,
    close_loop,
    find_loop_offset,
    insert_centre,
    match_rims,
    render_level,
    upscale_centre,
    zoom_about_centre,
)
from vqtools.animation.project import Project
from vqtools.animation.settings import OCTAVE_ZOOM_LIVE_FIELDS, AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, to_picture, to_tensor
from vqtools.media.png_record import save_png
from vqtools.media.video import frame_name

InitTransform = Callable[["Image.Image | None"], "Image.Image | None"]
PictureJobFactory = Callable[[str, int, InitTransform], GuidedPictureJob]
"""A prompt, a seed, and what is done with the start (a draft, or None) before guidance -> the job that paints it."""

_MAX_DOUBLINGS = 60  # doublings: 10^18


class RewindPoint(NamedTuple):
    """Where another path was taken: from this frame on, and from which picture on those before the turn are kept."""

    frame: int = 0
    inner: int = 0  # 0: no narrower picture was thrown away


def zoom_levels(track: Timeline, frames: int) -> list[float]:
    """The level that each frame shows: where the zoom curve leads, the smallest 0.

    zoom above 1 goes in, to ever smaller levels; below 1 out.
    """
    level, found = 0.0, [0.0]
    for frame in range(1, frames):
        zoom = track(frame).motion.zoom
        if not zoom > 0:
            raise UserError(f"frame {frame}: zoom {zoom:g}: must be more than 0")
        level -= math.log2(zoom)
        found.append(level)
    if max(found) - min(found) > _MAX_DOUBLINGS:
        raise UserError(
            f"the zoom goes over {max(found) - min(found):.0f} doublings; at most {_MAX_DOUBLINGS} are painted"
        )
    return [level - min(found) for level in found]


def loop_levels(found: list[float]) -> list[float]:
    """Levels, the frame after the last included, stretched to whole doublings: what is seen then is the first again.

    Returns the levels of the frames alone, each from 0 to the number of doublings, that one left out.
    """
    way = found[-1] - found[0]
    whole = max(1, round(abs(way)))
    if abs(way) < 1e-9:
        raise UserError("octave_zoom and loop: the zoom comes to where it began; let it go in, or out")
    return [(level - found[0]) * whole / abs(way) % whole for level in found[:-1]]


def _centre_padding(shape: torch.Size) -> tuple[int, int, int, int]:
    """What is added to half of a grid of rows and columns to make it whole again, as F.pad takes it."""
    (rows, columns), (h, w) = shape, (n // 2 for n in shape)
    top, left = (rows - h) // 2, (columns - w) // 2
    return left, columns - w - left, top, rows - h - top


class OctaveZoom:
    """An octave zoom as a job: the pictures' steps of guidance, then one step a frame.

    begin: paints a picture (see :data:`PictureJobFactory`). Pictures that the folder holds already are not painted again.
    """

    def __init__(
        self,
        settings: AnimateSettings,
        begin: PictureJobFactory,
        project: Project,
        *,
        seed: int,
        track: Timeline | None = None,
    ) -> None:
        width, height = settings.size
        if width % 2 or height % 2:
            raise UserError(f"size {width}x{height}: an octave zoom halves it, so both sides must be even")
        self.settings, self.begin, self.project, self.seed = settings, begin, project, seed
        self.timeline = track or Timeline(settings, seed)
        self.ring = settings.loop
        if self.ring:
            whole = zoom_levels(self.timeline, settings.frames + 1)
            self.levels = loop_levels(whole)
            self.count = max(1, round(abs(whole[-1] - whole[0]))) + 1  # the first again, around the last
        else:
            self.levels = zoom_levels(self.timeline, settings.frames)
            self.count = math.ceil(max(self.levels) - 1e-9) + 1  # pictures
        self.rewind_point = self._load_rewind_point()
        self._delete_discarded()  # what a rewinding that was cut short has left
        self.painted = {k: self._load_picture(k) for k in range(self.count) if self._path(k).is_file()}
        if not self.rewind_point.inner:  # each is painted around the one before
            self.painted = {k: one for k, one in self.painted.items() if all(j in self.painted for j in range(k))}
        self._matched: list[Tensor] = []
        self._loop_offset = 0.0  # the first frame of a ring, in doublings
        self.frames = 0  # written
        self._job = self._new()
        self.steps = self._job.total if self._job else 1  # of one picture; all have as many
        most = settings.frames if self._job is None else self.rewind_point.frame
        while self.frames < most and self._frame(self.frames).is_file():
            self.frames += 1

    @property
    def pictures(self) -> list[Tensor]:
        """Those that are painted, the innermost first."""
        return [self.painted[k] for k in sorted(self.painted)]

    def _load_picture(self, k: int) -> Tensor:
        return to_tensor(load_picture(self._path(k)))

    def _path(self, k: int) -> Path:
        return self.project.folder / "octaves" / f"octave-{k:03d}.png"

    def _frame(self, number: int) -> Path:
        return self.project.frames / frame_name(number)

    @property
    def position(self) -> int:
        """Steps of guidance of all pictures, then frames."""
        under_way = min(self._job.position, self.steps) if self._job else 0
        return len(self.painted) * self.steps + under_way + self.frames

    @property
    def total(self) -> int:
        return self.count * self.steps + self.settings.frames

    @property
    def done(self) -> int:
        """Frames written so far."""
        return self.frames

    def prompt(self, k: int) -> str:
        """What picture k shows: the scenes in the order they come to be seen, or what is asked for at that frame."""
        inwards = (
            self.timeline(min(1, self.timeline.last)).motion.zoom > 1 if self.ring else self.levels[-1] < self.levels[0]
        )
        if len(self.timeline.scenes.scene_prompts) > 1:
            order = self.count - 1 - k if inwards else k
            order %= self.count - self.ring
            return self.timeline.scenes.scene_prompts[order % len(self.timeline.scenes.scene_prompts)]
        level = k % (self.count - self.ring)
        nearest = min(range(len(self.levels)), key=lambda frame: abs(self.levels[frame] - level))
        return self.timeline.prompt(nearest)

    @property
    def _current_index(self) -> int:
        """The innermost picture that is not painted."""
        return next(k for k in range(self.count + 1) if k not in self.painted)

    @property
    def _outer_rim(self) -> Tensor | None:
        """What the picture under way shows around its new content, where it is the last that is missing there.

        Of a ring's last the first again; of one within a picture that stayed, what that one shows.
        """
        k = self._current_index
        if self.ring and k == self.count - 1:
            return self.painted[0]
        return upscale_centre(self.painted[k + 1], 2.0) if k + 1 in self.painted else None

    def _new(self) -> GuidedPictureJob | None:
        k = self._current_index
        if k == self.count:
            return None
        return self.begin(self.prompt(k), (self.seed + k) % 2**63, self._compose_init)

    def _compose_init(self, start: Image.Image | None) -> Image.Image | None:
        """A picture's start: a draft, or the picture before at its full size, with the picture before in its middle."""
        inner, rim = self.painted.get(self._current_index - 1), self._outer_rim
        if inner is None and rim is None:
            return start
        found = to_tensor(start) if start is not None else rim if inner is None else inner
        assert found is not None
        if rim is not None:
            found = rim if self.ring else torch.lerp(rim, found, centre_mask(*rim.shape[-2:]))
        return to_picture(found if inner is None else insert_centre(found, inner))

    def step(self) -> dict[str, float]:
        """A step of the picture under way, or a frame."""
        if self._job is not None:
            scalars = self._job.step()
            self._freeze_joined_codes()
            if self._job.position >= self._job.total:
                self._finish()
            return scalars
        picture = to_picture(self.view(self.frames))
        self.project.save_frame(self.frames, picture, {"level": self._level(self.frames)})
        self.frames += 1
        return {"frame": float(self.frames)}

    def _freeze_joined_codes(self) -> None:
        """Hold the middle's codes to those of the picture before: guidance moves the surroundings alone."""
        painter, within = self._job.painter if self._job else None, self._current_index - 1 in self.painted
        joined = self._outer_rim is not None
        if painter is None or not (within or joined):
            return
        state = painter.state_dict()
        held = torch.zeros(1, 1, *state["start"].shape[-2:], dtype=torch.bool)
        if within:  # where the mask is less than whole, the surroundings grow onto the middle
            held = F.pad(centre_mask(*(n // 2 for n in held.shape[-2:])) >= 0.9, _centre_padding(held.shape[-2:]))
        if joined:  # its rim is what the next wider picture has grown onto
            held = held | (centre_mask(*held.shape[-2:]) < 0.9)
        for name in ("latents", "average"):
            state[name] = torch.where(held, state["start"], state[name])
        painter.load_state_dict(state)

    def _finish(self) -> None:
        assert self._job is not None and self._job.painter is not None
        image, k = self._job.painter.image()[None], self._current_index
        if k - 1 in self.painted:
            image = insert_centre(image, self.painted[k - 1])
        picture = to_picture(image)
        record = {**self.project.record, "octave": k, "shown": self.prompt(k)}
        save_png(self._path(k), picture, record, overwrite=True)
        self.painted[k] = to_tensor(picture)
        self._job = self._new()

    def preview(self) -> Image.Image:
        """The picture under way, or the newest frame; of a picture that is not begun, what was there before it."""
        if self._job is None:
            return to_picture(self.view(max(0, self.frames - 1)))
        if self._job.position or not self.painted:
            return self._job.preview()
        if self.frames:
            return load_picture(self._frame(self.frames - 1))
        return to_picture(self.pictures[-1])

    def view(self, frame: int) -> Tensor:
        """A frame (1, 3, H, W) in [-1, 1], once all pictures are painted."""
        if len(self._matched) != self.count - self.ring:
            shown = self.pictures
            if self.ring:
                self._matched = match_rims(close_loop([shown[-1], *shown[1:-1]]), True)
                self._loop_offset = find_loop_offset(self._matched, self.levels)
            else:
                for k in range(
                    self.rewind_point.inner, self.count if self.rewind_point.inner else 0
                ):  # others are in their middles now
                    shown[k] = insert_centre(shown[k], shown[k - 1])
                self._matched = match_rims(shown)
        seen = render_level(self._matched, self._level(frame), self.ring)
        passed = (frame - self.rewind_point.frame + 1) / (self.settings.crossfade + 1)
        if not 0 < self.rewind_point.frame <= frame or passed >= 1:
            return seen
        last = self.rewind_point.frame - 1  # of those that stayed
        zoom, before = 2 ** (self.levels[last] - self.levels[frame]), render_level(self._matched, self.levels[last])
        kept = to_tensor(load_picture(self._frame(last)))
        lack = zoom_about_centre(kept - before, zoom, 2)
        if zoom > 1:  # what is finer than the last frame could show is another picture's where much is lacking
            other = F.max_pool2d(lack.abs().amax(1, keepdim=True), 3, 1, 1).clamp(max=1)
            lack = lack - other * (seen - zoom_about_centre(before, zoom))
        return (seen + (1 - passed * passed * (3 - 2 * passed)) * lack).clamp(-1, 1)

    def _level(self, frame: int) -> float:
        return (self.levels[frame] + self._loop_offset) % (self.count - 1) if self.ring else self.levels[frame]

    # Another path.

    def _load_rewind_point(self) -> RewindPoint:
        told = self.project.record.get("turn")
        found = (
            RewindPoint(*(told.get(name, 0) for name in RewindPoint._fields))
            if isinstance(told, dict)
            else RewindPoint()
        )
        whole = all(type(value) is int and value >= 0 for value in found)
        fits = whole and found.frame <= self.settings.frames and found.inner < self.count
        return found if fits and not self.ring else RewindPoint()

    def rewind(self, frames: int) -> int:
        """Throw the last frames away, and the pictures that they alone need; how many frames are left.

        Takes hold in the folder at once: a run that is killed meanwhile finishes it when it goes on.
        """
        if self.ring:
            raise UserError("the end of a loop leads to its beginning: there is no frame to take another path from")
        if frames > self.frames:
            raise UserError(f"{frames} frames can't be thrown away: {self.frames} are there")
        left = self.frames - frames
        kept = self.levels[:left]
        first, last = (math.floor(min(kept) + 1e-9), math.ceil(max(kept) - 1e-9)) if kept else (self.count, 0)
        thrown = [k for k in sorted(self.painted) if not first <= k <= last]
        inner = first if first and kept else self.rewind_point.inner if kept else 0
        self.rewind_point = RewindPoint(left, inner)
        self.project.record["turn"] = {**self.rewind_point._asdict(), "thrown": thrown}
        self.project.save()
        self._delete_discarded()
        self.painted = {k: one for k, one in self.painted.items() if k not in thrown}
        self.frames, self._matched, self._job = left, [], self._new()
        self.steps = self._job.total if self._job else self.steps
        return left

    def _delete_discarded(self) -> None:
        """Take away what another path begins without."""
        told = self.project.record.get("turn")
        if not isinstance(told, dict) or "thrown" not in told:
            return
        for number in range(self.rewind_point.frame, self.settings.frames):
            self._frame(number).unlink(missing_ok=True)
        for k in range(self.count):
            if k in told["thrown"]:
                self._path(k).unlink(missing_ok=True)
        self.project.record["turn"] = self.rewind_point._asdict()
        self.project.save()

    @property
    def steerable_fields(self) -> frozenset[str]:
        """Names of the settings that :meth:`steer` can change."""
        return OCTAVE_ZOOM_LIVE_FIELDS

    def steer(self, changes: Mapping[str, Any]) -> None:
        """Other prompts for the pictures that are not begun, in the folder too. UserError for what can't change."""
        if fixed := sorted(set(changes) - OCTAVE_ZOOM_LIVE_FIELDS):
            raise UserError(f"{fixed[0]} can't change in an octave zoom that is begun; prompts can")
        self.settings = type(self.settings).parse({**self.settings.model_dump(), **changes})
        self.timeline = Timeline(self.settings, self.seed, self.timeline.sound)
        self.project.record["settings"] = self.settings.model_dump(mode="json")
        self.project.save()
        if self._job is not None and not self._job.position:
            self._job = self._new()

    def state_dict(self) -> dict[str, Any]:
        """The pictures so far, the one under way, and how many frames are written."""
        job = self._job.state_dict() if self._job else None
        return {"pictures": {k: one.clone() for k, one in self.painted.items()}, "job": job, "frames": self.frames}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.painted, self.frames = {k: one.clone() for k, one in state["pictures"].items()}, int(state["frames"])
        self._matched = []
        self._job = self._new() if state["job"] is not None else None
        if self._job is not None:
            self._job.load_state_dict(state["job"])
