"""The likelihood prior: its gradient, its effect on a short run, and that weight 0 changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.core.state_file import load_state, save_state
from vqtools.models.quantizers import nearest_codes
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.painting.painter import Painter
from vqtools.painting.prior import loss_and_gradient
from vqtools.painting.renderers import CodeRenderer
from vqtools.painting.session import PaintSession

Make = Callable[..., Painter]
CODES = 32


class Neighbours:
    """Expects beside each code what a table has: the cell before decides, as it does for a transformer."""

    def __init__(self, strength: float = 2.0) -> None:
        self.table = torch.randn(CODES, CODES, generator=torch.Generator().manual_seed(3)).mul(strength).log_softmax(1)
        self.asked: list[str] = []

    def __call__(self, codes: Tensor, prompt: str) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        self.asked.append(prompt)
        before = codes[0].flatten().roll(1)
        for part in torch.arange(codes[0].numel()).split(7):  # some at a time, as windows come
            rows, columns = (part // codes.shape[2]).tolist(), (part % codes.shape[2]).tolist()
            yield list(zip(rows, columns, strict=True)), self.table[before[part]]

    def surprise(self, codes: Tensor) -> float:
        flat = codes.flatten()
        return -float(self.table[flat.roll(1), flat].mean())


def with_prior(painter: Painter) -> Painter:
    painter.likelihood = Neighbours()
    return painter


def codes_of(painter: Painter) -> Tensor:
    return nearest_codes(painter.vqgan.quantize.flatten(painter.z.detach()), painter.vqgan.codebook)


def cosine_vqgan() -> VQGAN:
    config = VQGANConfig(
        channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), z_channels=6, embed_dim=6,
        codebook_size=CODES, norm_groups=4, metric="cosine",
    )  # fmt: skip
    torch.manual_seed(0)
    return VQGAN(config)


@pytest.mark.parametrize("kind", ["euclidean", "cosine", "some codes"])
def test_the_gradient_is_that_of_the_expected_nll(painter: Make, kind: str) -> None:
    painting = painter()
    some = torch.tensor([1, 4, 9, 16, 25, 30]) if kind == "some codes" else None
    vqgan = cosine_vqgan() if kind == "cosine" else painting.vqgan
    drawer, table = CodeRenderer(vqgan, painting.machine, codes=some), Neighbours()
    z = painting.z.detach() + 0.3 * torch.randn(painting.z.shape, generator=torch.Generator().manual_seed(1))
    value, gradient = loss_and_gradient(z, drawer, table, "a tree")

    leaf = z.clone().requires_grad_()
    vectors, book = vqgan.quantize.flatten(leaf), drawer.codebook
    chosen = nearest_codes(vectors.detach(), book)
    codes = (chosen if some is None else some[chosen]).view(1, *z.shape[2:])
    expected = torch.cat([log_p for _, log_p in table(codes, "")])[:, slice(None) if some is None else some]
    apart = torch.stack([(book - one).square().sum(1).sort().values[1:5].mean() / 2 for one in book[chosen]])
    share = F.softmax(-torch.cdist(vectors, book).square() / apart[:, None], 1)
    loss = -(share * expected).sum(1).mean()
    (plain,) = torch.autograd.grad(loss, leaf)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    assert plain.abs().max() > 1e-4
    assert (gradient - plain).abs().max() <= 1e-4 * plain.abs().max()


def test_the_gradient_is_the_slope_of_the_value(painter: Make) -> None:
    painting, table = painter(), Neighbours()
    z = painting.z.detach()
    value, gradient = loss_and_gradient(z, painting.renderer, table, "")
    step = 0.02 * gradient / gradient.norm()
    assert torch.equal(
        *(nearest_codes(painting.vqgan.quantize.flatten(one), painting.vqgan.codebook) for one in (z, z - step))
    )
    up, down = (loss_and_gradient(one, painting.renderer, table, "")[0] for one in (z + step, z - step))
    assert (up - down) / 2 == pytest.approx(float((gradient * step).sum()), rel=0.02)
    assert down < value < up


def test_the_prior_makes_codes_likelier(painter: Make) -> None:
    surprises = []
    for weight in (0, 0.1, 1):
        painting = with_prior(painter(prior=weight, iterations=30))
        for _ in range(30):
            scalars = painting.step()
        surprises.append(painting.likelihood.surprise(codes_of(painting)))
        assert ("prior" in scalars) == (weight > 0)
    assert surprises[2] < surprises[1] < surprises[0]
    assert scalars["loss"] == pytest.approx(sum(value for name, value in scalars.items() if name != "loss"))
    assert set(painting.likelihood.asked) == {painting.settings.prompt}


def test_without_weight_the_prior_is_not_called_and_changes_nothing(painter: Make) -> None:
    plain, off = painter(), with_prior(painter(prior=0))
    for _ in range(3):
        assert plain.step() == off.step()
    assert torch.equal(plain.z, off.z) and not off.likelihood.asked


def test_a_resumed_painting_equals_an_uninterrupted_one(painter: Make, tmp_path: Path) -> None:
    unbroken, first, resumed = (with_prior(painter(prior=0.5)) for _ in range(3))
    expected = [unbroken.step() for _ in range(6)]
    for _ in range(3):
        first.step()
    resumed.load_state_dict(load_state(save_state(tmp_path / "state.safetensors", first.state_dict())))
    assert [resumed.step() for _ in range(3)] == expected[3:]
    assert torch.equal(resumed.z, unbroken.z)


def test_a_prior_added_in_mid_run_is_replayed_to_the_same_bits(painter: Make) -> None:
    easel = PaintSession(with_prior(painter()))
    for position in range(easel.total):
        if position in (2, 5):
            easel.edit({"prior": 0.5 if position == 2 else 0.0})
        easel.step()
    again = PaintSession(with_prior(painter()), record=easel.record())
    while again.position < again.total:
        again.step()
    assert torch.equal(again.job.z, easel.job.z)
    plain = painter()
    for _ in range(plain.total):
        plain.step()
    assert not torch.equal(plain.z, easel.job.z)


def test_without_a_transformer_or_codes_an_error_is_raised_before_a_step(painter: Make) -> None:
    for painting, says in (
        (painter(prior=1), "no transformer"),
        (with_prior(painter(prior=1, drawer="pixels")), "pixels have no codes"),
    ):
        before = painting.z.detach().clone()
        with pytest.raises(UserError, match=says):
            painting.step()
        assert torch.equal(painting.z, before) and painting.position == 0
