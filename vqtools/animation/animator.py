"""Animate: each frame is the last one, moved by the camera or as a film moves, then painted a little.

A job: the first picture's steps come first, then every :meth:`Animator.step` makes a frame and writes it to the folder.
The state is saved with each frame, so a run that is killed goes on from the last whole frame with the same bits.
Networks, the first picture and the folder are handed in. Knows pictures and frames; nothing about files' names or text.

Shapes: H and W the picture's sides; pictures are (1, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vqtools.animation.camera import Outpainter
from vqtools.animation.depth import DepthEstimator
from vqtools.animation.frame_motion import CameraWarper, FrameWarper, OpticalFlowWarper
from vqtools.animation.project import VIDEO_FRAMES_FOLDER, Project
from vqtools.animation.settings import STEERABLE_FIELDS, AnimateSettings
from vqtools.animation.timeline import FrameParameters, Timeline
from vqtools.core.errors import UserError
from vqtools.media.colour import lab_statistics, match_colours, sharpen
from vqtools.media.image import from_uint8, load_picture, resize_and_crop, to_tensor, to_uint8
from vqtools.media.video import frame_name
from vqtools.painting.painter import Painter

if TYPE_CHECKING:
    from PIL.Image import Image

_UNBOUNDED_ITERATIONS = 100_000  # iterations: no frame is a painting's last quarter, in which steps are smaller
_MAX_LOOP_OVERLAP = 24  # frames over which the end runs into the beginning
_LOOP_SEAM_BLEND = 0.15  # share of the first frame in a loop's last one: the step over the seam is smaller for it


class GuidedPictureJob(Protocol):
    """The job that paints the first picture. It has a painter once there is something to guide."""

    painter: Painter | None

    @property
    def position(self) -> int: ...

    @property
    def total(self) -> int: ...

    def step(self) -> dict[str, float]: ...

    def preview(self) -> Image: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class PlannedFrame(NamedTuple):
    """One step's work: the painted frame, and how many carried ones come before it (``cadence``)."""

    number: int  # in order of making; a loop makes some before the first that is kept
    between: int
    iterations: int


class Animator:
    """Frames of an animation, one (with those carried between) a step.

    settings: may be changed between steps, as a Painter's. first: paints the first picture. project: where frames and
    states go; one that holds states is gone on with; for ``settings.video`` the film's frames lie in it. outpaint:
    fills what comes in at the sides. see: says how far things are, for the camera among them.
    """

    def __init__(
        self,
        settings: AnimateSettings,
        first: GuidedPictureJob,
        project: Project,
        *,
        seed: int,
        track: Timeline | None = None,
        outpaint: Outpainter | None = None,
        see: DepthEstimator | None = None,
    ) -> None:
        self.seed, self.first, self.project, self.outpaint, self.depth_estimator = seed, first, project, outpaint, see
        self._settings = settings
        self.timeline = track or Timeline(settings, seed)
        self.timeline.check(settings.size)
        self.warper = self._create_warper()
        self.loop_overlap = min(settings.frames // 3, _MAX_LOOP_OVERLAP) if settings.loop else 0
        self.made = 0  # frames, those before the first that is kept included
        self.last: Tensor | None = None  # the newest painted frame (H, W, 3) of uint8, as it was saved
        self.reference_colours: Tensor | None = None  # the first frame's mean and spread (2, 3) in LAB
        self.noise: Tensor | None = None  # (1, 3, H, W)
        self.plan = list(self._plan())
        self._first_total = first.total
        if state := project.load_state():
            self.load_state_dict(state)
        project.trim_log(max(0, self.made - self.loop_overlap))

    @property
    def settings(self) -> AnimateSettings:
        return self._settings

    @settings.setter
    def settings(self, settings: AnimateSettings) -> None:
        """Take other settings from the next frame on; the number of frames and the size stay."""
        fixed = {"size": self._settings.size, "frames": self._settings.frames, "loop": self._settings.loop}
        settings = settings.model_copy(update=fixed)
        track = Timeline(settings, self.seed, self.timeline.sound)
        track.check(settings.size)
        self._settings, self.timeline = settings, track
        self.warper = self._create_warper()
        self.plan = list(self._plan())

    def rewind(self, frames: int) -> int:
        """Throw the last frames away and stand where they began, to take another path; how many frames are left.

        UserError where no state is kept so far back: the last sixty frames and every thirtieth before have one.
        """
        positions = self.project.positions()
        if not any(position <= self.made - frames for position in positions):
            most = self.made - min(positions, default=self.made)
            raise UserError(f"{frames} frames can't be thrown away; at most {most} can, or start anew")
        self.project.rewind(frames)
        state = self.project.load_state()
        assert state is not None
        self.load_state_dict(state)
        self.project.trim_log(self.done)
        return self.done

    @property
    def steerable_fields(self) -> frozenset[str]:
        """Names of the settings that :meth:`steer` can change."""
        return STEERABLE_FIELDS

    def steer(self, changes: Mapping[str, Any]) -> None:
        """Change settings from the next frame on, in the folder too, so that a resumed run has them."""
        self.settings = type(self.settings).parse({**self.settings.model_dump(), **changes})
        self.project.record["settings"] = self.settings.model_dump(mode="json")
        self.project.save()

    def _create_warper(self) -> FrameWarper:
        s, track = self.settings, self.timeline
        if s.video:
            return OpticalFlowWarper(self.project.folder / VIDEO_FRAMES_FOLDER, s.anchor)
        border: Any = "wrap" if s.seamless else "reflect" if s.border == "outpaint" else s.border
        return CameraWarper(lambda time: track(time).motion, s.size, border, self.outpaint, self.depth_estimator)

    def _plan(self) -> Iterator[PlannedFrame]:
        """The steps: the first frame is the first picture, then every nth is painted, and the last."""
        count, cadence = self.settings.frames + self.loop_overlap, self.settings.cadence
        previous = -1
        while previous < count - 1:
            number = 0 if previous < 0 else min(previous + cadence, count - 1)
            iterations = self.timeline(self._curve_frame(number)).iterations if number else 0
            yield PlannedFrame(number, number - previous - 1, iterations)
            previous = number

    def _curve_frame(self, number: int) -> int:
        """The frame as curves count it: those made before the first that is kept are the end of the round before."""
        return (number - self.loop_overlap) % self.settings.frames

    @property
    def position(self) -> int:
        """Steps of guidance done, each frame counted as at least one: so that they take about equal time."""
        if not self.made:
            return min(self.first.position, self._first_total)
        return self._first_total + sum(max(1, frame.iterations) for frame in self.plan if frame.number < self.made)

    @property
    def total(self) -> int:
        return self._first_total + sum(max(1, frame.iterations) for frame in self.plan)

    @property
    def done(self) -> int:
        """Frames that are kept so far."""
        return max(0, self.made - self.loop_overlap)

    def step(self) -> dict[str, float]:
        """A step of the first picture, or a whole frame, written to the folder with its state."""
        if not self.made and self.first.position < self.first.total:
            return self.first.step()
        started = time.monotonic()
        frame = next(frame for frame in self.plan if frame.number >= self.made)
        scalars, picture = self._paint(frame)
        self._keep(frame, picture)
        self.made = frame.number + 1
        self.project.save_state(self.made, self.state_dict())
        if self.done:
            row = {"iterations": frame.iterations, "loss": scalars.get("loss", 0.0)}
            self.project.log(self.done - 1, {**row, "seconds": time.monotonic() - started})
        return {"frame": float(self.done)}

    def _paint(self, frame: PlannedFrame) -> tuple[dict[str, float], Tensor]:
        """The frame's picture, and the last step's scalars."""
        painter = self._painter()
        if not frame.number:
            picture = self._first_frame(painter)
            self.reference_colours = lab_statistics(picture)
            return {}, picture
        time = self._curve_frame(frame.number)
        times = self._curve_frames(frame.number - frame.between - 1, frame.number)
        moved = self._moved(frame, self.timeline(time), times)
        self._begin(painter, moved, times)
        painter.settings = self._painter_settings(painter, self.timeline.prompt(time))
        if self.settings.seed_behavior != "run":
            extra = time if self.settings.seed_behavior == "iter" else 0
            painter.generator.manual_seed((self.seed + extra) % 2**63)
        scalars: dict[str, float] = {}
        for _ in range(frame.iterations):
            scalars = painter.step()
        picture = torch.lerp(painter.image()[None], moved.cpu(), self.settings.hold)
        return scalars, picture

    def _first_frame(self, painter: Painter) -> Tensor:
        picture = painter.image()[None]
        if (film := self.warper.anchor(0)) is None:
            return picture
        # as near to the film as the frames after it will be: the look must not change in the first second
        return torch.lerp(picture, film, self.settings.anchor)

    def _painter(self) -> Painter:
        assert self.first.painter is not None, "the first picture's painter is there when its steps are done"
        return self.first.painter

    def _painter_settings(self, painter: Painter, prompt: str) -> Any:
        s = self.settings
        return painter.settings.model_copy(
            update={
                **{name: getattr(s, name) for name in type(painter.settings).model_fields if name != "seed"},
                "prompt": prompt, "iterations": _UNBOUNDED_ITERATIONS, "learning_rate": s.frame_learning_rate,
            }
        )  # fmt: skip

    def _curve_frames(self, begin: int, end: int) -> list[int]:
        """The frames on the way from one to another, as curves count them, the last included."""
        return [self._curve_frame(number) for number in range(begin + 1, end + 1)]

    def _moved(self, frame: PlannedFrame, moment: FrameParameters, times: list[int]) -> Tensor:
        """Where the frame's painting begins: the last one moved; its colours, noise and edges seen to."""
        settings, device = self.settings, self._painter().machine.device
        if (path := self.timeline.pictures.get(times[-1])) is not None:
            return to_tensor(resize_and_crop(load_picture(path), settings.size)).to(device)
        assert self.last is not None
        moved = self.warper.picture(_image_of(self.last).to(device), times)
        if settings.color_coherence == "LAB" and self.reference_colours is not None:
            moved = match_colours(moved, self.reference_colours.to(device))
        if moment.antiblur:
            # what stays is sharpened again with the next frame: more than this would grow without end
            most = 0.8 / settings.hold - 1 if settings.hold else math.inf
            moved = sharpen(moved, max(0.0, min(moment.antiblur, most)), settings.seamless)
        if self.noise is not None:
            self.noise = self.warper.noise(self.noise, times)
        if moment.noise:
            moved = (moved + moment.noise * self._world_noise().to(device)).clamp(-1, 1)
        return moved

    def _world_noise(self) -> Tensor:
        """Noise that belongs to the world: drawn once, moved along from then on."""
        if self.noise is None:
            width, height = self.settings.size
            self.noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(self.seed))
        return self.noise

    @torch.no_grad()
    def _begin(self, painter: Painter, moved: Tensor, times: list[int]) -> None:
        """Hand the painter the moved picture's latents; Adam's memory moves along."""
        before = painter.state_dict()
        state = self.warper.state(before, times, painter.vqgan.f)
        if not self.settings.carry:
            state["adam"] = {}
        fresh = times[-1] in self.timeline.pictures
        latents = state["latents"] if self.settings.moves == "latents" and not fresh else self._latents(painter, moved)
        anchor = self.warper.anchor(times[-1]) if self.settings.init_weight else None
        start = latents if anchor is None else self._latents(painter, anchor.to(moved))
        # far from the painter's first steps, in which the average is short, and from its limit
        position = min(before["position"], 1000)
        painter.load_state_dict({**state, "latents": latents, "average": latents, "start": start, "position": position})

    def _latents(self, painter: Painter, image: Tensor) -> Tensor:
        """A picture's latents, on the CPU; those of a seamless one as if it went on at its edges."""
        f, vqgan = painter.vqgan.f, painter.vqgan
        margin = 4 if self.settings.seamless else 0  # cells
        if margin:
            rows, columns = (_wrapped_indices(side, margin * f).to(image.device) for side in image.shape[-2:])
            image = image[:, :, rows][:, :, :, columns]
        with painter.machine.autocast():
            codes = vqgan.encode(image)
            inner = codes[:, margin : codes.shape[1] - margin, margin : codes.shape[2] - margin]
            return vqgan.codes_to_latents(inner).float().cpu()

    def _keep(self, frame: PlannedFrame, picture: Tensor) -> None:
        """Write the frame and those between it and the one before."""
        now = _pixels_of(picture)
        before = self.last
        for step in range(1, frame.between + 1):
            number = frame.number - frame.between - 1 + step
            assert before is not None
            self._save(number, self._interpolated_frame(before, now, number, frame))
        self._save(frame.number, now)
        self.last = now

    def _interpolated_frame(self, before: Tensor, after: Tensor, number: int, frame: PlannedFrame) -> Tensor:
        """A frame that is not painted: both its neighbours carried to it, and blended."""
        begin = frame.number - frame.between - 1
        times = self._curve_frames(begin, frame.number)
        return _pixels_of(self.warper.between(_image_of(before), _image_of(after), times, number - begin))

    def _save(self, number: int, pixels: Tensor) -> None:
        kept = number - self.loop_overlap
        about: dict[str, Any] = {"shown": self.timeline.prompt(self._curve_frame(number))}
        if not self.settings.video:
            about["motion"] = self.timeline(self._curve_frame(number)).motion._asdict()
        if kept < 0:
            self.project.save_frame(number, _uint8_to_pil(pixels), about, "lead")
            return
        tail = kept - (self.settings.frames - self.loop_overlap)
        if self.loop_overlap and tail >= 0:  # the end turns into what led to the beginning
            lead = load_picture(self.project.folder / "lead" / frame_name(tail))
            share = (tail + 1) / (self.loop_overlap + 1)
            mixed = torch.lerp(_image_of(pixels), to_tensor(lead), share * share * (3 - 2 * share))
            pixels = _pixels_of(mixed)
        if self.settings.clarity:
            pixels = _pixels_of(sharpen(_image_of(pixels), self.settings.clarity, self.settings.seamless))
        if self.loop_overlap and kept == self.settings.frames - 1:
            first = load_picture(self.project.frames / frame_name(0))
            pixels = _pixels_of(torch.lerp(_image_of(pixels), to_tensor(first), _LOOP_SEAM_BLEND))
        self.project.save_frame(kept, _uint8_to_pil(pixels), about)

    def preview(self) -> Image:
        """The newest frame, or the first picture as it stands."""
        return self.first.preview() if self.last is None else _uint8_to_pil(self.last)

    def state_dict(self) -> dict[str, Any]:
        """All that the next frames depend on, beside settings, networks, and a loop's frames in the folder."""
        if not self.made:
            return {"made": 0, "first": self.first.state_dict()}
        return {
            "made": self.made,
            "painter": self._painter().state_dict(),
            "last": self.last,
            "colours": self.reference_colours,
            "noise": self.noise,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state with the same bits; the frames after it will be made again."""
        self.made = int(state["made"])
        if not self.made:
            self.first.load_state_dict(state["first"])
            self.last = self.reference_colours = self.noise = None
            return
        self.first.load_state_dict({"sampler": None, "painter": state["painter"]})
        self.last, self.reference_colours, self.noise = state["last"], state["colours"], state["noise"]


def _pixels_of(image: Tensor) -> Tensor:
    """An image (1, 3, H, W) in [-1, 1] as uint8 pixels (H, W, 3) on the CPU."""
    return to_uint8(image)[0]


def _image_of(pixels: Tensor) -> Tensor:
    """Pixels (H, W, 3) of uint8 as an image (1, 3, H, W) in [-1, 1]."""
    return from_uint8(pixels)[None]


def _uint8_to_pil(pixels: Tensor) -> Image:
    from PIL import Image

    return Image.fromarray(pixels.numpy())


def _wrapped_indices(side: int, margin: int) -> Tensor:
    """Indices of a row that goes on at both ends where it began."""
    return torch.arange(-margin, side + margin) % side
