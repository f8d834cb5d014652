"""Tiny networks for tests of sampling and scoring."""

from pathlib import Path

import pytest
import torch

from vqtools.models.gpt import GPT, GPTConfig
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.weights.model_file import save_model

SHAPE = {"vocab_size": 13, "layers": 1, "heads": 2, "width": 16, "grid": 4}
TRANSFORMERS = {
    "plain": GPTConfig(**SHAPE, block_size=17, prefix_codes=1, codes=12),
    "holes": GPTConfig(**SHAPE, block_size=32, prefix_codes=16, codes=12, mask_code=12),
    "wide": GPTConfig.for_infilling(12, 4, 2, layers=1, heads=2, width=16, text_dim=384, text_tokens=2),
    "classes": GPTConfig(**SHAPE, block_size=17, classes=3, codes=12, class_names=("cat", "dog", "moon")),
    "labels": GPTConfig(**SHAPE, block_size=17, prefix_codes=1, classes=10, codes=12),
    "depth": GPTConfig(**SHAPE, block_size=32, prefix_codes=16, codes=12),
    "many": GPTConfig(**{**SHAPE, "vocab_size": 99}, block_size=17, prefix_codes=1),
}  # fmt: skip


@pytest.fixture
def sampling_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose folder "home" is the models' folder, with a tiny VQGAN and tiny transformers."""
    torch.manual_seed(0)
    vqgan = VQGAN(
        VQGANConfig(
            channels=8, channel_mult=(1, 1, 1), res_blocks=1, attn_resolutions=(), resolution=16, z_channels=8,
            embed_dim=4, codebook_size=12, mid_attention=False, norm_groups=4,
        )
    )  # fmt: skip
    vqgan.quantize.embedding.weight.data.normal_()
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    save_model(tmp_path / "home" / "tiny.safetensors", "vqgan", vqgan.config.to_dict(), vqgan.state_dict())
    for name, config in TRANSFORMERS.items():
        gpt = GPT(config)
        for p in gpt.parameters():
            if p.ndim > 1:
                p.data.normal_(0, 0.6)
        save_model(tmp_path / "home" / f"{name}.safetensors", "transformer", config.to_dict(), gpt.state_dict())
    return tmp_path
