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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools import media
from vqtools.animation.animator import GuidedPictureJob, sharpen
from vqtools.animation.camera import Motion, homography, uncovered_mask
from vqtools.animation.project import Project
from vqtools.animation.settings import OCTAVE_ZOOM_LIVE_FIELDS, AnimateSettings
from vqtools.animation.track import Timeline
from vqtools.settings import UserError

InitTransform = Callable[["Image.Image | None"], "Image.Image | None"]
PictureJobFactory = Callable[[str, int, InitTransform], GuidedPictureJob]
"""A prompt, a seed, and what is done with the start (a draft, or None) before guidance -> the job that paints it."""

_MAX_DOUBLINGS = 60  # doublings: 10^18
_MAX_SEAM_CANDIDATES = 24  # neighbours, and beginnings of a loop, that are compared
_SEAM_TOLERANCE = 0.98  # of the usual change: it is measured on a part of the frames, and before they are rounded
_BACK_PROJECTION_ROUNDS = 2  # of giving back
_UPSCALE_SHARPENING = 1.0  # of unsharp masking, for a picture at twice its size
_MASK_FEATHER = 0.35  # of half a side: how softly the middle meets its surroundings


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


def find_loop_offset(settled: Sequence[Tensor], found: Sequence[float]) -> float:
    """How much wider a ring's first frame is to see, in doublings, so that its last is as near to it as neighbours are.

    A loop has no beginning, so it may have one anywhere: where the pictures change no more than is usual, and no
    further away than it takes, at most half a doubling. found: the frames' levels, as :func:`loop_levels` gives them. Half
    a step is always added: a picture whole at its own size, which nothing resamples, would be sharper than all others.
    """
    count, whole = len(found), len(settled)
    step = whole / count

    def change(before: float, after: float) -> float:
        return float(
            (render_level(settled, before % whole, True) - render_level(settled, after % whole, True)).abs().mean()
        )

    pairs = range(0, count - 1, -(-count // _MAX_SEAM_CANDIDATES))
    usual = sorted(change(found[i] + step / 2, found[i + 1] + step / 2) for i in pairs)
    stride = max(1, math.ceil(1 / step / _MAX_SEAM_CANDIDATES))
    places = sorted(((j * stride + 0.5) * step for j in range(-_MAX_SEAM_CANDIDATES, _MAX_SEAM_CANDIDATES)), key=abs)
    calmest, least = step / 2, math.inf
    for place in places:
        if abs(place) > 0.5 and least < math.inf:
            break
        seam = change(found[-1] + place, found[0] + place)
        if usual and seam <= _SEAM_TOLERANCE * usual[len(usual) // 2]:
            return place
        if seam < least:
            calmest, least = place, seam
    return calmest


def close_loop(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Pictures, the innermost first, each holding the one before in its middle, and the first one the last.

    Round after round, until what a round changes is smaller than a pixel.
    """
    ring, side = list(pictures), max(pictures[0].shape[-2:])
    for _ in range(math.ceil((math.log2(side) + 1) / len(ring))):
        for k in range(len(ring)):
            ring[k] = insert_centre(pictures[k], ring[k - 1])
    return ring


def downscale(picture: Tensor) -> Tensor:
    """(1, 3, H, W) at half its size, antialiased; both sides even."""
    height, width = picture.shape[-2:]
    return F.interpolate(picture, size=(height // 2, width // 2), mode="bicubic", antialias=True).clamp(-1, 1)


def centre_mask(height: int, width: int) -> Tensor:
    """(1, 1, H, W): 1 within, falling smoothly to 0 at the border; its corners are round (|x|^4 + |y|^4 = 1)."""
    y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
    radius = (y[:, None] ** 4 + x**4) ** 0.25
    share = ((1 - radius) / _MASK_FEATHER).clamp(0, 1)
    return (share * share * (3 - 2 * share))[None, None]


def insert_centre(outer: Tensor, inner: Tensor) -> Tensor:
    """The outer picture with the inner one, at half its size, in its middle: all (1, 3, H, W)."""
    small = downscale(inner)
    (height, width), (h, w) = outer.shape[-2:], small.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    part = outer[..., top : top + h, left : left + w]
    out = outer.clone()
    out[..., top : top + h, left : left + w] = torch.lerp(part, small, centre_mask(h, w).to(outer))
    return out


def match_rims(pictures: Sequence[Tensor], ring: bool = False) -> list[Tensor]:
    """Pictures, the innermost first, whose rims turn into what the next wider one shows there: no edge is left.

    ring: the first is wider than the last.
    """
    if ring:
        return [
            _match_rim(picture, wider) for picture, wider in zip(pictures, (*pictures[1:], pictures[0]), strict=True)
        ]
    settled = list(pictures)
    for k in range(len(settled) - 2, -1, -1):
        settled[k] = _match_rim(settled[k], settled[k + 1])
    return settled


def _match_rim(inner: Tensor, outer: Tensor) -> Tensor:
    """The inner picture, its rim that of the outer one's middle; at half its size it is that middle.

    What its half still lacks is given back to it (back-projection, Irani and Peleg 1991): the two were blended before,
    when the outer one was made, and blended twice they would part at each doubling.
    """
    met = torch.lerp(upscale_centre(outer, 2.0), inner, centre_mask(*inner.shape[-2:]).to(inner))
    height, width = inner.shape[-2:]
    top, left = (height - height // 2) // 2, (width - width // 2) // 2
    middle = (..., slice(top, top + height // 2), slice(left, left + width // 2))
    held = centre_mask(height // 2, width // 2).to(inner)
    for _ in range(_BACK_PROJECTION_ROUNDS):
        lack = torch.zeros_like(outer)
        lack[middle] = torch.where(held < 1, outer[middle] - downscale(met), 0.0)
        met = (met + zoom_about_centre(lack, 2.0, 2)).clamp(-1, 1)
    return met


def upscale_centre(picture: Tensor, zoom: float) -> Tensor:
    """A picture's middle, sharpened by what enlarging takes: the surroundings must not look like another picture."""
    return sharpen(zoom_about_centre(picture, zoom), _UPSCALE_SHARPENING * (zoom - 1))


def render_level(settled: Sequence[Tensor], level: float, ring: bool = False) -> Tensor:
    """What is seen at a level from 0 to that of the widest picture: (1, 3, H, W) in [-1, 1].

    Each picture's middle is the one before, so that only two are needed. ring: after the widest comes the first again.
    """
    k = min(int(level), len(settled) - 1)
    share, inner = level - k, settled[k]
    if share <= 0 or (k + 1 == len(settled) and not ring):
        return inner
    outer = settled[(k + 1) % len(settled)]
    height, width = inner.shape[-2:]
    smaller = homography(Motion(zoom=2**-share), width, height)
    # a hard edge: there the two show the same
    cover = ~uncovered_mask(smaller, height, width)
    return torch.where(cover, zoom_about_centre(inner, 2**-share), upscale_centre(outer, 2 ** (1 - share)))


def zoom_about_centre(picture: Tensor, zoom: float, most: float = 1) -> Tensor:
    """A picture (1, 3, H, W) seen ``zoom`` times as large, around its middle; what lies outside is its rim.

    Antialiased: at 1 the picture itself, at a half what :func:`downscale` makes, so that nothing sharpens or softens at
    once where one picture hands over to the next.
    """
    rows, columns = (_resampling_weights(side, zoom).to(picture) for side in picture.shape[-2:])
    return (rows @ picture @ columns.T).clamp(-most, most)


def _resampling_weights(side: int, zoom: float) -> Tensor:
    """What each pixel seen takes of those there are, (side, side): Keys' cubic (1981, a = -1/2), wider to shrink."""
    pixels = torch.arange(side, dtype=torch.float64)
    middle = (side - 1) / 2
    seen = ((pixels - middle) / zoom + middle).clamp(0, side - 1)
    x = (seen[:, None] - pixels).abs() * min(1.0, zoom)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


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
        return media.to_tensor(media.load_picture(self._path(k)))

    def _path(self, k: int) -> Path:
        return self.project.folder / "octaves" / f"octave-{k:03d}.png"

    def _frame(self, number: int) -> Path:
        return self.project.frames / f"frame-{number:05d}.png"

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
        found = media.to_tensor(start) if start is not None else rim if inner is None else inner
        assert found is not None
        if rim is not None:
            found = rim if self.ring else torch.lerp(rim, found, centre_mask(*rim.shape[-2:]))
        return media.to_picture(found if inner is None else insert_centre(found, inner))

    def step(self) -> dict[str, float]:
        """A step of the picture under way, or a frame."""
        if self._job is not None:
            scalars = self._job.step()
            self._freeze_joined_codes()
            if self._job.position >= self._job.total:
                self._finish()
            return scalars
        picture = media.to_picture(self.view(self.frames))
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
        picture = media.to_picture(image)
        record = {**self.project.record, "octave": k, "shown": self.prompt(k)}
        media.save_png(self._path(k), picture, record, overwrite=True)
        self.painted[k] = media.to_tensor(picture)
        self._job = self._new()

    def preview(self) -> Image.Image:
        """The picture under way, or the newest frame; of a picture that is not begun, what was there before it."""
        if self._job is None:
            return media.to_picture(self.view(max(0, self.frames - 1)))
        if self._job.position or not self.painted:
            return self._job.preview()
        if self.frames:
            return media.load_picture(self._frame(self.frames - 1))
        return media.to_picture(self.pictures[-1])

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
        kept = media.to_tensor(media.load_picture(self._frame(last)))
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

    def steer(self, changes: Mapping[str, Any]) -> None:
        """Other prompts for the pictures that are not begun, in the folder too. UserError for what can't change."""
        if fixed := sorted(set(changes) - set(OCTAVE_ZOOM_LIVE_FIELDS)):
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
