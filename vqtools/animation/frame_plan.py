"""The order in which frames are made: which are painted, which are interpolated, and a loop's lead-in.

Knows settings and frame numbers; nothing about images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vqtools.animation.settings import AnimateSettings
from vqtools.animation.timeline import Timeline

_MAX_LOOP_OVERLAP = 24  # frames over which the end of a loop is cross-faded with its lead-in


class PlannedFrame(NamedTuple):
    """One step of an animation: a painted frame, and the frames before it that are interpolated (``cadence``)."""

    number: int  # in order of making: a loop starts with lead-in frames that are not part of the video
    skipped: int  # frames between the painted one before and this one
    iterations: int

    @property
    def previous(self) -> int:
        """The number of the painted frame before."""
        return self.number - self.skipped - 1


class FramePlan:
    """The painted frames of an animation in order.

    A loop makes ``loop_overlap`` lead-in frames before its first frame. They continue the curves of its last frames, so
    that the end can be cross-faded with them.
    """

    def __init__(self, settings: AnimateSettings, timeline: Timeline) -> None:
        self.frame_count = settings.frames
        self.loop_overlap = min(settings.frames // 3, _MAX_LOOP_OVERLAP) if settings.loop else 0
        self.frames = list(self._plan(settings.cadence, timeline))

    def _plan(self, cadence: int, timeline: Timeline) -> Iterator[PlannedFrame]:
        """The first frame is the first picture; then every ``cadence``-th frame is painted, and the last one."""
        count = self.frame_count + self.loop_overlap
        previous = -1
        while previous < count - 1:
            number = 0 if previous < 0 else min(previous + cadence, count - 1)
            iterations = timeline(self.curve_frame(number)).iterations if number else 0
            yield PlannedFrame(number, number - previous - 1, iterations)
            previous = number

    def curve_frame(self, number: int) -> int:
        """The frame number that curves use: lead-in frames count as the end of the round before."""
        return (number - self.loop_overlap) % self.frame_count

    def curve_frames(self, begin: int, end: int) -> list[int]:
        """The frame numbers that curves use for the frames after ``begin``, up to and including ``end``."""
        return [self.curve_frame(number) for number in range(begin + 1, end + 1)]

    def work(self, frames_made: int | None = None) -> int:
        """Guidance steps of the first ``frames_made`` frames, or of all; a frame counts as at least one step."""
        return sum(
            max(1, frame.iterations) for frame in self.frames if frames_made is None or frame.number < frames_made
        )

    def remaining(self, frames_made: int) -> list[PlannedFrame]:
        """The painted frames that are still to be made."""
        return [frame for frame in self.frames if frame.number >= frames_made]
