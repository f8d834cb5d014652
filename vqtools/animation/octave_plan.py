"""Which picture each frame of an octave zoom shows: the frames' levels, the number of pictures, a prompt for each.

A *level* is the width of the view in doublings: picture k fills the frame at level k. Knows curves and numbers; nothing
about images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vqtools.animation.settings import AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.core.errors import UserError

_MAX_DOUBLINGS = 60  # a magnification of 10^18


class RewindPoint(NamedTuple):
    """Where frames were removed to take another path: its first frame, and the innermost picture that was kept."""

    frame: int = 0
    inner: int = 0  # 0: no narrower picture was removed

    @classmethod
    def from_record(cls, record: Mapping[str, Any], frames: int, pictures: int) -> RewindPoint:
        """The rewind point that a folder's record states; the default if it states none that is valid."""
        stored = record.get("turn")
        if not isinstance(stored, dict):
            return cls()
        point = cls(*(stored.get(name, 0) for name in cls._fields))
        valid = all(type(value) is int and value >= 0 for value in point)
        return point if valid and point.frame <= frames and point.inner < pictures else cls()


def zoom_levels(timeline: Timeline, frames: int) -> list[float]:
    """The level that each frame shows, following the zoom curve; the smallest level is 0.

    zoom above 1 moves in, to smaller levels; below 1 moves out. UserError if the zoom is not positive or spans more
    than 60 doublings.
    """
    level, levels = 0.0, [0.0]
    for frame in range(1, frames):
        zoom = timeline(frame).motion.zoom
        if not zoom > 0:
            raise UserError(f"frame {frame}: zoom {zoom:g}: must be more than 0")
        level -= math.log2(zoom)
        levels.append(level)
    span = max(levels) - min(levels)
    if span > _MAX_DOUBLINGS:
        raise UserError(f"the zoom spans {span:.0f} doublings; at most {_MAX_DOUBLINGS} can be painted")
    return [level - min(levels) for level in levels]


def loop_levels(levels: list[float]) -> list[float]:
    """Stretch the levels of a loop to whole doublings, so that the frame after the last shows the first one again.

    levels: of all frames and of the frame after the last. Returns those of the frames alone, each at least 0 and less
    than the number of doublings.
    """
    span = levels[-1] - levels[0]
    doublings = max(1, round(abs(span)))
    if abs(span) < 1e-9:
        raise UserError("octave_zoom and loop: the zoom ends where it began; make the curve zoom in, or out")
    return [(level - levels[0]) * doublings / abs(span) % doublings for level in levels[:-1]]


class OctavePlan:
    """The frames' levels and the number of pictures. A loop has its innermost picture again around the outermost."""

    def __init__(self, settings: AnimateSettings, timeline: Timeline) -> None:
        self.loop = settings.loop
        if self.loop:
            whole = zoom_levels(timeline, settings.frames + 1)
            self.levels = loop_levels(whole)
            self.count = max(1, round(abs(whole[-1] - whole[0]))) + 1  # the innermost picture counts twice
        else:
            self.levels = zoom_levels(timeline, settings.frames)
            self.count = math.ceil(max(self.levels) - 1e-9) + 1

    @property
    def distinct(self) -> int:
        """The number of pictures, a loop's repeated one counted once."""
        return self.count - self.loop

    def pictures_of(self, frames: int) -> range:
        """The pictures that the first ``frames`` frames of a zoom without loop show."""
        levels = self.levels[:frames]
        if not levels:
            return range(0)
        return range(math.floor(min(levels) + 1e-9), math.ceil(max(levels) - 1e-9) + 1)

    def prompt(self, k: int, timeline: Timeline) -> str:
        """The prompt of picture k: scenes in the order in which they come into view, or the prompt of its frame."""
        scenes = timeline.prompt_schedule.scene_prompts
        if len(scenes) > 1:
            order = self.count - 1 - k if self._zooms_in(timeline) else k
            return scenes[order % self.distinct % len(scenes)]
        level = k % self.distinct
        nearest = min(range(len(self.levels)), key=lambda frame: abs(self.levels[frame] - level))
        return timeline.prompt(nearest)

    def _zooms_in(self, timeline: Timeline) -> bool:
        if self.loop:
            return timeline(min(1, timeline.last_frame)).motion.zoom > 1
        return self.levels[-1] < self.levels[0]
