"""How a frame is warped from the one before: by the camera's motion, or by the optical flow of a video.

Knows images, frame numbers and the folder of a video's frames; nothing about painting. ``times`` are frame numbers as
curves count them: all frames after the one that is warped, up to the target, which comes last.

Shapes: images are (1, 3, H, W) in [-1, 1].
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
    """Warps a frame, and what the painter remembers of it, to the next frame."""

    def warp_picture(self, image: Tensor, times: Sequence[int]) -> Tensor:
        """The image that the next frame's painting starts from."""
        ...

    def warp_noise(self, noise: Tensor, times: Sequence[int], /) -> Tensor:
        """Noise (1, 3, H, W) warped without loss of contrast."""
        ...

    def warp_state(self, state: Mapping[str, Any], times: Sequence[int], f: int) -> dict[str, Any]:
        """A Painter's state warped along with its image; f: pixels per latent cell."""
        ...

    def video_frame(self, time: int, /) -> Tensor | None:
        """The video's frame that ``init_weight`` keeps the painted one close to; None if there is no video."""
        ...

    def interpolate(self, before: Tensor, after: Tensor, times: Sequence[int], passed: int) -> Tensor:
        """The frame after ``passed`` of ``times``: both painted neighbours warped to it, and blended."""
        ...


class CameraWarper:
    """Warps by the camera's motion, which ``motion`` gives for a frame number.

    outpaint: fills what enters at the borders. depth_estimator: distances of pixels, so that near ones move more; noise
    and Adam's moments still move as if the image were a plane.
    """

    def __init__(
        self,
        motion: Callable[[int], Motion],
        size: tuple[int, int],
        border: Border,
        outpaint: Outpainter | None = None,
        depth_estimator: DepthEstimator | None = None,
    ) -> None:
        self.motion, self.size, self.border = motion, size, border
        self.outpaint, self.depth_estimator = outpaint, depth_estimator

    def combined_homography(self, times: Sequence[int]) -> Tensor:
        """The motion over all of ``times`` as one homography (3, 3), so that the image is resampled only once."""
        combined = torch.eye(3, dtype=torch.float64)
        for time in times:
            combined = homography(self.motion(time), *self.size) @ combined
        return combined

    def warp_picture(self, image: Tensor, times: Sequence[int]) -> Tensor:
        """Warp by the homography, or by depth frame by frame."""
        if self.depth_estimator is not None:
            for time in times:
                image = warp_by_depth(image, self.motion(time), self.depth_estimator(image), self.border).clamp(-1, 1)
            return image
        return warp_and_outpaint(image, self.combined_homography(times), border=self.border, outpaint=self.outpaint)

    def warp_noise(self, noise: Tensor, times: Sequence[int]) -> Tensor:
        """Warp with the nearest pixel: any average of neighbours would have less contrast."""
        return warp(noise, self.combined_homography(times), border="wrap", mode="nearest")

    def warp_state(self, state: Mapping[str, Any], times: Sequence[int], f: int) -> dict[str, Any]:
        """Warp latents and Adam's moments by the homography."""
        return warp_state(state, self.combined_homography(times), f, self.border)

    def video_frame(self, _time: int, /) -> Tensor | None:
        """None: a camera has no video."""
        return None

    def interpolate(self, before: Tensor, after: Tensor, times: Sequence[int], passed: int) -> Tensor:
        """Blend ``before`` warped forwards with ``after`` warped backwards."""
        forwards = warp(before, self.combined_homography(times[:passed]), border=self.border)
        backwards = warp(after, torch.linalg.inv(self.combined_homography(times[passed:])), border=self.border)
        return torch.lerp(forwards, backwards, passed / len(times))


class OpticalFlowWarper:
    """Warps by the optical flow of a video whose frames lie in a folder, so that the painted frame follows it.

    Where the flow is unreliable, because something was hidden or is new, the video's own frame is used instead.
    anchor_weight: fraction of the video's own frame everywhere, in [0, 1].
    """

    def __init__(self, folder: Path, anchor_weight: float) -> None:
        self.folder, self.anchor_weight = folder, anchor_weight
        self._load_frame = lru_cache(maxsize=3)(self._read_frame)
        self._flow = lru_cache(maxsize=2)(self._compute_flow)

    def _read_frame(self, time: int) -> Tensor:
        path = self.folder / frame_name(time)
        if not path.is_file():
            raise UserError(f"{path.name} of the video is missing in {str(self.folder)!r}; start a new folder")
        return to_tensor(load_picture(path))

    def _compute_flow(self, before: int, now: int) -> tuple[Tensor, Tensor, Tensor]:
        """The flows from frame ``now`` back to ``before`` and from ``before`` to ``now``, and their confidence."""
        first, second = self._load_frame(before), self._load_frame(now)
        backward, forward = estimate_flow(second, first), estimate_flow(first, second)
        return backward, forward, flow_confidence(backward, forward, second, first)

    def warp_picture(self, image: Tensor, times: Sequence[int]) -> Tensor:
        """Warp by the flow, blended with the video's frame where the flow is unreliable."""
        backward, _, confidence = self._flow(times[0] - 1, times[-1])
        video_frame = self._load_frame(times[-1]).to(image.device)
        warped = warp_by_flow(image, backward).clamp(-1, 1)
        return torch.lerp(video_frame, warped, (1 - self.anchor_weight) * confidence.to(image.device))

    def warp_noise(self, noise: Tensor, _times: Sequence[int], /) -> Tensor:
        """The noise as it is: a flow would stretch it."""
        return noise

    def warp_state(self, state: Mapping[str, Any], times: Sequence[int], f: int) -> dict[str, Any]:
        """Warp latents and Adam's moments by the flow averaged over cells of f x f pixels."""
        backward, _, confidence = self._flow(times[0] - 1, times[-1])
        cells = F.avg_pool2d(backward.permute(0, 3, 1, 2), f).permute(0, 2, 3, 1) / f
        known = F.avg_pool2d(confidence, f)

        def warped(value: Any) -> Any:
            return warp_by_flow(value, cells) if _is_grid(value) else value

        adam = {name: warped(value) for name, value in state["adam"].items()}
        for name, value in adam.items():
            if _is_grid(value):  # new content has no gradient history; a second moment must stay positive
                adam[name] = value * known.to(value) if name == "exp_avg" else value.clamp(min=0)
        return {**state, **{name: warped(state[name]) for name in ("latents", "average", "start")}, "adam": adam}

    def video_frame(self, time: int) -> Tensor | None:
        """The video's frame of that number."""
        return self._load_frame(time)

    def interpolate(self, before: Tensor, after: Tensor, times: Sequence[int], passed: int) -> Tensor:
        """Blend both painted neighbours, each warped by the flow of the video to the frame between."""
        begin, now, end = times[0] - 1, times[passed - 1], times[-1]
        video_frame = self._load_frame(now)
        forwards = warp_by_flow(before, estimate_flow(video_frame, self._load_frame(begin)))
        backwards = warp_by_flow(after, estimate_flow(video_frame, self._load_frame(end)))
        return torch.lerp(forwards, backwards, passed / len(times)).clamp(-1, 1)


def _is_grid(value: Any) -> bool:
    """Whether a value of a state is a tensor (b, c, rows, columns) on the latent grid."""
    return isinstance(value, Tensor) and value.dim() == 4
