"""Puts transformer, window and VQGAN together: what `vqtools.sample` and `vqtools.score` call.

Knows pictures and settings; the walk of the window is the sampler's.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from vqtools import media, networks
from vqtools.device import Machine, choose_machine
from vqtools.media import resize_and_crop
from vqtools.models.clip import CLIP
from vqtools.models.decoding import decode_any_size
from vqtools.models.gpt import GPT, CaptionEmbedding, pack_linear_layers
from vqtools.models.vqgan import VQGAN
from vqtools.networks import resolve_path
from vqtools.records import build_record
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.sampling.score import Scorer
from vqtools.sampling.settings import SampleSettings, ScoreSettings
from vqtools.sampling.window import Cell, Origin, Window, cells_beside_seam, choose_flips, growth_corners
from vqtools.settings import UserError, check_size
from vqtools.weights import files
from vqtools.weights.files import file_sha256

UNDRAWN_COLOUR = (127, 127, 127)
CROPS = 5  # of a wide picture that the CLIP looks at, beside the whole
WRAP_CODES = 8  # codes beyond each border that the decoder sees of a seamless picture


@dataclass(frozen=True)
class GivenPicture:
    """A given picture as the sampler takes it: its codes (1, h, w), which of them stay, how it was turned."""

    codes: Tensor
    known: Tensor  # (h, w)
    flipped: tuple[bool, bool]  # upside down, left to right


@dataclass(frozen=True)
class SamplingPass:
    """One walk of the window, over the grid from a corner on."""

    corner: Origin
    known: Tensor  # (h, w), of the whole grid
    rolled: bool = False  # by half the picture's width, so that its seam is in the middle

    def of(self, grid: Tensor) -> Tensor:
        """The part (…, h, w) of the whole grid that is walked over."""
        return grid[..., self.corner[0] :, self.corner[1] :]

    def whole(self, part: Tensor) -> Tensor:
        """The part as the whole grid, 0 outside it."""
        return F.pad(part, (self.corner[1], 0, self.corner[0], 0))


class SampleJob:
    """A picture from a transformer, as a job; ``step()`` draws the codes that can be drawn together.

    Where a picture grows upwards or to the left, and the transformer reads what is known around a cell, it is drawn in
    passes, from what is known outwards. A seamless one gets a last pass, rolled by half its width, which draws a strip
    over the seam anew. Of several grids the first is shown, until all are drawn and the CLIP has chosen.
    """

    def __init__(
        self, settings: SampleSettings, vqgan: VQGAN, gpt: GPT, machine: Machine, models: Mapping[str, Any]
    ) -> None:
        seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
        self.settings = settings.model_copy(update={"seed": seed})
        self.vqgan, self.gpt, self.machine, self.models = vqgan.to(machine.device), gpt, machine, dict(models)
        self.inputs: dict[str, str] = {}
        self.width, self.height = (side // vqgan.f for side in settings.size)
        if settings.grids > 1 and not settings.prompt:
            raise UserError(
                f"grids {settings.grids}: the CLIP chooses among them by a prompt; write one, or set grids 1"
            )
        self._tokens = prefix_tokens(gpt, settings, machine.device)
        self.shown = 0  # which of the grids
        self.start = self._given() if settings.complete else None
        self.condition = self._conditioned() if settings.condition else None
        self.passes = self._planned()
        self._begin(0, None if self.start is None else self.start.codes)
        self._waves = [self.sampler.total, *map(self._length, self.passes[1:])]
        self.total = sum(self._waves)

    @property
    def position(self) -> int:
        """Waves of codes drawn."""
        return sum(self._waves[: self._pass]) + self.sampler.position

    def step(self) -> dict[str, float]:
        """Draw the next codes."""
        if self.sampler.position == self.sampler.total and self._pass + 1 < len(self.passes):
            turn = -(self.width // 2) if self.passes[self._pass + 1].rolled else 0
            self._begin(self._pass + 1, self._upright(self.sampler.codes).roll(turn, 2))
        report = self.sampler.step()
        self._choose()
        return report

    def _choose(self) -> None:
        """Of several grids that are all drawn, show the one that the CLIP likes best."""
        if self.settings.grids > 1 and self.position == self.total:
            clip = networks.load_clip(self.settings.clip).to(self.machine.device)
            pictures = torch.cat([self._decoded(grid[None]) for grid in self._upright(self.sampler.codes)])
            self.shown = int(clip_similarity(clip, pictures, self.settings.prompt).argmax())

    def _planned(self) -> list[SamplingPass]:
        nothing = torch.zeros(self.height, self.width, dtype=torch.bool)
        known, side, passes = (
            nothing if self.start is None else self.start.known,
            self.gpt.config.grid,
            list[SamplingPass](),
        )
        cells = known.nonzero().tolist() if self.gpt.config.mask_code >= 0 else []
        for corner in growth_corners(map(tuple, cells), side):
            passes.append(SamplingPass(corner, known))
            known = known.clone()
            passes[-1].of(known)[:] = True
        if self.settings.seamless:
            strip = cells_to_mask(cells_beside_seam(self.height, self.width, side), self.height, self.width)
            passes.append(SamplingPass((0, 0), strip, rolled=True))
        return passes

    def _length(self, walk: SamplingPass) -> int:
        """The waves of a pass."""
        known, config = walk.of(walk.known), self.gpt.config
        window = Window(known.shape[0], known.shape[1], config.grid, config.prefix, self.sampler.window.stride)
        return len(window.waves(window.cells(map(tuple, known.nonzero().tolist()))))

    def _begin(self, index: int, codes: Tensor | None) -> None:
        """Go on to a pass; codes (1 or grids, h, w): of the whole grid, rolled as the pass is."""
        self._pass = index
        walk, turn = self.passes[index], -(self.width // 2) if self.passes[index].rolled else 0
        given = None if codes is None else walk.of(codes)
        condition = None if self.condition is None else walk.of(self.condition.roll(turn, 2))
        self.sampler = self._sampler(given, walk.of(walk.known), condition, index)

    def _sampler(self, given: Tensor | None, known: Tensor, condition: Tensor | None, turn: int) -> Sampler:
        s, config = self.settings, self.gpt.config
        tokens, unconditional = self._tokens
        caption = tokens if config.spatial else None
        if condition is None and config.spatial:
            unknown = torch.full((1, *known.shape), config.mask_code, device=self.machine.device)
            condition = unknown if given is None else torch.where(known.to(given.device), given, unknown)
        elif condition is None:
            condition = tokens
        assert s.seed is not None and condition is not None
        condition, caption, unconditional = (repeat_rows(s.grids, one) for one in (condition, caption, unconditional))
        noise = cell_noise(s.seed, s.grids, config.num_codes, turn)
        assert condition is not None
        try:
            return Sampler(
                self.gpt, known.shape[0], known.shape[1], condition, noise=noise,
                caption=caption, unconditional=unconditional, guidance=s.guidance, given=given, known=known,
                temperature=s.temperature, top_k=s.top_k, top_p=s.top_p, stride=(s.stride, s.stride),
                memory=s.memory * 1e9,
            )  # fmt: skip
        except ValueError as error:
            raise UserError(str(error)) from None

    def _given(self) -> GivenPicture:
        """The given picture on a canvas of the wanted size, turned so that what is missing comes last."""
        s, f = self.settings, self.vqgan.f
        picture = self._load("complete", s.complete)
        if s.mask:
            mask = self._load("mask", s.mask)
            if mask.size != picture.size:
                raise UserError(f"mask {format_size(mask)}: must be of the picture's size, {format_size(picture)}")
            holes = np.asarray(resize_and_crop(mask, s.size).convert("L")).reshape(self.height, f, self.width, f)
            canvas, known = resize_and_crop(picture, s.size), torch.from_numpy(holes.max((1, 3)) < 128)
        elif s.keep == "whole":
            canvas, known = self._placed(picture)
        else:
            canvas, known = resize_and_crop(picture, s.size), half_mask(s.keep, self.height, self.width)
        below, right = choose_flips(
            ((row, column) for row, column in known.nonzero().tolist()), self.height, self.width
        )
        # who reads the picture with its holes learned mirrored pictures too, but none upside down
        flipped = (below and self.gpt.config.mask_code < 0, right)
        with torch.no_grad():
            codes = self.vqgan.encode(media.to_tensor(flip_picture(canvas, flipped)).to(self.machine.device))
        return GivenPicture(codes, known.flip([axis for axis in (0, 1) if flipped[axis]]), flipped)

    def _conditioned(self) -> Tensor:
        """The codes (1, h, w) of the picture to draw from, turned as the given one is."""
        picture = resize_and_crop(self._load("condition", self.settings.condition), self.settings.size)
        flipped = self.start.flipped if self.start else (False, False)
        return encode_condition(flip_picture(picture, flipped), self.vqgan, self.gpt, self.machine.device)

    def _load(self, name: str, path: str) -> Image.Image:
        picture = media.load_picture(path)
        self.inputs[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return picture

    def _placed(self, picture: Image.Image) -> tuple[Image.Image, Tensor]:
        """The whole picture somewhere on the canvas, on whole codes."""
        s, f = self.settings, self.vqgan.f
        inner = (picture.width // f, picture.height // f)
        room = (self.width - inner[0], self.height - inner[1])
        if min(inner) < 1 or min(room) < 0:
            wanted = f"{s.size[0]}x{s.size[1]}"
            raise UserError(f"a picture of {format_size(picture)} cannot stand whole in {wanted}; choose another size")
        left = {"left": 0, "right": room[0]}.get(s.place, room[0] // 2)
        top = {"top": 0, "bottom": room[1]}.get(s.place, room[1] // 2)
        canvas = Image.new("RGB", s.size, UNDRAWN_COLOUR)
        canvas.paste(resize_and_crop(picture, (inner[0] * f, inner[1] * f)), (left * f, top * f))
        known = torch.zeros(self.height, self.width, dtype=torch.bool)
        known[top : top + inner[1], left : left + inner[0]] = True
        return canvas, known

    @property
    def codes(self) -> Tensor:
        """The codes (1, h, w) as they stand, turned and rolled as the picture shall be."""
        return self._upright(self.sampler.codes)[self.shown : self.shown + 1]

    def _upright(self, part: Tensor) -> Tensor:
        """What the sampler has, as the whole grid."""
        walk = self.passes[self._pass]
        return walk.whole(part).roll(self.width // 2 if walk.rolled else 0, -1)

    def picture(self) -> Image.Image:
        """The picture as it stands."""
        picture = media.to_picture(self._decoded(self.codes))
        return picture if self.start is None else flip_picture(picture, self.start.flipped)

    @torch.no_grad()
    def _decoded(self, codes: Tensor) -> Tensor:
        """Codes (1, h, w) of the whole grid -> (1, 3, H, W) in [-1, 1], not turned."""
        pad = min(WRAP_CODES, self.width) if self.settings.seamless else 0
        if pad:
            codes = torch.cat([codes[:, :, -pad:], codes, codes[:, :, :pad]], 2)
        edge = pad * self.vqgan.f
        return decode_any_size(self.vqgan, codes)[..., edge : edge + self.settings.size[0]].clamp(-1, 1)

    def preview(self) -> Image.Image:
        """The picture as it stands, grey where nothing is drawn yet, with the windows of the codes just drawn."""
        f, picture = self.vqgan.f, self.picture()
        drawn = self._upright(self.sampler.drawn)
        outline = Image.new("L", picture.size)
        if 0 < self.sampler.position < self.sampler.total:
            pen, side = ImageDraw.Draw(outline), self.gpt.config.grid
            row, column = self.passes[self._pass].corner
            for cell in self.sampler.waves[self.sampler.position - 1]:
                top, left = self.sampler.window.origin(*cell)
                top, left = top + row, left + column
                box = (left * f, top * f, (left + side) * f - 1, (top + side) * f - 1)
                pen.rectangle(box, outline=255, width=max(1, f // 4))
        empty = Image.fromarray((~drawn).numpy().astype(np.uint8) * 255).resize(picture.size, Image.Resampling.NEAREST)
        if self.start is not None:
            empty, outline = (flip_picture(one, self.start.flipped) for one in (empty, outline))
        picture.paste(UNDRAWN_COLOUR, mask=empty)
        picture.paste((255, 255, 255), mask=outline)
        return picture

    def record(self) -> dict[str, Any]:
        """All that the same picture can be made from again, for the PNG."""
        return build_record(self, activity="sample", inputs=self.inputs)

    def state_dict(self) -> dict[str, Any]:
        return {"pass": self._pass, "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a drawing with the same settings."""
        walk = self.passes[state["pass"]]
        codes = state["sampler"]["codes"][:, :, : self.width - walk.corner[1]].to(self.machine.device)
        self._begin(state["pass"], walk.whole(codes))
        self.sampler.load_state_dict(state["sampler"])
        self.shown = 0
        self._choose()


class ScoreJob(Scorer):
    """How surprising a transformer finds a picture, as a job; ``step()`` reads one window."""

    def __init__(self, settings: ScoreSettings, picture: Image.Image, vqgan: VQGAN, gpt: GPT, machine: Machine) -> None:
        f = vqgan.f
        inner = (picture.width // f * f, picture.height // f * f)
        if min(inner) < f:
            raise UserError(f"a picture of {format_size(picture)} is less than one code of {f}x{f} pixels")
        self.image = resize_and_crop(picture, inner)
        with torch.no_grad():
            codes = vqgan.to(machine.device).encode(media.to_tensor(self.image).to(machine.device))
        condition, _ = prefix_tokens(gpt, settings, machine.device)
        caption = condition if gpt.config.spatial else None
        if settings.condition:
            beside = resize_and_crop(media.load_picture(settings.condition), inner)
            condition = encode_condition(beside, vqgan, gpt, machine.device)
        elif gpt.config.spatial:  # nothing is known beforehand: that is what a picture from nothing is drawn from
            condition = torch.full_like(codes, gpt.config.mask_code)
        assert condition is not None
        try:
            super().__init__(gpt, codes, condition, (settings.stride, settings.stride), caption)
        except ValueError as error:
            raise UserError(str(error)) from None

    @property
    def bits(self) -> float:
        """Bits a code; 2 to their power is the perplexity."""
        return float(self.nats.nanmean()) / math.log(2)

    def heat_map(self) -> Image.Image:
        """The picture, and beside it the surprise of each code: black for none, over red to white for the most."""
        share = (self.nats[0] / self.nats[0].nan_to_num().max().clamp(min=1e-9)).nan_to_num().clamp(0, 1)
        channels = [(3 * share - start).clamp(0, 1) for start in range(3)]
        heat = media.to_picture(torch.stack(channels) * 2 - 1).resize(self.image.size, Image.Resampling.NEAREST)
        return media.contact_sheet([self.image, heat])


def repeat_rows(count: int, tensor: Tensor | None) -> Tensor | None:
    """The same row ``count`` times; a condition that is already so many stays."""
    return tensor if tensor is None or len(tensor) == count else tensor.expand(count, *tensor.shape[1:])


@torch.no_grad()
def clip_similarity(clip: CLIP, images: Tensor, prompt: str) -> Tensor:
    """How well pictures (n, 3, H, W) in [-1, 1] fit a text: mean cosine (n,) of the whole and of squares along it."""
    height, width = images.shape[2:]
    side = min(height, width)
    views = [images]
    for k in range(CROPS if height != width else 0):
        top, left = (round(k * (length - side) / (CROPS - 1)) for length in (height, width))
        views.append(images[:, :, top : top + side, left : left + side])
    text, found = clip.embed_text([prompt])[0], images.new_zeros(len(images))
    for view in views:
        small = F.interpolate(view.add(1).div(2), size=(clip.size,) * 2, mode="bicubic", antialias=True)
        found += clip.embed_image(small.clamp(0, 1)) @ text / len(views)
    return found


def prefix_tokens(
    gpt: GPT, settings: SampleSettings | ScoreSettings, device: torch.device
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
            clip = networks.load_clip(settings.clip).to(device)
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
    codes = vqgan.encode(media.to_tensor(picture).to(device))
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


def load_sampling_networks(
    settings: SampleSettings | ScoreSettings, machine: Machine
) -> tuple[VQGAN, GPT, dict[str, Any]]:
    """VQGAN, transformer and the record of both; UserError where they do not belong together."""
    paths = {kind: resolve_path(kind, getattr(settings, kind)) for kind in ("vqgan", "transformer")}
    trained = files.read_header(paths["transformer"])["about"]
    if isinstance(settings, SampleSettings) and settings.prompt and "/" not in settings.clip:
        paths["clip"] = resolve_path("clip", settings.clip)
    models = {kind: {"name": getattr(settings, kind), "sha256": file_sha256(path)} for kind, path in paths.items()}
    for kind in set(paths) & {"vqgan", "clip"}:
        if trained.get(kind) not in (None, "", models[kind]["sha256"]):
            raise UserError(f"the transformer {settings.transformer!r} was trained with another {kind}; choose its own")
    vqgan, gpt = networks.load_vqgan(settings.vqgan), networks.load_transformer(settings.transformer)
    if gpt.config.num_codes > vqgan.config.codebook_size:
        raise UserError(
            f"the transformer {settings.transformer!r} draws {gpt.config.num_codes} codes, but the VQGAN"
            f" {settings.vqgan!r} has {vqgan.config.codebook_size}; choose the one that it was trained with"
        )
    gpt = gpt.to(machine.device)
    narrow = machine.precision != "fp32"
    return vqgan, deepcopy(gpt).to(machine.dtype) if narrow else pack_linear_layers(gpt), models


def create_sample_job(settings: SampleSettings, *, threads: int | None = None) -> SampleJob:
    """A drawing ready to be stepped, its networks found by the settings' names."""
    machine = choose_machine(precision=settings.precision, threads=threads)
    vqgan, gpt, models = load_sampling_networks(settings, machine)
    check_size(settings.size, vqgan.f)
    return SampleJob(settings, vqgan, gpt, machine, models)


def sample(prompt: str = "", **fields: Any) -> Image.Image:
    """A picture from a transformer; every field of SampleSettings is a keyword. Its record is in ``picture.info``."""
    job = create_sample_job(SampleSettings.parse({"prompt": prompt, **fields}).quick())
    while job.position < job.total:
        job.step()
    picture = job.picture()
    picture.info["vqtools"] = job.record()
    return picture


def create_score_job(picture: Image.Image, settings: ScoreSettings) -> ScoreJob:
    """A scoring ready to be stepped."""
    machine = choose_machine(precision="fp32")
    vqgan, gpt, _ = load_sampling_networks(settings, machine)
    return ScoreJob(settings, picture, vqgan, gpt, machine)


def score(picture: Image.Image | str | Path, **fields: Any) -> ScoreJob:
    """How surprising a picture is: ``.bits`` a code, ``.nats`` (1, h, w) and ``.heat_map()``."""
    loaded = picture if isinstance(picture, Image.Image) else media.load_picture(picture)
    job = create_score_job(loaded, ScoreSettings.parse(fields))
    while job.position < job.total:
        job.step()
    return job


def half_mask(keep: str, height: int, width: int) -> Tensor:
    """The cells (h, w) of one half of a grid."""
    known = torch.zeros(height, width, dtype=torch.bool)
    rows = {"upper": slice(height // 2), "lower": slice(height // 2, None)}.get(keep, slice(None))
    columns = {"left": slice(width // 2), "right": slice(width // 2, None)}.get(keep, slice(None))
    known[rows, columns] = True
    return known


def cells_to_mask(cells: set[Cell], height: int, width: int) -> Tensor:
    """Cells -> (h, w), true for each of them."""
    known = torch.zeros(height, width, dtype=torch.bool)
    if cells:
        rows, columns = torch.tensor(sorted(cells)).T
        known[rows, columns] = True
    return known


def flip_picture(picture: Image.Image, flipped: tuple[bool, bool]) -> Image.Image:
    """A picture turned upside down, left to right, or both."""
    ways = (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_LEFT_RIGHT)
    for way, flip in zip(ways, flipped, strict=True):
        picture = picture.transpose(way) if flip else picture
    return picture


def format_size(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"
