"""The starter CLIP's picture tower: EfficientNet-Lite0, fine-tuned against the distilled text tower.

The texts' embeddings stand still, so that every name of the training set can be a wrong answer in every batch.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer
from PIL import Image, ImageEnhance, ImageFilter
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from recipes.pictures import (
    COLOURS,
    ICONS,
    Picture,
    by_source,
    composite,
    dominant,
    ground,
    square,
    to_tensor,
    turn_hue,
)
from recipes.text import DIM, TEXT_CFG, article, tokenize
from recipes.vqgan import pretrained_tower
from vqtools.models.clip import fold_batch_norms
from vqtools.models.vqgan import VQGAN

SIDE, BATCH = 112, 96
TOO_CLOSE = 0.75  # texts nearer than this are not counted as wrong answers


class TextTower:
    """The distilled tower, frozen: texts -> unit embeddings (n, 384)."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        eos = self.tokenizer.token_to_id("[SEP]")
        size = self.tokenizer.get_vocab_size()
        self.tower = TextTransformer(**TEXT_CFG, vocab_size=size, output_dim=DIM, eos_id=eos).eval()
        self.tower.load_state_dict(load_file(folder / "text.safetensors"))
        self.tower.requires_grad_(False)

    def __call__(self, texts: list[str]) -> Tensor:
        return F.normalize(self.tower(tokenize(self.tokenizer, texts)), dim=1)

    def words(self, texts: list[str], count: int) -> Tensor:
        """Token embeddings (n, count, 128) of the texts' word pieces, zeros where there is none."""
        ids = tokenize(self.tokenizer, texts)[:, 1 : count + 1]
        pad, eos = self.tokenizer.token_to_id("[PAD]"), self.tokenizer.token_to_id("[SEP]")
        return self.tower.token_embedding(ids) * ((ids != pad) & (ids != eos)).unsqueeze(-1)


class PictureTower(nn.Module):
    """Images (b, 3, H, W) in [-1, 1] -> embeddings (b, 384), not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = pretrained_tower().eval()
        self.trunk.reset_classifier(0)  # type: ignore[operator]
        fold_batch_norms(self.trunk)
        self.head = nn.Linear(1280, DIM, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.trunk(images))
        return out


def shown(picture: Picture, rng: random.Random) -> tuple[Image.Image, str, list[str]]:
    """One picture as a cutout may show it, a text for it, and texts that are wrong by a colour alone."""
    if picture.source not in ICONS | {"crawl"}:
        flat = square(composite(picture.pixels, (255, 255, 255)), SIDE, rng.choice([1.0, 1.0, 1.2, 1.5]), rng)
        text = picture.caption if rng.random() < 0.4 else picture.name
        return spoil(flat.transpose(0) if rng.random() < 0.5 else flat, rng), text, []
    pixels, colour_word = picture.pixels, ""
    if rng.random() < 0.3 and dominant(pixels):
        pixels = turn_hue(pixels, rng.randrange(256)) if rng.random() < 0.7 else pixels
        colour_word = dominant(pixels)
    name, colour = ground(rng) if rng.random() < 0.6 else ("white", (255, 255, 255))
    wrong, thing = [], f"{colour_word} {picture.name}".strip()
    text = thing if rng.random() < 0.5 else article(thing)
    others = [c for c in COLOURS if c not in (name, colour_word)]
    if colour_word:
        wrong.append(article(f"{rng.choice(others)} {picture.name}"))
    elif rng.random() < 0.25:
        text = picture.caption
    elif rng.random() < 0.2 and picture.keywords:
        text = rng.choice(picture.keywords)
    if name != "white" and rng.random() < 0.4:
        wrong.append(f"{article(thing)} on a {rng.choice(others)} background")
        if colour_word and colour_word != name:
            wrong.append(f"{article(name + ' ' + picture.name)} on a {colour_word} background")
        text = f"{article(thing)} on a {name} background"
    canvas = Image.fromarray(pixels)
    if rng.random() < 0.5:
        canvas = canvas.transpose(0)
    canvas = canvas.rotate(rng.uniform(-20, 20) if rng.random() < 0.6 else 0, Image.Resampling.BICUBIC)
    flat = Image.new("RGBA", (SIDE, SIDE), (*colour, 255))
    side = round(SIDE * rng.choice([1.0, 1.0, rng.uniform(0.55, 1.0), rng.uniform(1.0, 1.6)]))
    canvas = canvas.resize((side, side), Image.Resampling.BICUBIC)
    slack = (SIDE - side) // 2
    jitter = abs(slack) if slack else 8
    flat.paste(canvas, (slack + rng.randint(-jitter, jitter), slack + rng.randint(-jitter, jitter)), canvas)
    return spoil(flat.convert("RGB"), rng), text, wrong


def spoil(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Blur, and other contrast and saturation, at times."""
    if rng.random() < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.8)))
    for enhance in (ImageEnhance.Contrast, ImageEnhance.Color, ImageEnhance.Brightness):
        if rng.random() < 0.2:
            picture = enhance(picture).enhance(rng.uniform(0.75, 1.25))
    return picture


def textures(tower: PictureTower, text: TextTower, vqgan: VQGAN, names: list[str], seed: int) -> Tensor:
    """What guidance alone makes of random codes for some names: textures that the tower takes for the things.

    Forty steps of unanchored guidance on three scales of cutouts, eight pictures at once; images (n, 3, 96, 96) of
    int8, [-1, 1] times 127. A judge that can be believed must see nothing in them.
    """
    generator = torch.Generator().manual_seed(seed)
    tower.eval().requires_grad_(False)
    out = []
    for start in range(0, len(names), 8):
        meant = text(names[start : start + 8])
        codes = torch.randint(vqgan.config.codebook_size, (len(meant), 12, 12), generator=generator)
        z = vqgan.codes_to_latents(codes).clone().requires_grad_(True)
        adam = torch.optim.Adam([z], lr=0.15)
        for _ in range(40):
            image = vqgan.decode_latents(z + (vqgan.quantize(z.detach()).latents - z.detach())).clamp(-1, 1)
            cuts = [image]
            for side in (80, 64):
                y, x = (int(torch.randint(97 - side, (), generator=generator)) for _ in "yx")
                cuts.append(image[..., y : y + side, x : x + side])
            whole = [F.interpolate(cut, size=(SIDE, SIDE), mode="bilinear", align_corners=False) for cut in cuts]
            seen = torch.stack([F.normalize(tower(one), dim=1) for one in whole])
            loss = 1 - (seen * meant).sum(-1).mean(0).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        out.append(image.detach().mul(127).round().to(torch.int8))
    return torch.cat(out)


class ClipTraining:
    """The picture tower's training as a job."""

    def __init__(self, pictures: list[Picture], text: TextTower, *, seed: int, steps: int) -> None:
        torch.manual_seed(seed)
        self.seed, self.total, self.position = seed, steps, 0
        self.pictures, self.text = by_source(pictures, cap=40), text
        self.tower = PictureTower().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.tower).requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(3.0))
        heads = [*self.tower.head.parameters(), self.scale]
        self.optimiser = torch.optim.AdamW(
            [{"params": list(self.tower.trunk.parameters()), "lr": 2e-4}, {"params": heads, "lr": 1e-3}],
            weight_decay=0.02,
        )
        self.rates = [2e-4, 1e-3]
        self.bank = text(sorted({p.name for p in self.pictures if p.source in ICONS | {"flowers", "pomological"}}))

    def step(self) -> dict[str, float]:
        rng = random.Random(f"{self.seed} clip {self.position}")
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * min(1.0, (self.position + 1) / 100) * max(0.03, 1 - self.position / self.total)
        shots = [shown(p, rng) for p in rng.choices(self.pictures, k=BATCH)]
        images = to_tensor([s[0] for s in shots])
        noise = torch.Generator().manual_seed(rng.randrange(2**60))
        strength = torch.rand(BATCH, 1, 1, 1, generator=noise) * 0.15
        images = images + torch.randn(images.shape, generator=noise) * strength
        out = F.normalize(self.tower(images.contiguous(memory_format=torch.channels_last)), dim=1)
        meant = self.text([s[1] for s in shots])
        wrong = self.text([w for s in shots for w in s[2]] or ["nothing"])
        owner = torch.tensor([i for i, s in enumerate(shots) for _ in s[2]] or [-1])
        # a colour's wrong answer counts for its own picture alone; the bank's and the batch's for all
        others = torch.cat([meant, self.bank])
        close = meant @ others.T > TOO_CLOSE
        close[torch.arange(BATCH), torch.arange(BATCH)] = False
        scale = self.scale.clamp(max=4.6).exp()
        logits = (scale * out @ others.T).masked_fill(close, -torch.inf)
        hard = (scale * out @ wrong.T).masked_fill(owner != torch.arange(BATCH)[:, None], -torch.inf)
        target = torch.arange(BATCH)
        to_text = F.cross_entropy(torch.cat([logits, hard], 1), target)
        to_image = F.cross_entropy(logits[:, :BATCH].T, target)
        # being near the text, not only nearer than to others, is what carries over to names never seen
        near = 1 - (out * meant).sum(1).mean()
        loss = to_text + 0.5 * to_image + 8 * near
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            for mean, now in zip(self.ema.parameters(), self.tower.parameters(), strict=True):
                mean.lerp_(now, 1 - min(0.99, (self.position + 1) / (self.position + 10)))
        self.position += 1
        return {"loss": loss.item(), "scale": scale.item()}

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "tower": self.tower.state_dict(), "scale": self.scale.data,
                "averaged": self.ema.state_dict(), "optimiser": self.optimiser.state_dict()}  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        self.tower.load_state_dict(state["tower"])
        self.ema.load_state_dict(state["averaged"])
        self.scale.data.copy_(state["scale"])
        self.optimiser.load_state_dict(state["optimiser"])


@torch.no_grad()
def recall(tower: PictureTower, text: TextTower, pictures: list[Picture], at: tuple[int, ...] = (1, 5)) -> list[float]:
    """Shares of pictures (112 px, on white) whose own name is among the nearest names of the set."""
    names = sorted({p.name for p in pictures})
    texts = text(names)
    rng = random.Random(0)
    flat = [square(composite(p.pixels, (255, 255, 255)), SIDE, 1.0, rng) for p in pictures]
    out = torch.cat([F.normalize(tower(to_tensor(flat[i : i + 64])), dim=1) for i in range(0, len(flat), 64)])
    rank = (out @ texts.T).argsort(dim=1, descending=True)
    mine = torch.tensor([names.index(p.name) for p in pictures])[:, None]
    return [float((rank[:, :k] == mine).any(1).float().mean()) for k in at]


def export(folder: Path, out: Path) -> None:
    """Write both towers as an open_clip folder, in fp16."""
    text, tower = TextTower(folder), PictureTower()
    tower.load_state_dict(load_file(folder / "clip-steadied.safetensors"))
    tensors = {f"text.{k}": v for k, v in text.tower.state_dict().items()}
    tensors |= {f"visual.trunk.{k}": v for k, v in unfolded(tower.trunk).items()}
    tensors |= {"visual.head.proj.weight": tower.head.weight.data, "logit_scale": torch.tensor(4.0)}
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": {
            "embed_dim": DIM,
            "custom_text": True,
            "vision_cfg": {
                "timm_model_name": "tf_efficientnet_lite0", "timm_model_pretrained": False, "timm_pool": "avg",
                "timm_proj": "linear", "image_size": SIDE,
            },
            "text_cfg": {**TEXT_CFG, "vocab_size": text.tokenizer.get_vocab_size(), "eos_id": text.tower.eos_id},
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"},
    }  # fmt: skip
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    rounded = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(rounded, out / "open_clip_model.safetensors")
    (out / "open_clip_model.safetensors").chmod(0o644)


@torch.no_grad()
def steadied(tower: PictureTower, pictures: list[Picture], text: TextTower, seed: int = 0) -> PictureTower:
    """The tower with half of its head replaced by a ridge regression from its features to the texts of all names.

    The closed form sees every picture at once and knows no batch: it reads names that no training held better, and
    the mean of both heads better than either. The ridge was chosen on 300 names of the training set left out.
    """
    rng, tower, seen = random.Random(seed), tower.eval(), by_source(pictures, cap=20)
    names = sorted({p.name for p in seen})
    meant = dict(zip(names, text(names), strict=True))
    counts = Counter(p.name for p in seen)
    weights = torch.tensor([(1.2 if p.source in ICONS else 0.2) * counts[p.name] ** -0.5 for p in seen])[:, None]
    product: Any = 0
    answer: Any = 0
    for colour in ((255, 255, 255), None):
        for start in range(0, len(seen), 96):
            part = slice(start, start + 96)
            flats = [square(composite(p.pixels, colour or ground(rng)[1]), SIDE, 1.0, rng) for p in seen[part]]
            features = tower.trunk(to_tensor(flats).contiguous(memory_format=torch.channels_last))
            weighted = features * weights[part]
            product = product + weighted.T @ features
            answer = answer + weighted.T @ torch.stack([meant[p.name] for p in seen[part]])
    ridge = 0.03 * product.diag().mean() * torch.eye(len(product))
    regressed = torch.linalg.solve(product + ridge, answer).T
    # both heads count alike: each is divided by the length of its answers
    tower.head.weight.data = sum(
        head / ((head @ product) * head).sum().sqrt() for head in (tower.head.weight, regressed)
    )
    return tower


def unpack(shipped: Path, folder: Path) -> None:
    """The opposite of ``export``: a shipped open_clip folder as the two towers that the trainings go on from."""
    tensors = {k: v.float() for k, v in load_file(shipped / "open_clip_model.safetensors").items()}
    save_file({k[5:]: v for k, v in tensors.items() if k.startswith("text.")}, folder / "text.safetensors")
    plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    trunk = {k[13:]: v for k, v in tensors.items() if k.startswith("visual.trunk.")}
    plain.load_state_dict(trunk, strict=False)  # the norms' step counters are not shipped
    fold_batch_norms(plain)
    tower = {f"trunk.{k}": v.contiguous() for k, v in plain.state_dict().items()}
    save_file(tower | {"head.weight": tensors["visual.head.proj.weight"]}, folder / "clip-steadied.safetensors")
    shutil.copy(shipped / "tokenizer.json", folder)


def unfolded(trunk: nn.Module) -> dict[str, Tensor]:
    """The weights of a trunk with folded batch norms under timm's own names: each norm only adds the bias."""
    plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    out, folded = plain.state_dict(), dict(trunk.named_modules())
    for name, module in plain.named_modules():
        last = None
        for child_name, child in module.named_children():
            full = f"{name}.{child_name}".removeprefix(".")
            if isinstance(child, nn.BatchNorm2d) and last is not None:
                convolution = folded[last]
                out[f"{last}.weight"] = convolution.weight.data
                out[f"{full}.weight"].fill_(1)
                out[f"{full}.bias"] = convolution.bias.data
                out[f"{full}.running_mean"].zero_()
                out[f"{full}.running_var"].fill_(1 - child.eps)
            last = full if isinstance(child, nn.Conv2d) else None
    return out
