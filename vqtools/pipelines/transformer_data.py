"""Load the data of a transformer's training: pictures as codes, their conditions, and the config that fits them.

Knows folders, a VQGAN and a CLIP; nothing about how the transformer is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vqtools.core.errors import UserError
from vqtools.core.paths import home_folder
from vqtools.models.gpt import GPTConfig
from vqtools.models.vqgan import VQGAN
from vqtools.training.captioner import CAPTION_WORDS, TEXT_TOKENS, Captioner, build_captioner
from vqtools.training.code_dataset import CodeBatches, CropViews, encode_pictures
from vqtools.training.folder_labels import class_names, class_of, find_captions
from vqtools.training.image_dataset import ImageDataset, PictureSource, open_dataset, split_held_out
from vqtools.training.settings import TrainTransformerSettings
from vqtools.weights.load import load_clip


@dataclass(frozen=True)
class TransformerData:
    """What a transformer is trained on: its config, batches to train on, held-out batches, and the pictures."""

    config: GPTConfig
    train: CodeBatches
    held_out: CodeBatches | None
    pictures: ImageDataset


class PictureConditions(NamedTuple):
    """What the pictures are conditioned on; all empty without a class or caption condition."""

    labels: Sequence[int] = ()  # a class for each picture
    class_names: Sequence[str] = ()
    captions: Sequence[Sequence[str]] = ()  # any number for each picture
    captioner: Captioner | None = None


def load_transformer_data(
    s: TrainTransformerSettings, vqgan: VQGAN, sha256: str, device: torch.device, say: Callable[[str], None]
) -> TransformerData:
    """Read the folder's pictures and their conditions, and encode the pictures that are not cached as codes.

    sha256: of the VQGAN's file. say: called with lines of progress. UserError if the folder lacks what the settings
    need.
    """
    side = s.grid * vqgan.f
    pictures = _open_pictures(s.folder, s, side)
    train, held_out = split_held_out(len(pictures), s.seed)
    if len(train) < s.batch_size:
        raise UserError(
            f"{len(train)} pictures to train on are fewer than a batch of {s.batch_size}; add pictures, or lower the "
            "batch size"
        )
    conditions = _load_conditions(s, pictures.sources, device)
    config = build_gpt_config(s, vqgan.config.codebook_size, conditions.class_names, _caption_fields(s))
    paired = _open_paired_pictures(s, pictures, side) if s.others else None
    folder = home_folder() / "codes"

    def batches(indices: list[int], views: CropViews, batch_size: int) -> CodeBatches:
        def report(fraction: float) -> None:
            say(f"encoding pictures to codes: {100 * fraction:.0f} %")

        table = encode_pictures(pictures, indices, views, vqgan, sha256, folder, report)
        others = None
        if paired is not None:
            second = encode_pictures(paired, list(table.indices), views, vqgan, sha256, folder, report)
            if len(second.indices) < len(table.indices):
                name, reason = next(iter(paired.broken.items()))
                raise UserError(f"{s.others}: {name} cannot be read ({reason})")
            others = second.codes
        return CodeBatches(
            table,
            config,
            batch_size,
            seed=s.seed,
            labels=[conditions.labels[i] for i in table.indices] if conditions.labels else (),
            captions=[conditions.captions[i] for i in table.indices] if conditions.captions else (),
            captioner=conditions.captioner,
            others=others,
        )

    train_batches = batches(train, CropViews(s.views, side, s.smallest_crop, s.flip, s.seed), s.batch_size)
    held_out_batches = batches(held_out, CropViews(1, side, 1.0, False, s.seed), 1) if held_out else None
    return TransformerData(config, train_batches, held_out_batches, pictures)


def _open_pictures(folder: str, s: TrainTransformerSettings, side: int) -> ImageDataset:
    return open_dataset(folder, side, s.smallest_crop, s.ground)


def _open_paired_pictures(s: TrainTransformerSettings, pictures: ImageDataset, side: int) -> ImageDataset:
    """The second folder's pictures, in the order of the first's. UserError if one is missing."""
    paired = _open_pictures(s.others, s, side)
    by_stem = {source.name.rpartition(".")[0]: source for source in paired.sources}
    stems = [source.name.rpartition(".")[0] for source in pictures.sources]
    if missing := [stem for stem in stems if stem not in by_stem]:
        raise UserError(
            f"{s.others} has no picture called {missing[0]!r}"
            + (f", nor {len(missing) - 1} others" if missing[1:] else "")
            + f"; each picture of {s.folder} needs one of the same name there"
        )
    paired.sources = [by_stem[stem] for stem in stems]
    return paired


def _load_conditions(
    s: TrainTransformerSettings, sources: Sequence[PictureSource], device: torch.device
) -> PictureConditions:
    """Labels or captions of the pictures, as the settings' condition needs them. UserError if there are none."""
    if s.condition == "class":
        names = class_names(sources)
        if not names:
            raise UserError(
                f"condition class needs pictures in sub-folders, one a class; {s.folder} has "
                f"{len({class_of(source) for source in sources} - {''})} such"
            )
        return PictureConditions([names.index(class_of(source)) for source in sources], names)
    if s.condition == "caption":
        captions = find_captions(Path(s.folder), sources)
        if not any(captions):
            raise UserError(
                f"condition caption needs captions; {s.folder} has none: add a .txt of the same name to each picture"
            )
        captioner = build_captioner(load_clip(s.clip), [text for texts in captions for text in texts], device)
        return PictureConditions(captions=captions, captioner=captioner)
    return PictureConditions()


def _caption_fields(s: TrainTransformerSettings) -> dict[str, Any]:
    """The fields of a config that describe its captions; none without captions."""
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
    """The config of the transformer that the settings describe.

    codes: size of the codebook. text: the fields that describe captions.
    """
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
