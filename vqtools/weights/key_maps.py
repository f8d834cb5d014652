"""Key maps: the names of a network's tensors in other programs' checkpoints, and the config that the tensors imply.

Converts a mapping of tensors (on any device, also meta) to our configs and names. A key map is exact: a key that is
missing or left over, or a shape that does not fit, is an error that names it. Knows nothing about files.

Families: taming-transformers (VQModel, GumbelVQ, VQSegmentationModel, Net2NetTransformer), latent-diffusion
(VQModelInterface, VQModel), diffusers (VQModel, attention under its newer or older names), LlamaGen (VQ and GPT).
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from vqtools.core.errors import UserError
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.weights.gpt_key_maps import from_llamagen, from_minigpt

KeyMap = Callable[[str], str]  # our key, or the beginning of one -> the key in the checkpoint

# keys of losses, plots and redundant buffers, which are ignored, but counted
_TRAINING_KEYS = re.compile(
    r"loss\.perceptual_loss\.(scaling_layer\.(shift|scale)|net\.slice\d\.\d+\.(weight|bias)|lin\d\.model\.\d\.weight)"
    r"|loss\.discriminator\.main\.\d+\.(weight|bias|running_mean|running_var|num_batches_tracked|loc|scale|initialized)"
    r"|quantize\.codebook_used|colorize"
)
_CAUSAL_MASK_KEY = re.compile(r"blocks\.\d+\.attn\.mask")


@dataclass(frozen=True)
class MappedNetwork:
    """A network of a checkpoint. kind: "vqgan", "condition" (a VQGAN of label maps) or "transformer"."""

    kind: str
    family: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    about: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def map_checkpoint(state: Mapping[str, Tensor], config: Mapping[str, Any], kind: str = "") -> list[MappedNetwork]:
    """Return the networks in a checkpoint's tensors, the main one last.

    kind: the kind that must be there. For "vqgan" other networks are ignored, and need no config.
    config: the config beside the file (YAML, or config.json of diffusers), {} for none.

    Raises UserError if no key map fits, or if there is no network of the kind.
    """
    state = _strip_prefix(state, "module.") if all(key.startswith("module.") for key in state) else dict(state)
    try:
        networks = list(_map_by_family(state, config, kind))
    except UserError:
        raise
    except (ValueError, TypeError, IndexError, RuntimeError) as error:  # e.g. an embedding with one dimension
        raise UserError(f"its tensors have impossible shapes ({' '.join(str(error).split())[:120]})") from None
    if kind and kind not in [network.kind for network in networks]:
        raise UserError(f"this is a {networks[0].family}, which contains a {networks[0].kind}; expected a {kind}")
    return networks


def _map_by_family(state: Mapping[str, Tensor], config: Mapping[str, Any], kind: str) -> Iterable[MappedNetwork]:
    if _any_key_starts_with(state, "layers.0.attention.wqkv."):
        return [_map_llamagen_gpt(state, config)]
    if not _any_key_starts_with(state, "first_stage_model."):
        return [map_vqgan(state, config)]
    if _any_key_starts_with(state, "transformer."):
        return _map_net2net(state, config, kind)
    # a complete latent-diffusion model, of which we support the first stage
    first = map_vqgan(_strip_prefix(state, "first_stage_model."), _first_stage_config(config))
    return [replace(first, notes=("only its first stage is converted", *first.notes))]


# -- VQGANs ------------------------------------------------------------------------------------------------------------


def map_vqgan(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> MappedNetwork:
    """Map a VQGAN of any family. Raises UserError if the config contradicts the tensors."""
    family, names = _detect_family(state)
    vqgan_config = _config_from_shapes(state, names, family)
    apply_config = _apply_diffusers_config if family == "diffusers VQModel" else _apply_taming_config
    vqgan_config = apply_config(vqgan_config, config)
    notes = []
    if not config and family != "LlamaGen VQ":
        notes.append("there is no config beside it: its architecture is inferred from the tensors")
    with torch.device("meta"):
        model = VQGAN(vqgan_config)
    tensors, dropped = match_tensors(state, model, names, [_TRAINING_KEYS, re.compile(r"quantize\.used")])
    if dropped:
        notes.append(f"ignored {dropped} tensors that only training needs")
    kind = "vqgan" if vqgan_config.image_channels == 3 else "condition"
    return MappedNetwork(kind, family, vqgan_config.to_dict(), tensors, notes=tuple(notes))


def _detect_family(state: Mapping[str, Tensor]) -> tuple[str, KeyMap]:
    """Return the family of a VQGAN's keys, and its key map."""
    if not _any_key_starts_with(state, "quantize."):
        raise UserError(
            "these tensors have no codebook (quantize.embedding.weight is missing), so this is not a VQGAN; keys begin "
            f"with {_key_roots(state)}"
        )
    if _any_key_starts_with(state, "encoder.conv_blocks."):
        return "LlamaGen VQ", _llamagen_key_map(_count_consecutive(state, "encoder.conv_blocks.{}."))
    if _any_key_starts_with(state, "encoder.down_blocks."):
        old = any(".attentions." in key and ".query." in key for key in state)
        return "diffusers VQModel", _diffusers_key_map(_count_consecutive(state, "encoder.down_blocks.{}."), old)
    if _any_key_starts_with(state, "encoder.down."):
        gumbel = _any_key_starts_with(state, "quantize.proj.") or _any_key_starts_with(state, "quantize.embed.")
        return ("taming GumbelVQ", _gumbel_key) if gumbel else ("taming or latent-diffusion VQModel", str)
    raise UserError("vqtools supports no network with such keys; they begin with " + _key_roots(state))


def _gumbel_key(ours: str) -> str:
    return ours.replace("quantize.embedding.", "quantize.embed.")


def _llamagen_key_map(levels: int) -> KeyMap:
    middle = {"block_1": "0", "attn_1": "1", "block_2": "2"}

    def theirs(ours: str) -> str:
        ours = re.sub(r"^(\w+)\.mid\.(\w+)\.", lambda m: f"{m[1]}.mid.{middle[m[2]]}.", ours)
        ours = re.sub(r"^encoder\.down\.", "encoder.conv_blocks.", ours)
        ours = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.conv_blocks.{levels - 1 - int(m[1])}.", ours)
        return re.sub(r"(conv_blocks\.\d+)\.block\.", r"\1.res.", ours)

    return theirs


def _diffusers_key_map(levels: int, old: bool) -> KeyMap:
    middle = {"block_1": "resnets.0", "attn_1": "attentions.0", "block_2": "resnets.1"}
    attention = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    if old:
        attention |= {"q": "query", "k": "key", "v": "value", "proj_out": "proj_attn"}

    def theirs(ours: str) -> str:
        ours = re.sub(r"(attn\.\d+|attn_1)\.(\w+)\.", lambda m: f"{m[1]}.{attention[m[2]]}.", ours)
        ours = re.sub(r"^(\w+)\.mid\.(\w+)\.", lambda m: f"{m[1]}.mid_block.{middle[m[2]]}.", ours)
        ours = re.sub(r"^encoder\.down\.", "encoder.down_blocks.", ours)
        ours = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.", ours)
        ours = re.sub(r"(_blocks\.\d+)\.block\.", r"\1.resnets.", ours)
        ours = re.sub(r"(_blocks\.\d+)\.attn\.", r"\1.attentions.", ours)
        ours = re.sub(r"\.(down|up)sample\.", r".\1samplers.0.", ours)
        return ours.replace("nin_shortcut", "conv_shortcut").replace("norm_out", "conv_norm_out")

    return theirs


def _config_from_shapes(state: Mapping[str, Tensor], names: KeyMap, family: str) -> VQGANConfig:
    """Infer the config of a VQGAN from the shapes of its tensors."""

    def shape(ours: str) -> torch.Size:
        if (key := names(ours)) not in state:
            raise UserError(f"the key {key} of a {family} is missing")
        if state[key].ndim < 2:
            raise UserError(f"the tensor {key} of a {family} has the shape {tuple(state[key].shape)}")
        return state[key].shape

    levels = _count_consecutive(state, names("encoder.down.{}."))
    blocks = _count_consecutive(state, names("encoder.down.0.block.{}."))
    if not levels or not blocks:
        raise UserError(f"the first level (keys {names('encoder.down.0.block.0.')}…) of a {family} is missing")
    channels = shape("encoder.conv_in.weight")[0]
    widths = [shape(f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(levels)]
    if any(width % channels for width in widths):
        raise UserError(f"levels of {widths} channels are not multiples of the first convolution's {channels}")
    attention = [i for i in range(levels) if _any_key_starts_with(state, names(f"encoder.down.{i}.attn.0.norm.")[:-1])]
    codes, embed_dim = shape("quantize.embedding.weight")[:2]
    default = VQGANConfig()
    return VQGANConfig(
        channels=channels,
        channel_mult=tuple(width // channels for width in widths),
        res_blocks=blocks,
        attn_resolutions=tuple(default.resolution >> i for i in attention),
        z_channels=shape("encoder.conv_out.weight")[0],
        embed_dim=embed_dim,
        codebook_size=codes,
        mid_attention=_any_key_starts_with(state, names("encoder.mid.attn_1.norm.")[:-1]),
        metric="cosine" if family == "LlamaGen VQ" else "euclidean",
        quantizer="gumbel" if family == "taming GumbelVQ" else "nearest",
        image_channels=shape("encoder.conv_in.weight")[1],
    )


def _apply_taming_config(ours: VQGANConfig, config: Mapping[str, Any]) -> VQGANConfig:
    """Take the nominal resolution from a YAML config. Raises UserError if another field contradicts the tensors."""
    params = get_nested(config, "model", "params")
    shape = get_nested(params, "ddconfig")
    if not shape:
        return ours
    if shape.get("tanh_out"):
        raise UserError("its yaml uses tanh_out, which vqtools does not support")
    resolution = shape.get("resolution", ours.resolution)
    if not isinstance(resolution, int) or resolution < ours.f:
        raise UserError(
            f"its yaml's resolution {short_repr(resolution)}: must be a number of pixels, at least {ours.f}"
        )
    levels = [i for i in range(len(ours.channel_mult)) if VQGANConfig().resolution >> i in ours.attn_resolutions]
    attention = tuple(resolution // 2**i for i in levels)
    stated = {
        "ch": (shape.get("ch"), ours.channels),
        "ch_mult": (_tuple_to_list(shape.get("ch_mult")), list(ours.channel_mult)),
        "num_res_blocks": (shape.get("num_res_blocks"), ours.res_blocks),
        "z_channels": (shape.get("z_channels"), ours.z_channels),
        "in_channels": (shape.get("in_channels"), ours.image_channels),
        "embed_dim": (params.get("embed_dim"), ours.embed_dim),
        "n_embed": (params.get("n_embed"), ours.codebook_size),
    }
    _check_against_config(stated, "its yaml")
    stated_attention = _tuple_to_list(shape.get("attn_resolutions"))
    if isinstance(stated_attention, list):
        sides = [resolution // 2**i for i in range(len(ours.channel_mult))]
        reached = [side for side in sides if side in stated_attention]
        _check_against_config({"attn_resolutions": (reached, list(attention))}, "its yaml")
    return replace(ours, resolution=resolution, attn_resolutions=attention)


def _apply_diffusers_config(ours: VQGANConfig, config: Mapping[str, Any]) -> VQGANConfig:
    """Take the norms' groups from a config.json. Raises UserError if another field contradicts the tensors."""
    for name, only in (("norm_type", "group"), ("act_fn", "silu")):
        if (value := config.get(name, only)) != only:
            raise UserError(f"its config.json uses {name} {short_repr(value)}; vqtools supports only {only!r}")
    block_out_channels = _tuple_to_list(config.get("block_out_channels"))
    stated = {
        "in_channels": (config.get("in_channels"), ours.image_channels),
        "block_out_channels": (block_out_channels, [ours.channels * m for m in ours.channel_mult]),
        "layers_per_block": (config.get("layers_per_block"), ours.res_blocks),
        "latent_channels": (config.get("latent_channels"), ours.z_channels),
        "num_vq_embeddings": (config.get("num_vq_embeddings"), ours.codebook_size),
        "vq_embed_dim": (config.get("vq_embed_dim"), ours.embed_dim),
    }
    _check_against_config(stated, "its config.json")
    groups = config.get("norm_num_groups", ours.norm_groups)
    if not isinstance(groups, int) or groups < 1 or ours.channels % groups:
        raise UserError(
            f"{ours.channels} channels cannot be normalised in {short_repr(groups)} groups; put its own config.json "
            "beside it, which states norm_num_groups"
        )
    return replace(ours, norm_groups=groups)


def _check_against_config(stated: Mapping[str, tuple[Any, Any]], origin: str) -> None:
    """Raise UserError unless each field of a config that is not None equals the value of the tensors."""
    for name, (value, actual) in stated.items():
        if value is not None and value != actual:
            raise UserError(
                f"{origin} says {name} {short_repr(value)}, but the tensors have {short_repr(actual)}: it belongs to "
                "another checkpoint; remove it, or replace it with the right one"
            )


# -- transformers ------------------------------------------------------------------------------------------------------


def _map_net2net(state: Mapping[str, Tensor], config: Mapping[str, Any], kind: str) -> Iterable[MappedNetwork]:
    """Yield the first stage of a Net2NetTransformer, and unless kind is "vqgan", its label maps' VQGAN and its GPT."""
    inner = ("first_stage_model.", "cond_stage_model.", "transformer.")
    if left := sorted(key for key in state if not key.startswith(inner)):
        raise UserError(f"left-over keys in a taming Net2NetTransformer: {_join_first(left)}")
    first = _strip_prefix(state, "first_stage_model.")
    yield map_vqgan(first, _first_stage_config(config))
    if kind == "vqgan":
        return
    if not config:
        raise UserError(
            "a transformer's heads and condition cannot be inferred from its tensors; put its yaml beside the "
            "checkpoint"
        )
    condition = _strip_prefix(state, "cond_stage_model.")
    if condition:
        target = get_nested(config, "model", "params", "cond_stage_config")
        yield replace(map_vqgan(condition, {"model": target}), kind="condition")
    yield _map_minigpt(_strip_prefix(state, "transformer."), config, first)


def _map_minigpt(state: Mapping[str, Tensor], config: Mapping[str, Any], first: Mapping[str, Tensor]) -> MappedNetwork:
    """Map the transformer of a Net2NetTransformer. first: the tensors of its first stage."""
    if "quantize.used" in first:
        raise UserError("its first stage renumbers the codes (remap), which vqtools does not support")
    params = get_nested(config, "model", "params")
    shape, condition = get_nested(params, "transformer_config", "params"), _condition_from_config(params)
    block = state["pos_emb"].shape[1] if "pos_emb" in state and state["pos_emb"].ndim == 3 else 0
    width, heads = state["tok_emb.weight"].shape[-1] if "tok_emb.weight" in state else 0, shape.get("n_head")
    stated = {
        "block_size": (shape.get("block_size"), block),
        "n_layer": (shape.get("n_layer"), _count_consecutive(state, "blocks.{}.")),
        "n_embd": (shape.get("n_embd"), width),
    }
    _check_against_config(stated, "its yaml")
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise UserError(f"its yaml's n_head {short_repr(heads)} does not divide the width {width}")
    for key, value in state.items():
        if _CAUSAL_MASK_KEY.fullmatch(key) and value.shape != (1, 1, block, block):
            raise UserError(f"transformer.{key} has the shape {tuple(value.shape)}; expected (1, 1, {block}, {block})")
    grid, codebook = _grid_side(params, block), get_nested(params, "first_stage_config", "params").get("n_embed")
    # a start code, a class, or another image's codes
    prefix_codes = 1 if condition["kind"] in ("sos", "class") else grid**2
    gpt_config, tensors = from_minigpt(
        state,
        heads,
        grid=grid,
        prefix_codes=prefix_codes,
        classes=condition.get("classes") or 0,
        codes=_int_or_none(codebook) or 0,
        n_unmasked=_int_or_none(shape.get("n_unmasked")) or 0,
    )
    gpt_config = replace(gpt_config, codes=gpt_config.codes if gpt_config.codes < gpt_config.vocab_size else 0)
    with torch.device("meta"):
        model = GPT(gpt_config)
    tensors, _ = match_tensors(tensors, model, str, [], prefix="transformer.")
    about = {"condition": condition}
    return MappedNetwork("transformer", "taming Net2NetTransformer", gpt_config.to_dict(), tensors, about)


def _map_llamagen_gpt(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> MappedNetwork:
    """Map a class-conditional transformer of LlamaGen."""
    heads, block = _int_or_none(config.get("n_head")), _int_or_none(config.get("block_size"))
    if not heads or not block:
        raise UserError(
            "this is a LlamaGen GPT, whose heads and grid cannot be inferred from its tensors; put a yaml beside it "
            "that states n_head and block_size (256 for a grid of 16 by 16)"
        )
    gpt_config, tensors = from_llamagen(state, heads, isqrt(block))
    width = gpt_config.width
    if width % heads or isqrt(block) ** 2 != block:
        raise UserError(f"its yaml's n_head {heads} does not divide the width {width}, or {block} is not a square")
    with torch.device("meta"):
        model = GPT(gpt_config)
    tensors, _ = match_tensors(tensors, model, str, [])
    about = {"condition": {"kind": "class"}}
    return MappedNetwork("transformer", "LlamaGen GPT", gpt_config.to_dict(), tensors, about)


def _grid_side(params: Mapping[str, Any], block: int) -> int:
    """Return the side of the grid in training: the nominal resolution of the first stage divided by its f."""
    first = get_nested(params, "first_stage_config", "params", "ddconfig")
    resolution, levels = first.get("resolution"), _tuple_to_list(first.get("ch_mult"))
    if isinstance(resolution, int) and isinstance(levels, list) and levels:
        return max(resolution >> (len(levels) - 1), 1)
    return isqrt(block)


def _condition_from_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the condition of a transformer, from ``cond_stage_config``, as plain data."""
    stage, values = params.get("cond_stage_config"), get_nested(params, "cond_stage_config", "params")
    target = stage if isinstance(stage, str) else get_nested(params, "cond_stage_config").get("target")
    name = target.rsplit(".", 1)[-1] if isinstance(target, str) else ""
    if name in ("SOSProvider", "__is_unconditional__"):
        return {"kind": "sos", "token": _int_or_none(values.get("sos_token", params.get("sos_token"))) or 0}
    if name == "Labelator":
        return {"kind": "class", "classes": _int_or_none(values.get("n_classes"))}
    if name == "CoordStage":
        return {
            "kind": "coordinates",
            "codes": _int_or_none(values.get("n_embed")),
            "f": _int_or_none(values.get("down_factor")),
        }
    if name == "VQSegmentationModel":
        return {"kind": "segmentation", "labels": _int_or_none(values.get("n_labels"))}
    if name in ("VQModel", "GumbelVQ", "__is_first_stage__"):
        key = params.get("cond_stage_key")
        return {"kind": "codes", "of": key if isinstance(key, str) else ""}
    raise UserError(f"its yaml's condition {short_repr(name)} is not supported (cond_stage_config)")


# -- applying key maps -------------------------------------------------------------------------------------------------


def match_tensors(
    state: Mapping[str, Tensor],
    model: nn.Module,
    names: KeyMap,
    ignored: Iterable[re.Pattern[str]],
    prefix: str = "",
) -> tuple[dict[str, Tensor], int]:
    """Return the tensors of ``model`` under our names, and the number of ignored tensors.

    Raises UserError, which names the keys with ``prefix``, for missing, left-over and misshapen tensors.
    """
    expected = model.state_dict()
    table = {names(ours): ours for ours in expected}
    dropped = {key for key in state if key not in table and any(pattern.fullmatch(key) for pattern in ignored)}
    missing = sorted(prefix + key for key in table.keys() - state.keys())
    left_over = sorted(prefix + key for key in state.keys() - table.keys() - dropped)
    if missing or left_over:
        problems = {"missing keys": missing, "left-over keys": left_over}
        details = "; ".join(f"{problem}: {_join_first(keys)}" for problem, keys in problems.items() if keys)
        raise UserError(f"the tensors are not those of the network that they seem to be; {details}")
    tensors = {}
    for theirs, ours in table.items():
        value, shape = state[theirs], expected[ours].shape
        if value.ndim == 2 and len(shape) == 4 and shape[2:] == (1, 1):  # a linear layer as a 1×1 convolution
            value = value[:, :, None, None]
        if value.shape != shape or not value.is_floating_point():
            actual = f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
            raise UserError(f"{prefix}{theirs} is {actual}; expected {tuple(shape)} of floats")
        tensors[ours] = value
    return tensors, len(dropped)


def get_nested(config: Any, *path: str) -> Mapping[str, Any]:
    """Return the mapping at a path of keys, {} if there is none."""
    for key in path:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def _first_stage_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    stage = get_nested(config, "model", "params", "first_stage_config")
    return {"model": stage} if stage else {}


def short_repr(value: Any) -> str:
    """Return a short repr of a value from a config, without building the full one, which YAML aliases can make huge."""
    return reprlib.repr(value)


def _int_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _tuple_to_list(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _any_key_starts_with(state: Iterable[str], beginning: str) -> bool:
    return any(key.startswith(beginning) for key in state)


def _count_consecutive(state: Iterable[str], pattern: str) -> int:
    """Return how many consecutive numbers from 0 occur in the place of {} at the beginning of keys."""
    return next(i for i in count() if not _any_key_starts_with(state, pattern.format(i)))


def _strip_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _key_roots(state: Iterable[str]) -> str:
    return _join_first(sorted({key.split(".")[0] for key in state}))


def _join_first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
