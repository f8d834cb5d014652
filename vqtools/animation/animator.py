"""Animate: each frame is the last one, moved by the camera, then painted a little.

A job: the first picture's steps come first, then every :meth:`Animator.step` makes a frame and writes it to the folder.
The state is saved with each frame, so a run that is killed goes on from the last whole frame with the same bits.
Networks, the first picture and the folder are handed in. Knows pictures and frames; nothing about files' names or text.

Shapes: H and W the picture's sides; pictures are (1, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vqtools import media
from vqtools.animation.camera import Outpaint, homography, move, warp, warp_state
from vqtools.animation.project import Project
from vqtools.animation.settings import AnimateSettings
from vqtools.animation.track import Moment, Track
from vqtools.painting.painter import Painter

if TYPE_CHECKING:
    from PIL.Image import Image

_ENDLESS = 100_000  # iterations: no frame is a painting's last quarter, in which steps are smaller
_LONGEST_LOOP = 24  # frames over which the end runs into the beginning


class FirstPicture(Protocol):
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


class Frame(NamedTuple):
    """One step's work: the painted frame, and how many carried ones come before it (``cadence``)."""

    number: int  # in order of making; a loop makes some before the first that is kept
    between: int
    iterations: int


class Animator:
    """Frames of an animation, one (with those carried between) a step.

    settings: may be changed between steps, as a Painter's. first: paints the first picture. project: where frames and
    states go; one that holds states is gone on with. outpaint: fills what comes in at the sides.
    """

    def __init__(
        self,
        settings: AnimateSettings,
        first: FirstPicture,
        project: Project,
        *,
        seed: int,
        track: Track | None = None,
        outpaint: Outpaint | None = None,
    ) -> None:
        self.seed, self.first, self.project, self.outpaint = seed, first, project, outpaint
        self._settings = settings
        self.track = track or Track(settings, seed)
        self.track.check(settings.size)
        self.lead = min(settings.frames // 3, _LONGEST_LOOP) if settings.loop else 0
        self.made = 0  # frames, those before the first that is kept included
        self.last: Tensor | None = None  # the newest painted frame (H, W, 3) of uint8, as it was saved
        self.colours: Tensor | None = None  # the first frame's mean and spread (2, 3) in LAB
        self.noise: Tensor | None = None  # (1, 3, H, W)
        self.plan = list(self._plan())
        self._first_total = first.total
        if state := project.load_state():
            self.load_state_dict(state)
        project.trim_log(max(0, self.made - self.lead))

    @property
    def settings(self) -> AnimateSettings:
        return self._settings

    @settings.setter
    def settings(self, settings: AnimateSettings) -> None:
        """Take other settings from the next frame on; the number of frames and the size stay."""
        fixed = {"size": self._settings.size, "frames": self._settings.frames, "loop": self._settings.loop}
        settings = settings.model_copy(update=fixed)
        track = Track(settings, self.seed, self.track.sound)
        track.check(settings.size)
        self._settings, self.track = settings, track
        self.plan = list(self._plan())

    def _plan(self) -> Iterator[Frame]:
        """The steps: the first frame is the first picture, then every nth is painted, and the last."""
        count, cadence = self.settings.frames + self.lead, self.settings.cadence
        previous = -1
        while previous < count - 1:
            number = 0 if previous < 0 else min(previous + cadence, count - 1)
            iterations = self.track(self._time(number)).iterations if number else 0
            yield Frame(number, number - previous - 1, iterations)
            previous = number

    def _time(self, number: int) -> int:
        """The frame as curves count it: those made before the first that is kept are the end of the round before."""
        return (number - self.lead) % self.settings.frames

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
        return max(0, self.made - self.lead)

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

    def _paint(self, frame: Frame) -> tuple[dict[str, float], Tensor]:
        """The frame's picture, and the last step's scalars."""
        painter = self._painter()
        if not frame.number:
            picture = painter.image()[None]
            self.colours = _colours(picture)
            return {}, picture
        moment = self.track(self._time(frame.number))
        matrix = self._way(frame.number - frame.between - 1, frame.number)
        moved = self._moved(frame, moment, matrix)
        self._begin(painter, moved, matrix)
        prompt = self.track.prompt(self._time(frame.number))
        painter.settings = self._painter_settings(painter, prompt)
        if self.settings.seed_behavior != "run":
            extra = self._time(frame.number) if self.settings.seed_behavior == "iter" else 0
            painter.generator.manual_seed((self.seed + extra) % 2**63)
        scalars: dict[str, float] = {}
        for _ in range(frame.iterations):
            scalars = painter.step()
        picture = torch.lerp(painter.image()[None], moved.cpu(), self.settings.hold)
        return scalars, picture

    def _painter(self) -> Painter:
        assert self.first.painter is not None, "the first picture's painter is there when its steps are done"
        return self.first.painter

    def _painter_settings(self, painter: Painter, prompt: str) -> Any:
        s = self.settings
        return painter.settings.model_copy(
            update={
                **{name: getattr(s, name) for name in type(painter.settings).model_fields if name != "seed"},
                "prompt": prompt, "iterations": _ENDLESS, "learning_rate": s.frame_learning_rate,
            }
        )  # fmt: skip

    def _way(self, begin: int, end: int) -> Tensor:
        """The motion from one frame to another, as one homography."""
        matrix = torch.eye(3, dtype=torch.float64)
        for number in range(begin + 1, end + 1):
            matrix = homography(self.track(self._time(number)).motion, *self.settings.size) @ matrix
        return matrix

    def _moved(self, frame: Frame, moment: Moment, matrix: Tensor) -> Tensor:
        """Where the frame's painting begins: the last one moved; its colours, noise and edges seen to."""
        settings, device = self.settings, self._painter().machine.device
        if (path := self.track.pictures.get(self._time(frame.number))) is not None:
            return media.to_tensor(media.fit(media.load_picture(path), settings.size)).to(device)
        assert self.last is not None
        moved = move(_as_image(self.last).to(device), matrix, border=settings.border, outpaint=self.outpaint)
        if settings.color_coherence == "LAB" and self.colours is not None:
            moved = match_colours(moved, self.colours.to(device))
        if moment.antiblur:
            # what stays is sharpened again with the next frame: more than this would grow without end
            most = 0.8 / settings.hold - 1 if settings.hold else math.inf
            moved = sharpen(moved, max(0.0, min(moment.antiblur, most)))
        self._move_noise(matrix)
        if moment.noise:
            moved = (moved + moment.noise * self._world_noise().to(device)).clamp(-1, 1)
        return moved

    def _world_noise(self) -> Tensor:
        """Noise that belongs to the world: drawn once, moved along from then on."""
        if self.noise is None:
            width, height = self.settings.size
            self.noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(self.seed))
        return self.noise

    def _move_noise(self, matrix: Tensor) -> None:
        if self.noise is not None:  # nearest: any mean of its neighbours would be weaker noise
            self.noise = warp(self.noise, matrix, border="wrap", mode="nearest")

    @torch.no_grad()
    def _begin(self, painter: Painter, moved: Tensor, matrix: Tensor) -> None:
        """Hand the painter the moved picture's latents; Adam's memory moves along."""
        state = painter.state_dict()
        if self.settings.carry and state["adam"]:
            state = warp_state(state, matrix, painter.vqgan.f, self.settings.border)
        else:
            state = {**state, "adam": {}}
        with painter.machine.autocast():
            latents = painter.vqgan.latents_of(painter.vqgan.encode(moved)).float().cpu()
        # far from the painter's first steps, in which the average is short, and from its limit
        position = min(state["position"], 1000)
        painter.load_state_dict(
            {**state, "latents": latents, "average": latents, "start": latents, "position": position}
        )

    def _keep(self, frame: Frame, picture: Tensor) -> None:
        """Write the frame and those between it and the one before."""
        now = _as_pixels(picture)
        before = self.last
        for step in range(1, frame.between + 1):
            number = frame.number - frame.between - 1 + step
            assert before is not None
            self._save(number, self._between(before, now, number, frame, step / (frame.between + 1)))
        self._save(frame.number, now)
        self.last = now

    def _between(self, before: Tensor, after: Tensor, number: int, frame: Frame, share: float) -> Tensor:
        """A frame that is not painted: both its neighbours carried to it along the motion, and blended."""
        border = self.settings.border
        there = warp(_as_image(before), self._way(frame.number - frame.between - 1, number), border=border)
        back = warp(_as_image(after), torch.linalg.inv(self._way(number, frame.number)), border=border)
        return _as_pixels(torch.lerp(there, back, share))

    def _save(self, number: int, pixels: Tensor) -> None:
        kept = number - self.lead
        moment = self.track(self._time(number))
        about = {"motion": moment.motion._asdict(), "shown": self.track.prompt(self._time(number))}
        if kept < 0:
            self.project.save_frame(number, _as_picture(pixels), about, "lead")
            return
        tail = kept - (self.settings.frames - self.lead)
        if self.lead and tail >= 0:  # the end turns into what led to the beginning
            lead = media.load_picture(self.project.folder / "lead" / f"frame-{tail:05d}.png")
            share = (tail + 1) / (self.lead + 1)
            mixed = torch.lerp(_as_image(pixels), media.to_tensor(lead), share * share * (3 - 2 * share))
            pixels = _as_pixels(mixed)
        if self.settings.clarity:
            pixels = _as_pixels(sharpen(_as_image(pixels), self.settings.clarity))
        self.project.save_frame(kept, _as_picture(pixels), about)

    def preview(self) -> Image:
        """The newest frame, or the first picture as it stands."""
        return self.first.preview() if self.last is None else _as_picture(self.last)

    def state_dict(self) -> dict[str, Any]:
        """All that the next frames depend on, beside settings, networks, and a loop's frames in the folder."""
        if not self.made:
            return {"made": 0, "first": self.first.state_dict()}
        return {
            "made": self.made,
            "painter": self._painter().state_dict(),
            "last": self.last,
            "colours": self.colours,
            "noise": self.noise,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state with the same bits; the frames after it will be made again."""
        self.made = int(state["made"])
        if not self.made:
            self.first.load_state_dict(state["first"])
            self.last = self.colours = self.noise = None
            return
        self.first.load_state_dict({"sampler": None, "painter": state["painter"]})
        self.last, self.colours, self.noise = state["last"], state["colours"], state["noise"]


def _as_pixels(image: Tensor) -> Tensor:
    """(1, 3, H, W) in [-1, 1] -> (H, W, 3) of uint8, as a PNG holds it."""
    return image[0].add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().cpu()


def _as_image(pixels: Tensor) -> Tensor:
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def _as_picture(pixels: Tensor) -> Image:
    from PIL import Image

    return Image.fromarray(pixels.numpy())


def _lab(image: Tensor) -> Tensor:
    from kornia.color import rgb_to_lab

    out: Tensor = rgb_to_lab(image.add(1).div(2).clamp(0, 1))
    return out


def _colours(image: Tensor) -> Tensor:
    """Mean and spread (2, 3) of a picture's pixels in LAB."""
    lab = _lab(image).flatten(2)[0]
    return torch.stack([lab.mean(1), lab.std(1)])


def match_colours(image: Tensor, colours: Tensor) -> Tensor:
    """A picture with the mean and spread (2, 3) in LAB of another: Reinhard et al. 2001, as Deforum's LAB."""
    from kornia.color import lab_to_rgb

    own = _colours(image)
    # a plain picture has no spread that could be stretched
    gain = (colours[1] / own[1].clamp(min=1e-3)).clamp(max=4).view(1, 3, 1, 1)
    lab = (_lab(image) - own[0].view(1, 3, 1, 1)) * gain + colours[0].view(1, 3, 1, 1)
    out: Tensor = lab_to_rgb(lab).clamp(0, 1).mul(2).sub(1)
    return out


def sharpen(image: Tensor, amount: float) -> Tensor:
    """Unsharp masking with a radius of one pixel; 0 leaves the picture as it is."""
    from kornia.filters import gaussian_blur2d

    out: Tensor = (image + amount * (image - gaussian_blur2d(image, 5, (1.0, 1.0)))).clamp(-1, 1)
    return out
