"""Animations from settings: networks that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.pipelines.animate import load_depth_estimator


def spots() -> Tensor:
    noise = torch.rand(1, 3, 12, 18, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(64, 96), mode="bicubic").clamp(-1, 1)


@pytest.mark.filterwarnings("ignore")
def test_a_depth_network_from_a_folder_gives_a_distance_per_pixel(tmp_path: Path) -> None:
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


def test_a_missing_depth_network_raises_user_error() -> None:
    with pytest.raises(UserError, match="is not a depth network"):
        load_depth_estimator("no/such/folder/here", torch.device("cpu"))
