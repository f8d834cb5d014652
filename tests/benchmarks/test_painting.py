"""Steps of the painter against the published loop: the same CLIP, cutouts and picture size, alternating in one run.

    pytest -m benchmark -s tests/benchmarks/test_painting.py

The published loop follows Crowson et al. 2022 (arXiv 2204.08583) and the notebooks it describes: each cutout is cropped
separately, pooled to the CLIP's size and augmented by kornia's random classes; one graph holds the decoder and all
cutouts; CLIP runs in fp16 on a GPU. Networks are frozen on both sides.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.core.device import choose_machine
from vqtools.models.clip import CLIP
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.painting.clip_loss import clamp_with_grad, prompt_losses
from vqtools.painting.memory_plan import apply_plan, count_memory, plan_memory
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings
from vqtools.weights.load import load_clip, load_vqgan

pytestmark = pytest.mark.benchmark
GPU = torch.cuda.is_available()
ROUNDS, STEPS = (7, 10) if GPU else (3, 2)


class PublishedLoop:
    """The published loop."""

    def __init__(self, vqgan: VQGAN, clip: CLIP, size: tuple[int, int], cutouts: int) -> None:
        import kornia.augmentation as K

        self.vqgan, self.clip, self.cutouts = vqgan, clip, cutouts
        self.device = next(vqgan.parameters()).device
        self.augment = nn.Sequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomSharpness(0.3, p=0.4),
            K.RandomAffine(degrees=30, translate=0.1, p=0.8, padding_mode="border"),
            K.RandomPerspective(0.2, p=0.4),
            K.ColorJitter(hue=0.01, saturation=0.01, p=0.7),
        )
        width, height = size
        codes = torch.randint(len(vqgan.codebook), (1, height // vqgan.f, width // vqgan.f), device=self.device)
        self.z = vqgan.codes_to_latents(codes).detach().clone().requires_grad_()
        self.low, self.high = (bound.view(1, -1, 1, 1) for bound in (vqgan.codebook.amin(0), vqgan.codebook.amax(0)))
        self.adam = torch.optim.Adam([self.z], lr=0.1)
        self.text = clip.embed_text(["a red apple"])
        self.weight = torch.ones(1, device=self.device)

    def cut(self, picture: Tensor) -> Tensor:
        """Return augmented cutouts (n, 3, side, side) of a picture (1, 3, H, W)."""
        height, width = picture.shape[2:]
        side, short = self.clip.size, min(height, width)
        smallest = min(short, side)
        cutouts = []
        for _ in range(self.cutouts):
            size = int(torch.rand([]) * (short - smallest) + smallest)
            x, y = int(torch.randint(0, width - size + 1, ())), int(torch.randint(0, height - size + 1, ()))
            cutouts.append(F.adaptive_avg_pool2d(picture[:, :, y : y + size, x : x + size], side))
        batch = self.augment(torch.cat(cutouts))
        strength = batch.new_empty([self.cutouts, 1, 1, 1]).uniform_(0, 0.1)
        return batch + strength * torch.randn_like(batch)

    def step(self) -> None:
        self.adam.zero_grad(set_to_none=True)
        picture = clamp_with_grad(self.vqgan.decode_latents(self.vqgan.quantize(self.z).latents).add(1).div(2), 0, 1)
        cutouts = self.cut(picture)
        with torch.autocast("cuda", dtype=torch.float16, enabled=GPU):
            embeddings = self.clip.embed_image(cutouts)
        prompt_losses(embeddings.float(), self.text, self.weight, -torch.inf * self.weight).sum().backward()
        self.adam.step()
        with torch.no_grad():
            self.z.copy_(self.z.maximum(self.low).minimum(self.high))


def create_public_networks() -> tuple[VQGAN, CLIP]:
    """Return networks of the public architectures with random weights: VQGAN f16 and ViT-B/32."""
    import open_clip

    name = "ViT-B-32-quickgelu"
    model = open_clip.create_model(name, pretrained=None)
    clip = CLIP(model, open_clip.get_tokenizer(name), name=name, size=224, mean=(0.48, 0.46, 0.41), std=(0.27,) * 3)
    return VQGAN(VQGANConfig()).eval().requires_grad_(False), clip


def create_both(
    networks: tuple[VQGAN, CLIP], size: tuple[int, int], cutouts: int, **fields: Any
) -> tuple[PublishedLoop, Painter]:
    machine = choose_machine()
    vqgan, clip = (network.to(machine.device) for network in networks)
    torch.manual_seed(0)
    published = PublishedLoop(vqgan, clip, size, cutouts)
    settings = PaintSettings(prompt="a red apple", size=size, cutouts=cutouts, seed=0, iterations=1000, **fields)
    return published, Painter(settings, vqgan, [clip], machine=machine)


def seconds_per_step(step: Callable[[], Any]) -> float:
    """Return the time of a step; on a CPU the processor time, on which other load has no influence."""
    clock = time.perf_counter if GPU else time.process_time
    started = clock()
    for _ in range(STEPS):
        step()
    if GPU:
        torch.cuda.synchronize()
    return (clock() - started) / STEPS / (1 if GPU else torch.get_num_threads())


def compare(published: PublishedLoop, painter: Painter) -> float:
    """Return the speed-up, the median of alternating rounds, so that other load affects both sides."""
    for warm_up in (published.step, painter.step):
        seconds_per_step(warm_up)
    rounds = [(seconds_per_step(published.step), seconds_per_step(painter.step)) for _ in range(ROUNDS)]
    theirs, ours = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(their / our for their, our in rounds)
    print(
        f"\npublished {theirs:.3f} s per step, vqtools {ours:.3f} s: {ratio:.2f} times as fast"
        f" ({choose_machine().describe()})"
    )
    return ratio


@pytest.mark.skipif(GPU, reason="measures a CPU")
@pytest.mark.parametrize("clip_precision", ["auto", "same"])
def test_steps_with_the_starter_models_are_twice_as_fast(clip_precision: str) -> None:
    networks = load_vqgan(), load_clip()
    assert compare(*create_both(networks, (192, 192), 8, clip_precision=clip_precision)) >= 2


@pytest.mark.skipif(GPU, reason="measures a CPU")
def test_steps_with_public_networks_are_faster_on_a_cpu() -> None:
    ratio = compare(*create_both(create_public_networks(), (256, 256), 32, clip_precision="same"))
    assert ratio >= (2 if choose_machine().precision == "bf16" else 1.15)


@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_steps_with_public_networks_are_2_5_times_as_fast_on_a_gpu() -> None:
    assert compare(*create_both(create_public_networks(), (512, 512), 64)) >= 2.5


def peak_bytes(step: Callable[[], Any]) -> int:
    """Return the peak memory of a step in bytes, beyond what was allocated before it."""
    step()  # the first step allocates the state of the optimiser
    if GPU:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    allocated = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            allocated += event.nbytes()
            peak = max(peak, allocated)
    return peak


def test_peak_memory_is_at_most_half_and_independent_of_the_number_of_cutouts() -> None:
    """At 1024x1024 with 64 cutouts on a GPU, at 256x256 with 32 on a CPU."""
    size, cutouts = ((1024, 1024), 64) if GPU else ((256, 256), 32)
    networks = create_public_networks()
    published, painter = create_both(networks, size, cutouts, group=8, checkpoint="on")
    theirs, ours = peak_bytes(published.step), peak_bytes(painter.step)
    painter.settings.cutouts = 2 * cutouts
    doubled = peak_bytes(painter.step)
    needs = count_memory(painter.settings, networks[0], [networks[1]], painter.machine)
    print(
        f"\n{size[0]}x{size[1]}, {cutouts} cutouts: published {theirs / 2**20:.0f} MB, vqtools {ours / 2**20:.0f} MB"
        f" (with {2 * cutouts}: {doubled / 2**20:.0f}); planned {needs.peak(8, True) / 2**20:.0f}"
    )
    assert ours <= theirs / 2
    assert doubled <= 1.05 * ours
    assert 0.8 < needs.peak(8, True) / ours < 1.5


@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_full_hd_fits_in_15_gb_of_gpu_memory() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 15 * 2**30 / total))
    try:
        vqgan, clip = create_public_networks()
        machine = choose_machine()
        settings = PaintSettings(prompt="a red apple", size=(1920, 1088), cutouts=64, seed=0)
        plan = plan_memory(settings, vqgan.to(machine.device), [clip.to(machine.device)], machine)
        painter = Painter(apply_plan(settings, plan), vqgan, [clip], machine=machine)
        for _ in range(3):
            painter.step()
        painter.image()
        print(
            f"\n1920x1088: {plan.describe()}; peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GB; {painter.notes}"
        )
        assert plan.fits
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
