"""Frame-by-frame animation: each frame is the one before, warped by a camera or a video's motion and painted a little.

A job: the steps of the first picture come first, then every :meth:`Animator.step` makes a painted frame and writes it
to the folder. The state is saved with each frame, so that a run that was killed continues from the last complete frame
with the same bits. Networks, the first picture's job and the folder are arguments. Knows images and frames; nothing
about names of networks or how curves are written.

Shapes: H and W are an image's height and width; images are (1, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from vqtools.animation.camera import Border, Outpainter
from vqtools.animation.depth import DepthEstimator
from vqtools.animation.frame_motion import CameraWarper, FrameWarper, OpticalFlowWarper
from vqtools.animation.frame_plan import FramePlan, PlannedFrame
from vqtools.animation.frame_writer import FrameWriter, image_to_pixels, pixels_to_image
from vqtools.animation.project import VIDEO_FRAMES_FOLDER, Project
from vqtools.animation.settings import STEERABLE_FIELDS, AnimateSettings
from vqtools.animation.timeline import FrameParameters, Timeline
from vqtools.core.errors import UserError
from vqtools.media.colour import lab_statistics, match_colours, sharpen
from vqtools.media.image import load_picture, resize_and_crop, to_tensor
from vqtools.painting.painter import Painter

if TYPE_CHECKING:
    from PIL.Image import Image

_UNBOUNDED_ITERATIONS = 100_000  # so large that no frame reaches a painting's last quarter, in which steps are smaller
_SEAMLESS_MARGIN = 4  # cells around a seamless picture that is encoded: more than the encoder's kernels reach


class GuidedPictureJob(Protocol):
    """The job that paints a picture. It has a painter once there is something to guide."""

    painter: Painter | None

    @property
    def position(self) -> int:
        """Steps done."""
        ...

    @property
    def total(self) -> int:
        """Steps in total."""
        ...

    def step(self) -> dict[str, float]:
        """Do one step and report its scalars."""
        ...

    def preview(self) -> Image:
        """The picture as it is now."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The complete state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        ...


class Animator:
    """An animation as a job: each step makes one painted frame, and the interpolated ones before it.

    settings: can be replaced between steps. first: paints the first picture. project: the folder of frames and states;
    if it holds states, the newest one is loaded. For ``settings.video`` it also holds the video's frames. outpaint:
    fills what enters at the borders. depth_estimator: distances of pixels, for camera motion with parallax.
    """

    def __init__(
        self,
        settings: AnimateSettings,
        first: GuidedPictureJob,
        project: Project,
        *,
        seed: int,
        timeline: Timeline | None = None,
        outpaint: Outpainter | None = None,
        depth_estimator: DepthEstimator | None = None,
    ) -> None:
        self.seed, self.first, self.project = seed, first, project
        self.outpaint, self.depth_estimator = outpaint, depth_estimator
        self._use(settings, timeline or Timeline(settings, seed))
        self.frames_made = 0  # a loop's lead-in frames included
        self.last: Tensor | None = None  # the newest painted frame (H, W, 3) of uint8, as it was saved
        self.reference_colours: Tensor | None = None  # mean and standard deviation (2, 3) of the first frame in LAB
        self.noise: Tensor | None = None  # (1, 3, H, W)
        self._first_total = first.total
        if state := project.load_state():
            self.load_state_dict(state)
        project.trim_log(self.done)

    def _use(self, settings: AnimateSettings, timeline: Timeline) -> None:
        """Build what depends on the settings. UserError for a frame whose numbers make no picture."""
        timeline.check(settings.size)
        self._settings, self.timeline = settings, timeline
        self.warper = self._create_warper()
        self.plan = FramePlan(settings, timeline)
        self._writer = FrameWriter(self.project, settings, timeline, self.plan, self.warper)

    def _create_warper(self) -> FrameWarper:
        settings, timeline = self.settings, self.timeline
        if settings.video:
            return OpticalFlowWarper(self.project.folder / VIDEO_FRAMES_FOLDER, settings.anchor)
        # what an outpainter gets is filled by reflection, in case it keeps some of it
        border: Border = "reflect" if settings.border == "outpaint" else settings.border
        if settings.seamless:
            border = "wrap"
        return CameraWarper(
            lambda frame: timeline(frame).motion, settings.size, border, self.outpaint, self.depth_estimator
        )

    @property
    def settings(self) -> AnimateSettings:
        """The settings in force. New ones count from the next frame on; frames, size and loop stay as they are."""
        return self._settings

    @settings.setter
    def settings(self, settings: AnimateSettings) -> None:
        fixed = {name: getattr(self._settings, name) for name in ("size", "frames", "loop")}
        settings = settings.model_copy(update=fixed)
        self._use(settings, Timeline(settings, self.seed, self.timeline.audio))

    @property
    def steerable_fields(self) -> frozenset[str]:
        """Names of the settings that :meth:`steer` can change."""
        return STEERABLE_FIELDS

    def steer(self, changes: Mapping[str, Any]) -> None:
        """Change settings from the next frame on, in the folder too, so that a resumed run has them."""
        self.settings = type(self.settings).parse({**self.settings.model_dump(), **changes})
        self.project.record["settings"] = self.settings.model_dump(mode="json")
        self.project.save()

    def rewind(self, frames: int) -> int:
        """Remove the last frames and return how many are left, so that other frames can follow them.

        The nearest state at or before that frame is loaded. UserError if none is kept that far back: the last sixty
        frames and every thirtieth one before have a state.
        """
        positions = self.project.positions()
        if not any(position <= self.frames_made - frames for position in positions):
            most = self.frames_made - min(positions, default=self.frames_made)
            raise UserError(f"{frames} frames can't be removed; remove at most {most}, or start a new folder")
        self.project.rewind(frames)
        state = self.project.load_state()
        assert state is not None
        self.load_state_dict(state)
        self.project.trim_log(self.done)
        return self.done

    @property
    def position(self) -> int:
        """Guidance steps done; each frame counts as at least one, so that steps take about equal time."""
        if not self.frames_made:
            return min(self.first.position, self._first_total)
        return self._first_total + self.plan.work(self.frames_made)

    @property
    def total(self) -> int:
        """Guidance steps in total, counted as in :attr:`position`."""
        return self._first_total + self.plan.work()

    @property
    def done(self) -> int:
        """Frames of the video that are finished."""
        return max(0, self.frames_made - self.plan.loop_overlap)

    def step(self) -> dict[str, float]:
        """Do one step of the first picture, or make a whole frame and write it to the folder with its state."""
        if not self.frames_made and self.first.position < self.first.total:
            return self.first.step()
        started = time.monotonic()
        frame = self.plan.remaining(self.frames_made)[0]
        scalars, image = self._paint(frame)
        pixels = image_to_pixels(image)
        self._writer.write(frame, self.last, pixels)
        self.last, self.frames_made = pixels, frame.number + 1
        self.project.save_state(self.frames_made, self.state_dict())
        if self.done:
            row = {"iterations": frame.iterations, "loss": scalars.get("loss", 0.0)}
            self.project.log(self.done - 1, {**row, "seconds": time.monotonic() - started})
        return {"frame": float(self.done)}

    def _paint(self, frame: PlannedFrame) -> tuple[dict[str, float], Tensor]:
        """The scalars of the last guidance step, and the frame's image."""
        painter = self._painter()
        if not frame.number:
            image = self._first_frame(painter)
            self.reference_colours = lab_statistics(image)
            return {}, image
        times = self.plan.curve_frames(frame.previous, frame.number)
        now = times[-1]
        warped = self._warped_start(self.timeline(now), times)
        self._load_start(painter, warped, times)
        painter.settings = self._painter_settings(painter, self.timeline.prompt(now))
        if self.settings.seed_behavior != "run":
            offset = now if self.settings.seed_behavior == "iter" else 0
            painter.generator.manual_seed((self.seed + offset) % 2**63)
        scalars: dict[str, float] = {}
        for _ in range(frame.iterations):
            scalars = painter.step()
        return scalars, torch.lerp(painter.image()[None], warped.cpu(), self.settings.hold)

    def _first_frame(self, painter: Painter) -> Tensor:
        image = painter.image()[None]
        if (video_frame := self.warper.video_frame(0)) is None:
            return image
        # as close to the video as later frames will be: otherwise the look would change in the first second
        return torch.lerp(image, video_frame, self.settings.anchor)

    def _painter(self) -> Painter:
        assert self.first.painter is not None, "the first picture has a painter once its steps are done"
        return self.first.painter

    def _painter_settings(self, painter: Painter, prompt: str) -> Any:
        names = set(type(painter.settings).model_fields) - {"seed"}
        frame_fields = {
            "prompt": prompt,
            "iterations": _UNBOUNDED_ITERATIONS,
            "learning_rate": self.settings.frame_learning_rate,
        }
        return painter.settings.model_copy(
            update={**{name: getattr(self.settings, name) for name in names}, **frame_fields}
        )

    def _warped_start(self, parameters: FrameParameters, times: list[int]) -> Tensor:
        """The image that a frame's painting starts from: the last one warped, its colour, blur and noise corrected."""
        settings, device = self.settings, self._painter().machine.device
        if (path := self.timeline.init_images.get(times[-1])) is not None:
            return to_tensor(resize_and_crop(load_picture(path), settings.size)).to(device)
        assert self.last is not None
        image = self.warper.warp_picture(pixels_to_image(self.last).to(device), times)
        if settings.color_coherence == "LAB" and self.reference_colours is not None:
            image = match_colours(image, self.reference_colours.to(device))
        if parameters.antiblur:
            # the fraction `hold` of the image is sharpened again in the next frame: above 0.8 in total it diverges
            limit = 0.8 / settings.hold - 1 if settings.hold else math.inf
            image = sharpen(image, max(0.0, min(parameters.antiblur, limit)), settings.seamless)
        if self.noise is not None:
            self.noise = self.warper.warp_noise(self.noise, times)
        if parameters.noise:
            image = (image + parameters.noise * self._scene_noise().to(device)).clamp(-1, 1)
        return image

    def _scene_noise(self) -> Tensor:
        """Noise that is part of the scene: drawn once, then warped along with the frames."""
        if self.noise is None:
            width, height = self.settings.size
            self.noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(self.seed))
        return self.noise

    @torch.no_grad()
    def _load_start(self, painter: Painter, image: Tensor, times: list[int]) -> None:
        """Set the painter's latents to those of the warped image, and warp Adam's moments along."""
        before = painter.state_dict()
        state = self.warper.warp_state(before, times, painter.vqgan.f)
        if not self.settings.carry:
            state["adam"] = {}
        replaced = times[-1] in self.timeline.init_images
        latents = state["latents"]
        if self.settings.moves != "latents" or replaced:
            latents = self._encode(painter, image)
        video_frame = self.warper.video_frame(times[-1]) if self.settings.init_weight else None
        start = latents if video_frame is None else self._encode(painter, video_frame.to(image))
        # past the first steps, in which the moving average is short, and far below the limit of iterations
        position = min(before["position"], 1000)
        painter.load_state_dict({**state, "latents": latents, "average": latents, "start": start, "position": position})

    def _encode(self, painter: Painter, image: Tensor) -> Tensor:
        """Encode an image to latents (1, c, H/f, W/f) on the CPU; a seamless image continues across its borders."""
        f, vqgan = painter.vqgan.f, painter.vqgan
        margin = _SEAMLESS_MARGIN if self.settings.seamless else 0
        if margin:
            rows, columns = (_wrapped_indices(side, margin * f).to(image.device) for side in image.shape[-2:])
            image = image[:, :, rows][:, :, :, columns]
        with painter.machine.autocast():
            codes = vqgan.encode(image)
            inner = codes[:, margin : codes.shape[1] - margin, margin : codes.shape[2] - margin]
            return vqgan.codes_to_latents(inner).float().cpu()

    def preview(self) -> Image:
        """The newest painted frame, or the first picture as it is now."""
        from PIL import Image

        return self.first.preview() if self.last is None else Image.fromarray(self.last.numpy())

    def state_dict(self) -> dict[str, Any]:
        """All that the next frames depend on, except settings, networks, and a loop's frames in the folder."""
        if not self.frames_made:
            return {"made": 0, "first": self.first.state_dict()}
        return {
            "made": self.frames_made,
            "painter": self._painter().state_dict(),
            "last": self.last,
            "colours": self.reference_colours,
            "noise": self.noise,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state with the same bits; frames after it will be made again."""
        self.frames_made = int(state["made"])
        if not self.frames_made:
            self.first.load_state_dict(state["first"])
            self.last = self.reference_colours = self.noise = None
            return
        self.first.load_state_dict({"sampler": None, "painter": state["painter"]})
        self.last, self.reference_colours, self.noise = state["last"], state["colours"], state["noise"]


def _wrapped_indices(side: int, margin: int) -> Tensor:
    """Indices (side + 2 margin,) of a row that is repeated periodically at both ends."""
    return torch.arange(-margin, side + margin) % side
