"""TODO: what this module is.

Split from vqtools.drawing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.media.image import to_tensor
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, CaptionEmbedding
from vqtools.models.vqgan import VQGAN
from vqtools.sampling.settings import SampleSettings, ScoreSettings


def repeat_rows(count: int, tensor: Tensor | None) -> Tensor | None:
    """The same row ``count`` times; a condition that is already so many stays."""
    return tensor if tensor is None or len(tensor) == count else tensor.expand(count, *tensor.shape[1:])


def prefix_tokens(
    gpt: GPT,
    settings: SampleSettings | ScoreSettings,
    device: torch.device,
    load_clip: Callable[[], CLIP] | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """What stands before the codes (1, p, width), and the same without its content, for guidance.

    Where the condition lies on the grid, which is another picture or this one as far as it is known, what stands
    before that; None where nothing does.
    """
    c, prompt = gpt.config, settings.prompt if isinstance(settings, SampleSettings) else ""
    if prompt and not c.text_dim:
        raise UserError(f"prompt {prompt!r}: this transformer reads no captions; leave it away")
    if settings.label and not c.classes:
        raise UserError(f"label {settings.label!r}: this transformer knows no classes; leave it away")
    pairs = c.spatial and c.mask_code < 0
    if settings.condition and not pairs:
        raise UserError(f"condition {settings.condition!r}: this transformer draws from no picture; leave it away")
    if pairs and not settings.condition:
        raise UserError("this transformer draws from another picture's codes; name that picture with condition")
    with torch.no_grad():
        if c.text_dim:
            nothing: Tensor | None = gpt.no_caption
            if not prompt or not isinstance(settings, SampleSettings):
                return nothing, None
            assert load_clip is not None
            clip = load_clip().to(device)
            style = torch.zeros(1, dtype=torch.int64, device=device)
            words = clip.embed_words([prompt], c.words)
            return gpt.prefix(CaptionEmbedding(clip.embed_text([prompt]), words, style)), nothing
        if c.spatial:
            return None, None
        if c.classes:
            label = c.classes if c.has_class_embedding and not settings.label else class_index(gpt, settings.label)
            nothing = gpt.embed_class(torch.tensor([c.classes], device=device)) if c.has_class_embedding else None
            return gpt.embed_class(torch.tensor([label], device=device)), nothing
        return gpt.embed_prefix_codes(torch.zeros(1, 1, dtype=torch.int64, device=device)), None


@torch.no_grad()
def encode_condition(picture: Image.Image, vqgan: VQGAN, gpt: GPT, device: torch.device) -> Tensor:
    """The codes (1, h, w) of a picture that a transformer draws from, by the VQGAN that made those it learned from."""
    codes = vqgan.encode(to_tensor(picture).to(device))
    if int(codes.max()) >= gpt.config.vocab_size:
        raise UserError(
            f"the VQGAN makes code {int(codes.max())} of the condition, but the transformer reads"
            f" {gpt.config.vocab_size}; choose the one that it was trained with"
        )
    return codes


def class_index(gpt: GPT, label: str) -> int:
    """The number of a class by its name or number; UserError lists those that exist."""
    names, count = gpt.config.class_names, gpt.config.classes
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < count:
        return int(label)
    known = f"; there are {', '.join(names)}" if names else f"; there are 0 to {count - 1}"
    raise UserError(f"there is no class {label!r}{known}" if label else f"this transformer draws a class{known}")
