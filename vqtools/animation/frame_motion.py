"""How a frame comes from the one before: by the camera, or by what moved in a film.

Knows pictures, numbers of frames and where a film's frames lie; nothing about painting. Frames are named by their
number as curves count them: ``times`` are those that are passed, the wanted one last.

Shapes: pictures (1, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.camera import Border, Motion, Outpainter, homography, warp, warp_and_outpaint, warp_state
from vqtools.animation.depth import DepthEstimator, warp_by_depth
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, to_tensor
from vqtools.media.optical_flow import estimate_flow, flow_confidence, warp_by_flow
from vqtools.media.video import frame_name


class FrameWarper(Protocol):
    """Carries what there is to the next frame."""

    def picture(self, image: Tensor, times: Sequence[int]) -> Tensor:
        """Where the next frame's painting begins."""
        ...

    def noise(self, noise: Tensor, times: Sequence[int]) -> Tensor: ...

    def state(self, state: Mapping[str, Any], times: Sequence[int], f: int) -> dict[str, Any]:
        """A Painter's state, moved along with its picture."""
        ...

    def anchor(self, time: int) -> Tensor | None:
        """What ``init_weight`` holds the frame to; None for where its painting begins."""
        ...

    def between(self, before: Tensor, after: Tensor, times: Sequence[int], passed: int) -> Tensor:
        """A frame that is not painted, after so many of ``times``: both its neighbours carried to it, and blended."""
        ...


class CameraWarper:
    """The camera's motion; ``motion`` says it for a frame. outpaint: fills what comes in at the sides.

    see: how far things are, so that what is near moves more; noise and Adam's memory still move as on a plane.
    """

    def __init__(
        self,
        motion: Callable[[int], Motion],
        size: tuple[int, int],
        border: Border,
        outpaint: Outpainter | None = None,
        see: DepthEstimator | None = None,
    ) -> None:
        self.motion, self.size, self.border, self.outpaint, self.depth_estimator = motion, size, border, outpaint, see

    def combined_homography(self, times: Sequence[int]) -> Tensor:
        """The whole motion as one homography."""
        whole = torch.eye(3, dtype=torch.float64)
        for time in times:
            whole = homography(self.motion(time), *self.size) @ whole
        return whole

    def picture(self, image: Tensor, times: Sequence[int]) -> Tensor:
        if self.depth_estimator is not None:
            for time in times:
                image = warp_by_depth(image, self.motion(time), self.depth_estimator(image), self.border).clamp(-1, 1)
            return image
        return warp_and_outpaint(image, self.combined_homography(times), border=self.border, outpaint=self.outpaint)

    def noise(self, noise: Tensor, times: Sequence[int]) -> Tensor:
        # nearest: any mean of its neighbours would be weaker noise
        return warp(noise, self.combined_homography(times), border="wrap", mode="nearest")

    def state(self, state: Mapping[str, Any], times: Sequence[int], f: int) -> dict[str, Any]:
        return warp_state(state, self.combined_homography(times), f, self.border)

    def anchor(self, time: int) -> Tensor | None:
        return None

    def between(self, before: Tensor, after: Tensor, times: Sequence[int], passed: int) -> Tensor:
        there = warp(before, self.combined_homography(times[:passed]), border=self.border)
        back = warp(after, torch.linalg.inv(self.combined_homography(times[passed:])), border=self.border)
        return torch.lerp(there, back, passed / len(times))


class OpticalFlowWarper:
    """What moved in a film whose frames lie in a folder: the last painted frame follows it.

    Where the flow is not to be trusted, because something was hidden or is new, the film's own frame stands in.
    anchor: share of the film's own frame everywhere.
    """

    def __init__(self, folder: Path, anchor: float) -> None:
        self.folder, self.share = folder, anchor
        self._load = lru_cache(maxsize=3)(self._read)
        self._flows = lru_cache(maxsize=2)(self._find)

    def _read(self, time: int) -> Tensor:
        path = self.folder / frame_name(time)
        if not path.is_file():
            raise UserError(f"{path.name} of the film is missing in {str(self.folder)!r}; begin a new folder")
        return to_tensor(load_picture(path))

    def _find(self, before: int, now: int) -> tuple[Tensor, Tensor, Tensor]:
        """For the later frame: the flow home, the flow here, and how far both are to be trusted."""
        first, second = self._load(before), self._load(now)
        home, here = estimate_flow(second, first), estimate_flow(first, second)
        return home, here, flow_confidence(home, here, second, first)

    def picture(self, image: Tensor, times: Sequence[int]) -> Tensor:
        home, _, sure = self._flows(times[0] - 1, times[-1])
        film = self._load(times[-1]).to(image.device)
        carried = warp_by_flow(image, home).clamp(-1, 1)
        return torch.lerp(film, carried, (1 - self.share) * sure.to(image.device))

    def noise(self, noise: Tensor, times: Sequence[int]) -> Tensor:
        return noise

    def state(self, state: Mapping[str, Any], times: Sequence[int], f: int) -> dict[str, Any]:
        home, _, sure = self._flows(times[0] - 1, times[-1])
        cells = F.avg_pool2d(home.permute(0, 3, 1, 2), f).permute(0, 2, 3, 1) / f
        known = F.avg_pool2d(sure, f)

        def moved(value: Any) -> Any:
            return warp_by_flow(value, cells) if isinstance(value, Tensor) and value.dim() == 4 else value

        memory = {name: moved(value) for name, value in state["adam"].items()}
        for name, value in memory.items():
            if isinstance(value, Tensor) and value.dim() == 4:  # what is new has no direction; a square stays positive
                memory[name] = value * known.to(value) if name == "exp_avg" else value.clamp(min=0)
        return {**state, **{name: moved(state[name]) for name in ("latents", "average", "start")}, "adam": memory}

    def anchor(self, time: int) -> Tensor | None:
        return self._load(time)

    def between(self, before: Tensor, after: Tensor, times: Sequence[int], passed: int) -> Tensor:
        begin, here, end = times[0] - 1, times[passed - 1], times[-1]
        film = self._load(here)
        there = warp_by_flow(before, estimate_flow(film, self._load(begin)))
        back = warp_by_flow(after, estimate_flow(film, self._load(end)))
        return torch.lerp(there, back, passed / len(times)).clamp(-1, 1)
