"""Motion by depth: a plane moves as the homography says, what is near moves more, a network is read from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from tests.animation.conftest import settings_of
from vqtools.animation import camera
from vqtools.animation.camera import Motion
from vqtools.animation.depth import disparity_to_distance, source_points_by_depth, warp_by_depth
from vqtools.animation.frame_motion import CameraWarper
from vqtools.animation.timeline import Timeline
from vqtools.core.errors import UserError
from vqtools.pipelines.animate import load_depth_estimator


def spots() -> Tensor:
    noise = torch.rand(1, 3, 12, 18, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(64, 96), mode="bicubic").clamp(-1, 1)


@pytest.mark.parametrize(
    "motion",
    [Motion(zoom=1.1, angle=4), Motion(translation_x=5, translation_y=-2), Motion(translation_z=30, rotation_3d_y=3)],
)
def test_on_a_plane_it_is_the_homography(motion: Motion) -> None:
    image = spots()
    expected = camera.warp(image, camera.homography(motion, 96, 64))
    found = warp_by_depth(image, motion, torch.ones(1, 1, 64, 96))
    assert (found - expected)[..., 4:-4, 4:-4].abs().max() < 0.02


def test_what_is_near_moves_more() -> None:
    far = torch.full((1, 1, 64, 96), 2.0)
    far[..., 32:, :] = 0.5
    points = source_points_by_depth(Motion(translation_x=6.0), far)
    x = torch.arange(96) + 0.5
    assert torch.allclose(points[0, 8, :, 0], x.double() - 3, atol=0.1)
    assert torch.allclose(points[0, 60, 20:76, 0], x[20:76].double() - 12, atol=0.1)
    closer = source_points_by_depth(Motion(translation_z=20), far)  # into the picture: the near part grows more
    assert closer[0, 60, 90, 0] < closer[0, 3, 90, 0] < 90.5


def test_standing_still_is_the_picture_itself() -> None:
    image = spots()
    assert warp_by_depth(image, Motion(), torch.rand(1, 1, 64, 96) + 0.5) is image


def test_distances_are_around_one_and_bounded() -> None:
    found = disparity_to_distance(torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(1)) * 900)
    assert found.median() == pytest.approx(1, abs=0.02) and found.min() >= 0.5 and found.max() <= 4
    assert torch.equal(disparity_to_distance(torch.full((1, 1, 4, 4), 7.0)), torch.ones(1, 1, 4, 4))
    with pytest.raises(UserError, match="is not a depth network"):
        load_depth_estimator("no/such/folder/here", torch.device("cpu"))


@pytest.mark.filterwarnings("ignore")
def test_a_network_from_a_folder_sees_a_distance_for_each_pixel(tmp_path: Path) -> None:
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=4,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    far = load_depth_estimator(str(tmp_path), torch.device("cpu"))(spots())
    assert far.shape == (1, 1, 64, 96) and far.min() >= 0.5 and far.max() <= 4


def test_the_animator_moves_what_is_near_more(tmp_path: Path) -> None:
    settings = settings_of(size=(96, 64), frames=2, motion="none", translation_x="6", iterations_per_frame="0",
                                 antiblur="0", hold=0.0, clarity=0.0, cutouts=1)  # fmt: skip
    far = torch.full((1, 1, 64, 96), 2.0)
    far[..., 32:, :] = 0.5
    warper = CameraWarper(
        lambda time: Timeline(settings, 1)(time).motion, (96, 64), "reflect", depth_estimator=lambda image: far
    )
    image = spots()
    moved = warper.warp_picture(image, [1])
    assert (moved[..., :28, 10:80] - image[..., :28, 7:77]).abs().mean() < 0.01
    assert (moved[..., 36:, 20:80] - image[..., 36:, 8:68]).abs().mean() < 0.01
