"""Conversion of other programs' checkpoints: reference values, configs, and refused files."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vqtools.core.errors import UserError
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.weights import convert
from vqtools.weights.convert import paths_by_name
from vqtools.weights.key_maps import map_checkpoint
from vqtools.weights.load import load_transformer, load_vqgan, resolve_path
from vqtools.weights.model_file import file_sha256, read_condition_vqgan, read_header, read_transformer, read_vqgan
from vqtools.weights.pickles import read_tensors

GOLDEN = Path(__file__).parents[1] / "golden"
# checkpoint, its io file, what floats may differ by across machines (golden/README)
VQGANS = [
    ("taming_vqmodel.ckpt", "taming_vqmodel", 1e-5),
    ("taming_gumbelvq.ckpt", "taming_gumbelvq", 1e-5),
    ("ldm_vq.ckpt", "ldm_vq", 2e-5),
    ("llamagen_vq.pt", "llamagen_vq", 1e-5),
    ("diffusers_vq", "diffusers_vq", 1e-5),
    ("diffusers_vq_old_names", "diffusers_vq", 1e-5),
]


def converted(source: Path, folder: Path, kind: str = "") -> convert.Conversion:
    return convert.convert(source, paths_by_name(folder, "it"), kind=kind)


@pytest.mark.parametrize(("source", "io", "tolerance"), VQGANS)
def test_a_converted_vqgan_reproduces_the_reference_values(
    tmp_path: Path, source: str, io: str, tolerance: float
) -> None:
    done = converted(GOLDEN / source, tmp_path)
    assert done.files == {"vqgan": tmp_path / "it.safetensors"}
    model, stored = read_vqgan(done.files["vqgan"]), load_file(GOLDEN / f"{io}_io.safetensors")
    assert_same(model, stored, tolerance)
    assert [path.name for path in tmp_path.iterdir()] == ["it.safetensors"]


def assert_same(model: VQGAN, stored: dict[str, torch.Tensor], tolerance: float) -> None:
    with torch.no_grad():
        latents = model.encode_latents(stored["image"])
        reconstruction, _, quantized = model(stored["image"])
    assert torch.equal(model.encode(stored["image"]), stored["codes"])
    assert torch.equal(quantized.codes, stored["codes"])
    close = {"rtol": 0, "atol": tolerance}
    torch.testing.assert_close(latents, stored["latent"], **close)
    torch.testing.assert_close(quantized.latents, stored["quantized"], **close)
    torch.testing.assert_close(model.codes_to_latents(stored["codes"]), stored["quantized"], **close)
    torch.testing.assert_close(reconstruction, stored["reconstruction"], **close)
    torch.testing.assert_close(model.decode(stored["codes"]), stored["reconstruction"], **close)
    if "reconstruction_not_quantized" in stored:
        torch.testing.assert_close(model.decode_latents(latents), stored["reconstruction_not_quantized"], **close)
    if "quantizer_loss" in stored:
        torch.testing.assert_close(quantized.loss, stored["quantizer_loss"], **close)


def test_painting_quantises_to_the_nearest_code_of_a_gumbel_model_too(tmp_path: Path) -> None:
    model = read_vqgan(converted(GOLDEN / "taming_gumbelvq.ckpt", tmp_path).files["vqgan"])
    codes = torch.arange(64).view(1, 8, 8)
    latents = model.codes_to_latents(codes).requires_grad_(True)
    snapped = model.quantize.quantize_nearest(latents + 1e-4)
    torch.testing.assert_close(snapped, model.codes_to_latents(codes))
    snapped.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


@pytest.mark.parametrize("condition", ["class", "seg"])
def test_a_stage_2_checkpoint_reproduces_the_reference_values(tmp_path: Path, condition: str) -> None:
    done = converted(GOLDEN / f"taming_net2net_{condition}.ckpt", tmp_path)
    stored = load_file(GOLDEN / f"taming_net2net_{condition}_io.safetensors")
    gpt = read_transformer(tmp_path / "it.safetensors")
    vqgan = read_vqgan(tmp_path / "it-vqgan.safetensors")
    about = read_header(tmp_path / "it.safetensors")["about"]
    assert about["vqgan"] == file_sha256(done.files["vqgan"])
    assert gpt.config.grid == 8 and gpt.config.heads == 4
    assert (gpt.config.prefix_codes, gpt.config.classes) == ((1, 10) if condition == "class" else (64, 0))
    with torch.no_grad():
        logits = gpt(stored["tokens"])[:, stored["condition_codes"].flatten(1).shape[1] - 1 :]
        picture = vqgan.decode(stored["greedy_codes"])
    torch.testing.assert_close(logits, stored["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(picture, stored["greedy_image"], rtol=0, atol=1e-5)
    assert torch.equal(vqgan.encode(stored["image"]), stored["codes"])
    if condition == "class":
        assert about["condition"] == {"kind": "class", "classes": 10}
        return
    assert about["condition"] == {"kind": "segmentation", "labels": 12}
    reader = read_condition_vqgan(tmp_path / "it-condition.safetensors")
    one_hot = torch.nn.functional.one_hot(stored["segmentation"], 12).permute(0, 3, 1, 2).float()
    assert torch.equal(reader.encode(one_hot), stored["condition_codes"])
    with torch.no_grad():
        again = reader(one_hot)[0]
    torch.testing.assert_close(again, stored["segmentation_logits"], rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="contains a condition; expected a vqgan"):
        read_vqgan(tmp_path / "it-condition.safetensors")


def test_an_unconditional_stage_2_checkpoint_is_split(tmp_path: Path) -> None:
    done = converted(GOLDEN / "taming_net2net_uncond.ckpt", tmp_path)
    assert sorted(done.files) == ["transformer", "vqgan"]
    assert read_header(done.files["transformer"])["about"]["condition"] == {"kind": "sos", "token": 0}
    config = read_transformer(done.files["transformer"]).config
    assert (config.block_size, config.layers, config.heads, config.vocab_size) == (512, 2, 4, 40)
    assert (config.grid, config.prefix_codes, config.num_codes) == (16, 1, 40)
    first_stage = read_vqgan(done.files["vqgan"])
    assert first_stage.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 16)


# -- all public shapes -------------------------------------------------------------------------------------------------


def listed(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a key list, at full size, without values."""
    state = {}
    for line in (GOLDEN / "keys" / f"{name}.txt").read_text().splitlines():
        key, shape = line.split(" ", 1)
        size = [int(number) for number in shape[1 : shape.index(")")].split(",") if number.strip()]
        kind = getattr(torch, shape.split()[-1])
        state[key] = torch.empty(size, dtype=kind, device="meta")
    return state


@pytest.mark.parametrize(
    ("name", "loss", "f", "codes"),
    [
        ("f16_1024", "loss_disc3", 16, 1024), ("f16_16384", "loss_disc2", 16, 16384), ("gumbel_f8", "", 8, 8192),
        ("ldm_vq_f4", "loss_disc3", 4, 8192), ("ldm_vq_f4_noattn", "loss_disc3", 4, 8192),
        ("ldm_vq_f8", "loss_disc2", 8, 16384), ("ldm_vq_f8_n256", "loss_disc3", 8, 256),
        ("ldm_vq_f16", "loss_disc2", 16, 16384), ("llamagen_vq_ds16", "", 16, 16384), ("llamagen_vq_ds8", "", 8, 16384),
        ("diffusers_amused_512_vqvae", "", 16, 8192), ("diffusers_vq_f4", "", 4, 8192),
    ],
)  # fmt: skip
def test_the_key_lists_of_public_models_match_exactly(name: str, loss: str, f: int, codes: int) -> None:
    state = listed(name) | {f"loss.{key}": value for key, value in (listed(loss) if loss else {}).items()}
    (part,) = map_checkpoint(state, {})
    config = VQGANConfig.from_dict(part.config)
    assert (part.kind, config.f, config.codebook_size) == ("vqgan", f, codes)
    assert sum(map(torch.numel, part.tensors.values())) == sum(
        value.numel() for key, value in listed(name).items() if "codebook_used" not in key
    )
    if name == "f16_1024":
        assert config == VQGANConfig()
    # inside a diffusion checkpoint
    if name.startswith("ldm"):
        whole = {f"first_stage_model.{key}": value for key, value in state.items()}
        whole["model.diffusion_model.out.weight"] = torch.empty(1)
        (inside,) = map_checkpoint(whole, {})
        assert inside.config == part.config


@pytest.mark.parametrize("condition", ["uncond", "class", "coord", "seg"])
def test_the_key_lists_of_net2net_models_match_exactly(condition: str) -> None:
    stages: dict[str, Any] = {
        "uncond": {"target": "taming.modules.util.SOSProvider", "params": {"sos_token": 0}},
        "class": {"target": "taming.modules.util.Labelator", "params": {"n_classes": 1000}},
        "coord": {"target": "taming.modules.misc.coord.CoordStage", "params": {"n_embed": 1024, "down_factor": 16}},
        "seg": {"target": "taming.models.vqgan.VQSegmentationModel", "params": {"n_labels": 182}},
    }
    config = {"model": {"params": {
        "transformer_config": {"params": {"n_head": 1}}, "cond_stage_config": stages[condition],
    }}}  # fmt: skip
    state = listed(f"net2net_{condition}")
    if condition == "seg":
        state["cond_stage_model.colorize"] = torch.empty(3, 182, 1, 1)
    networks = {part.kind: part for part in map_checkpoint(state, config)}
    assert set(networks) == {"vqgan", "transformer"} | ({"condition"} if condition == "seg" else set())
    mapped_keys = sum(len(part.tensors) for part in networks.values())
    assert mapped_keys == len([key for key in state if not key.endswith(("attn.mask", "colorize"))])
    if condition == "seg":
        assert networks["condition"].config["image_channels"] == 182
    assert [part.kind for part in map_checkpoint(state, {}, "vqgan")] == ["vqgan"]  # needs no yaml
    with pytest.raises(UserError, match="put its yaml beside the checkpoint"):
        map_checkpoint(state, {})
    params = config["model"]["params"]
    for change, says in (
        ({"cond_stage_config": {"target": "my.Own"}}, "condition 'Own' is not supported"),
        ({"transformer_config": {"params": {"n_head": 3}}}, "n_head 3 does not divide the width 64"),
        ({"transformer_config": {"params": {"n_head": 1, "n_layer": 24}}}, "n_layer 24, but the tensors have 2"),
    ):
        with pytest.raises(UserError, match=says):
            map_checkpoint(state, {"model": {"params": params | change}})
    state["transformer.blocks.0.extra"] = torch.empty(1)
    with pytest.raises(UserError, match=r"left-over keys: transformer\.blocks\.0\.extra"):
        map_checkpoint(state, config)


def test_a_llamagen_gpt_needs_its_heads_and_grid(tmp_path: Path) -> None:
    (part,) = map_checkpoint(listed("llamagen_gpt_b_256"), {"n_head": 12, "block_size": 256})
    assert (part.kind, part.config["grid"], part.config["classes"]) == ("transformer", 16, 1000)
    with pytest.raises(UserError, match=r"LlamaGen GPT.*put a yaml beside it"):
        map_checkpoint(listed("llamagen_gpt_b_256"), {})
    shutil.copy(GOLDEN / "llamagen_gpt.pt", tmp_path / "c2i.pt")
    (tmp_path / "c2i.yaml").write_text("n_head: 4\nblock_size: 36\n")
    gpt = read_transformer(converted(tmp_path / "c2i.pt", tmp_path).files["transformer"])
    stored = load_file(GOLDEN / "llamagen_gpt_io.safetensors")
    with torch.no_grad():
        logits = gpt(stored["tokens"], gpt.embed_class(stored["class_label"]))
    torch.testing.assert_close(logits, stored["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["llamagen_gpt_b_256", "net2net_class"])
def test_impossible_shapes_are_an_error_of_one_line(name: str) -> None:
    config: dict[str, Any] = {"n_head": 1, "block_size": 256, "model": {"params": {
        "transformer_config": {"params": {"n_head": 1}}, "cond_stage_config": "__is_unconditional__",
    }}}  # fmt: skip
    state = {key: value for key, value in listed(name).items() if not re.search(r"(blocks|layers)\.[1-9]", key)}
    for i, key in enumerate(key for key in state if not key.startswith("first_stage") and "mask" not in key):
        shape = ((), (1,), (2, 3, 4))[i % 3]
        with pytest.raises(UserError):
            map_checkpoint(state | {key: torch.empty(shape, device="meta")}, config)


@functools.cache
def small_state(source: str) -> dict[str, torch.Tensor]:
    return {key: value.to("meta") for key, value in read_tensors(GOLDEN / source).items()}


@settings(max_examples=25)
@given(st.data())
def test_missing_and_left_over_keys_are_named(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([source for source, _, _ in VQGANS]))
    state, config = dict(small_state(source)), {"norm_num_groups": 8}
    gone = data.draw(st.sampled_from(sorted(key for key in state if not key.startswith(("loss.", "quantize.code")))))
    value = state.pop(gone)
    state["decoder.surprise"] = value
    with pytest.raises(UserError) as caught:
        map_checkpoint(state, config)
    assert gone in str(caught.value)
    state[gone] = value
    with pytest.raises(UserError, match=r"left-over keys: decoder\.surprise$"):
        map_checkpoint(state, config)
    del state["decoder.surprise"]
    state[gone] = torch.empty((*value.shape, 2), device="meta")
    with pytest.raises(UserError, match=re.escape(gone)):
        map_checkpoint(state, config)


# -- what stands beside a checkpoint -----------------------------------------------------------------------------------


def beside(folder: Path, change: dict[str, Any], name: str = "last.yaml") -> Path:
    """The golden VQModel as last.ckpt, with a yaml of which some values were changed."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / "taming_vqmodel.ckpt", folder / "last.ckpt")
    config = yaml.safe_load((GOLDEN / "taming_vqmodel.yaml").read_text())
    config["model"]["params"].update({k: v for k, v in change.items() if k == "n_embed"})
    config["model"]["params"]["ddconfig"].update({k: v for k, v in change.items() if k != "n_embed"})
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(config))
    return folder / "last.ckpt"


def test_the_network_is_the_same_with_and_without_a_yaml(tmp_path: Path) -> None:
    stored = load_file(GOLDEN / "taming_vqmodel_io.safetensors")
    for i, name in enumerate(["last.yaml", "model.yaml", "../configs/2020-11-09T13-31-51-project.yaml", "other.txt"]):
        source = beside(tmp_path / str(i) / "checkpoints", {}, name)
        done = converted(source, tmp_path / f"out{i}")
        model = read_vqgan(done.files["vqgan"])
        assert model.config.resolution == (256 if name == "other.txt" else 32)
        assert ("there is no config beside it: its architecture is inferred from the tensors" in done.notes) == (
            name == "other.txt"
        )
        assert torch.equal(model.encode(stored["image"]), stored["codes"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_embed": 128}, "n_embed 128, but the tensors have 64"),
        ({"ch_mult": [1, 2, 4]}, "ch_mult"),
        ({"attn_resolutions": [32]}, "attn_resolutions"),
        ({"resolution": "big"}, "resolution 'big'"),
        ({"tanh_out": True}, "tanh_out"),
        ({"z_channels": {"a": 1}}, "z_channels"),
    ],
)
def test_a_yaml_of_another_checkpoint_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        converted(beside(tmp_path, change), tmp_path / "out")
    assert says in str(caught.value) and "last.ckpt" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_norm_groups_of_diffusers_come_from_its_config(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "diffusers_vq" / "diffusion_pytorch_model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(UserError, match="16 channels cannot be normalised in 32 groups; put its own"):
        converted(tmp_path / "alone.safetensors", tmp_path)
    config = json.loads((GOLDEN / "diffusers_vq" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"norm_type": "spatial"}))
    shutil.copy(tmp_path / "alone.safetensors", tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match="'spatial'"):
        converted(tmp_path, tmp_path / "out")


def with_yaml(folder: Path, text: str) -> Path:
    """The golden VQModel as last.ckpt, with a yaml of this text."""
    shutil.copy(GOLDEN / "taming_vqmodel.ckpt", folder / "last.ckpt")
    (folder / "last.yaml").write_text(text)
    return folder / "last.ckpt"


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {}']", "a: [", "just a sentence", "\t", "[" * 1500, "a: \x00",
    ],
)  # fmt: skip
def test_an_invalid_yaml_is_refused_and_runs_nothing(tmp_path: Path, text: str) -> None:
    flag = tmp_path / "ran"
    source = with_yaml(tmp_path, text.replace("{}", str(flag)))
    with pytest.raises(UserError, match=r"last\.yaml"):
        converted(source, tmp_path / "out")
    assert not flag.exists() and not (tmp_path / "out").exists()


def test_a_yaml_that_unfolds_to_gigabytes_is_refused_in_one_line(tmp_path: Path) -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 30)]
    text = "\n".join([*lines, "model: {params: {ddconfig: {ch_mult: *a29}}}"])
    with pytest.raises(UserError, match=r"last\.ckpt.*ch_mult") as caught:
        converted(with_yaml(tmp_path, text), tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


# -- what else is around the tensors -----------------------------------------------------------------------------------


def test_a_zip_with_one_checkpoint_is_unpacked_and_leaves_no_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "vq-f4.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(GOLDEN / "ldm_vq.ckpt", "model.ckpt")
    done = converted(tmp_path / "vq-f4.zip", tmp_path)
    assert_same(read_vqgan(done.files["vqgan"]), load_file(GOLDEN / "ldm_vq_io.safetensors"), 2e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it.safetensors", "vq-f4.zip"]


def test_ema_weights_are_preferred_and_training_state_is_ignored(tmp_path: Path) -> None:
    from argparse import Namespace

    weights = torch.load(GOLDEN / "llamagen_vq.pt", weights_only=True)["model"]
    spoiled = {key: value + 1 for key, value in weights.items()}
    whole = {
        "model": spoiled, "ema": weights, "optimizer": {"state": {}}, "steps": 3, "args": Namespace(lr=1),
        "best": np.float64(0.5), "curve": np.zeros(3),
    }  # fmt: skip
    torch.save(whole, tmp_path / "trained.pt")
    model = read_vqgan(converted(tmp_path / "trained.pt", tmp_path).files["vqgan"])
    assert_same(model, load_file(GOLDEN / "llamagen_vq_io.safetensors"), 1e-5)


def test_a_failed_second_file_removes_the_first(tmp_path: Path) -> None:
    (tmp_path / "it.safetensors").mkdir()  # the transformer's name is mapped_keys by a folder
    with pytest.raises(UserError, match="could not be written"):
        converted(GOLDEN / "taming_net2net_class.ckpt", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["it.safetensors"]


# -- a checkpoint's path where a name is expected ----------------------------------------------------------------------


def test_a_checkpoint_is_converted_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    source = beside(tmp_path, {})
    stored = load_file(GOLDEN / "taming_vqmodel_io.safetensors")
    assert torch.equal(load_vqgan(str(source)).encode(stored["image"]), stored["codes"])
    first = tmp_path / "last.vqgan.safetensors"
    assert resolve_path("vqgan", str(source)) == first
    written = first.stat().st_mtime_ns
    assert resolve_path("vqgan", str(source)) == first and first.stat().st_mtime_ns == written
    assert resolve_path("vqgan", str(first)) == first  # ours already
    os.utime(source, ns=(1, 1))
    resolve_path("vqgan", str(source))
    assert first.stat().st_mtime_ns != written
    with pytest.raises(UserError, match="contains a vqgan; expected a transformer"):
        resolve_path("transformer", str(source))


def test_the_home_folder_is_used_if_the_checkpoints_folder_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    source = beside(tmp_path / "disk", {})
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, whom no mode stops
    path = resolve_path("vqgan", str(source))
    assert path.parent == tmp_path / "home" / "converted" and resolve_path("vqgan", str(source)) == path
    assert not list((tmp_path / "disk").glob("*.safetensors"))


def test_a_folder_of_diffusers_and_a_stage_2_checkpoint_work_as_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    shutil.copytree(GOLDEN / "diffusers_vq", tmp_path / "vq")
    stored = load_file(GOLDEN / "diffusers_vq_io.safetensors")
    for path in (tmp_path / "vq", tmp_path / "vq" / "diffusion_pytorch_model.safetensors"):
        assert torch.equal(load_vqgan(str(path)).encode(stored["image"]), stored["codes"])
    shutil.copy(GOLDEN / "taming_net2net_class.ckpt", tmp_path / "cin.ckpt")
    assert load_vqgan(str(tmp_path / "cin.ckpt")).f == 2  # its first stage, without a yaml
    shutil.copy(GOLDEN / "taming_net2net_class.yaml", tmp_path / "cin.yaml")
    assert load_transformer(str(tmp_path / "cin.ckpt")).config.layers == 2


def test_the_header_states_the_origin(tmp_path: Path) -> None:
    done = converted(GOLDEN / "ldm_vq.ckpt", tmp_path)
    about = read_header(done.files["vqgan"])["about"]
    assert about["sha256"] == file_sha256(GOLDEN / "ldm_vq.ckpt") and "latent-diffusion" in about["family"]
    with safe_open(done.files["vqgan"], framework="pt") as file:
        assert not [key for key in file.keys() if key.startswith("loss")]  # noqa: SIM118
    assert any("only training needs" in note for note in done.notes)


def test_the_same_checkpoint_is_converted_to_the_same_bytes(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "ldm_vq.ckpt", tmp_path / "renamed.ckpt")
    shutil.copy(GOLDEN / "ldm_vq.yaml", tmp_path / "renamed.yaml")
    first = converted(GOLDEN / "ldm_vq.ckpt", tmp_path / "a").files["vqgan"]
    second = converted(tmp_path / "renamed.ckpt", tmp_path / "b").files["vqgan"]
    assert first.read_bytes() == second.read_bytes()


def test_shared_tensors_are_an_error_and_not_a_crash(tmp_path: Path) -> None:
    state = load_file(GOLDEN / "diffusers_vq" / "diffusion_pytorch_model.safetensors")
    state["decoder.conv_norm_out.bias"] = state["decoder.conv_norm_out.weight"]
    folder = tmp_path / "shared"
    folder.mkdir()
    shutil.copy(GOLDEN / "diffusers_vq" / "config.json", folder)
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="could not be written"):
        converted(folder, tmp_path / "out")
    save_file({k: v.clone() for k, v in state.items()}, folder / "diffusion_pytorch_model.safetensors")
    assert converted(folder, tmp_path / "out").files
