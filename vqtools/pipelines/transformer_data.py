"""TODO: what this module is.

Split from vqtools.workshop_transformer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import ImageColor

from vqtools.core.errors import UserError, shorten
from vqtools.core.paths import home_folder
from vqtools.models.gpt import CaptionEmbedding, GPTConfig
from vqtools.models.vqgan import VQGAN
from vqtools.training.captioner import CAPTION_WORDS, TEXT_TOKENS, build_captioner
from vqtools.training.code_dataset import CodeBatches, CropViews, encode_pictures
from vqtools.training.folder_labels import class_names, class_of, find_captions
from vqtools.training.image_dataset import ImageDataset, PictureSource, find_pictures, split_held_out
from vqtools.training.settings import TrainTransformerSettings
from vqtools.weights.load import load_clip


class TransformerData:
    """What is learned: the transformer's config, the batches to train on, and those that are held out."""

    def __init__(
        self, config: GPTConfig, train: CodeBatches, held: CodeBatches | None, pictures: ImageDataset
    ) -> None:  # fmt: skip
        self.config, self.train, self.held, self.pictures = config, train, held, pictures


def load_transformer_data(
    s: TrainTransformerSettings, vqgan: VQGAN, sha256: str, device: torch.device, say: Callable[[str], None]
) -> TransformerData:
    """Read the folder, encode what was not encoded before, and see what the pictures come with."""
    pictures = _open_pictures(s.folder, s, s.grid * vqgan.f)
    sources = pictures.sources
    train, held = split_held_out(len(pictures), s.seed)
    if len(train) < s.batch_size:
        raise UserError(
            f"{len(train)} pictures to train on are fewer than a batch of {s.batch_size}; add pictures, or lower the "
            "batch size"
        )
    labels, names, captions, reader = _load_conditions(s, sources, device)
    config = build_gpt_config(s, vqgan.config.codebook_size, names, _caption_fields(s))
    views = CropViews(s.views, s.grid * vqgan.f, s.smallest_crop, s.flip, s.seed)
    folder = home_folder() / "codes"
    others = _open_paired_pictures(s, pictures, s.grid * vqgan.f) if s.others else None

    def batches(numbers: list[int], cut: CropViews, size: int) -> CodeBatches:
        def told(share: float) -> None:
            say(f"reading pictures as codes: {100 * share:.0f} %")

        table = encode_pictures(pictures, numbers, cut, vqgan, sha256, folder, told)
        second = encode_pictures(others, list(table.numbers), cut, vqgan, sha256, folder, told) if others else None
        if others and second and len(second.numbers) < len(table.numbers):
            name, reason = next(iter(others.broken.items()))
            raise UserError(f"{s.others}: {name} can't be read ({reason})")
        return CodeBatches(
            table, config, min(size, len(table.numbers)) if numbers is held else size, seed=s.seed,
            labels=[labels[n] for n in table.numbers] if labels else (),
            captions=[captions[n] for n in table.numbers] if captions else (),
            captioner=reader, others=second.codes if second else None,
        )  # fmt: skip

    whole = CropViews(1, views.side, 1.0, False, s.seed)
    return TransformerData(
        config, batches(train, views, s.batch_size), batches(held, whole, 1) if held else None, pictures
    )


def _open_pictures(folder: str, s: TrainTransformerSettings, side: int) -> ImageDataset:
    try:
        ground = ImageColor.getrgb(s.ground)[:3]
    except ValueError:
        raise UserError(f"ground {shorten(s.ground)} is no colour; use a name or #rrggbb") from None
    return ImageDataset(find_pictures(Path(folder)), math.ceil(side / s.smallest_crop), ground)


def _open_paired_pictures(s: TrainTransformerSettings, pictures: ImageDataset, side: int) -> ImageDataset:
    """The second folder's pictures, in the order of the first's."""
    second = _open_pictures(s.others, s, side)
    known = {source.name.rpartition(".")[0]: source for source in second.sources}
    wanted = [source.name.rpartition(".")[0] for source in pictures.sources]
    if missing := [name for name in wanted if name not in known]:
        raise UserError(
            f"{s.others} has no picture called {missing[0]!r}"
            + (f", nor {len(missing) - 1} others" if missing[1:] else "")
            + f"; each picture of {s.folder} needs one of its name there"
        )
    second.sources = [known[name] for name in wanted]
    return second


def _load_conditions(
    s: TrainTransformerSettings, sources: Sequence[PictureSource], device: torch.device
) -> tuple[list[int], list[str], list[list[str]], Callable[[Sequence[str]], CaptionEmbedding] | None]:
    """Labels and their names, captions and their reader, as far as they are asked for."""
    if s.condition == "class":
        names = class_names(sources)
        if not names:
            raise UserError(
                f"condition class needs pictures in sub-folders, one a class; {s.folder} has "
                f"{len({class_of(one) for one in sources} - {''})} such"
            )
        return [names.index(class_of(source)) for source in sources], names, [], None
    if s.condition == "caption":
        captions = find_captions(Path(s.folder), sources)
        if not any(captions):
            raise UserError(
                f"condition caption needs captions; {s.folder} has none: put a .txt of its name beside each picture"
            )
        clip = load_clip(s.clip)
        return [], [], captions, build_captioner(clip, [text for texts in captions for text in texts], device)
    return [], [], [], None


def _caption_fields(s: TrainTransformerSettings) -> dict[str, Any]:
    """What a config says of its captions."""
    if s.condition != "caption":
        return {}
    clip = load_clip(s.clip)
    fields: dict[str, Any] = {"text_dim": clip.embed_text([""]).shape[1], "text_tokens": TEXT_TOKENS}
    if clip.supports_word_embeddings:
        fields |= {"words": CAPTION_WORDS, "word_dim": clip.embed_words([""], CAPTION_WORDS).shape[2]}
    return fields


def build_gpt_config(
    s: TrainTransformerSettings, codes: int, class_names: Sequence[str] = (), text: dict[str, Any] | None = None
) -> GPTConfig:
    """The shape of the transformer that the settings ask for, over ``codes`` codes."""
    shape: dict[str, Any] = {"layers": s.layers, "heads": s.heads, "width": s.width, "dropout": s.dropout}
    shape |= {"rotary": s.rotary} | (text or {})
    if s.holes:
        return GPTConfig.for_infilling(codes, s.grid, 1 if s.grid % 2 else 2, **shape)
    cells = s.grid * s.grid
    shape |= {"vocab_size": codes, "grid": s.grid}
    if s.condition == "codes":
        return GPTConfig(prefix_codes=cells, n_unmasked=cells, block_size=2 * cells, **shape)
    if s.condition == "class":
        names = tuple(class_names)
        return GPTConfig(classes=len(names), class_names=names, block_size=cells + 1, **shape)
    if text:
        return GPTConfig(block_size=cells + TEXT_TOKENS + text.get("words", 0), **shape)
    return GPTConfig(prefix_codes=1, block_size=cells + 1, **shape)
