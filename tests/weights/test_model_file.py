"""Our own files of weights: round trips, and files that do not match their header."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vqtools.core.errors import UserError
from vqtools.models.clip import fold_batch_norms
from vqtools.models.gpt import GPT, GPTConfig
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.weights.model_file import (
    SCALE_SUFFIX,
    load_open_clip,
    quantize_int8,
    read_clip_folder,
    read_header,
    read_transformer,
    read_vqgan,
    save_model,
)

TINY = VQGANConfig(
    channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), resolution=16, z_channels=8, embed_dim=4,
    codebook_size=16, patch=2, mid_attention=False, norm_groups=4, metric="cosine",
)  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> tuple[VQGAN, Path]:
    torch.manual_seed(0)
    model = VQGAN(TINY)
    path = tmp_path / "mine.safetensors"
    save_model(path, "vqgan", TINY.to_dict(), model.state_dict(), note="a test")
    return model, path


def test_a_saved_model_is_read_back_unchanged(written: tuple[VQGAN, Path]) -> None:
    model, path = written
    again = read_vqgan(path)
    assert again.config == TINY
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())
    assert read_header(path)["about"] == {"note": "a test"}
    assert [p.name for p in path.parent.iterdir()] == ["mine.safetensors"]  # no temporary file stays


def test_another_kind_of_model_is_a_user_error(written: tuple[VQGAN, Path]) -> None:
    with pytest.raises(UserError, match="contains a vqgan; expected a transformer"):
        read_transformer(written[1])


def test_missing_and_left_over_tensors_are_named(tmp_path: Path, written: tuple[VQGAN, Path]) -> None:
    tensors = dict(written[0].state_dict())
    del tensors["quant_conv.bias"]
    tensors["surprise"] = torch.zeros(1)
    save_model(tmp_path / "odd.safetensors", "vqgan", TINY.to_dict(), tensors)
    with pytest.raises(UserError, match=r"quant_conv\.bias.*surprise"):
        read_vqgan(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}"])
def test_another_file_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a model of vqtools"):
        read_vqgan(path)


def test_a_foreign_header_and_a_missing_file_are_user_errors(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", metadata={"vqtools": json.dumps([1])})
    with pytest.raises(UserError, match="header"):
        read_vqgan(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not there"):
        read_vqgan(tmp_path / "none.safetensors")


def test_an_incomplete_clip_folder_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"open_clip_config\.json is missing"):
        read_clip_folder(tmp_path)


def test_an_unknown_public_clip_lists_the_tags() -> None:
    with pytest.raises(UserError, match=r"has the tags .*openai"):
        load_open_clip("ViT-B-32-quickgelu/nonsense")
    with pytest.raises(UserError, match="expected starter"):
        load_open_clip("Nothing/at-all")


def test_folded_batch_norms_do_not_change_the_output() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    image = torch.randn(2, 3, 8, 8)
    before = net(image)
    fold_batch_norms(net)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    torch.testing.assert_close(net(image), before)


def test_int8_matrices_are_exact_to_one_step_of_their_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=32, block_size=8, layers=1, heads=2, width=16, grid=2))
    rows = torch.logspace(-6, 1, 32)[:, None]
    model.tok_emb.weight.data.mul_(rows)  # every row has its own scale
    path = tmp_path / "small.safetensors"
    save_model(path, "transformer", model.config.to_dict(), quantize_int8(model.state_dict()))
    again = read_transformer(path).state_dict()
    for name, tensor in model.state_dict().items():
        step = tensor.abs().amax(-1, keepdim=True) / 254 if tensor.ndim == 2 else tensor.abs() / 2048 + 1e-7
        assert ((again[name] - tensor).abs() <= step * 1.001).all(), name


def test_a_scale_without_its_matrix_is_an_error(tmp_path: Path) -> None:
    config = GPTConfig(vocab_size=32, block_size=8, layers=1, heads=2, width=16, grid=2)
    tensors = quantize_int8(GPT(config).state_dict())
    tensors["head.weight" + SCALE_SUFFIX] = torch.tensor(1.0)
    save_model(tmp_path / "odd.safetensors", "transformer", config.to_dict(), tensors)
    with pytest.raises(UserError, match="does not fit its own description"):
        read_transformer(tmp_path / "odd.safetensors")
