"""The choice of device and precision."""

from __future__ import annotations

import pytest
import torch

from vqtools.core import device
from vqtools.core.device import _bf16_is_faster_on_cpu, choose_machine, recorded_threads
from vqtools.core.errors import UserError


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_devices", lambda: ["cpu"])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_devices", lambda: ["cuda", "cpu"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize(("faster", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_uses_bf16_only_if_it_is_faster(
    only_cpu: None, monkeypatch: pytest.MonkeyPatch, faster: bool, precision: str
) -> None:
    monkeypatch.setattr(device, "_bf16_is_faster_on_cpu", lambda: faster)
    assert choose_machine().precision == precision
    assert choose_machine(precision="fp32").precision == "fp32"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_a_gpu_uses_bf16_if_its_capability_allows(
    gpu: None, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: capability)
    machine = choose_machine()
    assert (machine.device.type, machine.precision) == ("cuda", precision)


def test_mps_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_devices", lambda: ["mps", "cpu"])
    machine = choose_machine()
    assert (machine.device.type, machine.precision) == ("mps", "fp32")
    with pytest.raises(UserError, match="MPS"):
        choose_machine(precision="bf16")


def test_a_cpu_without_bf16_instructions_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    _bf16_is_faster_on_cpu.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    assert _bf16_is_faster_on_cpu() is False
    _bf16_is_faster_on_cpu.cache_clear()


@pytest.mark.parametrize(("slower", "expected"), [(0.5, True), (0.9, False), (40.0, False)])
def test_the_measurement_compares_times_and_draws_no_random_numbers(
    monkeypatch: pytest.MonkeyPatch, slower: float, expected: bool
) -> None:
    _bf16_is_faster_on_cpu.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(device, "_conv_seconds", lambda image, weight: slower if image.dtype == torch.bfloat16 else 1.0)
    before = torch.get_rng_state()
    assert _bf16_is_faster_on_cpu() is expected
    assert torch.equal(before, torch.get_rng_state())
    _bf16_is_faster_on_cpu.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"device": "cuda"}, "not available here; there is cpu"),
        ({"device": "gpu"}, "unknown"),
        ({"precision": "fp8"}, "unknown; there are auto, bf16"),
        ({"device": "cpu", "precision": "fp16"}, "on the CPU use fp32"),
        ({"threads": 0}, "at least 1"),
    ],
)
def test_unavailable_choices_are_user_errors(only_cpu: None, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose_machine(**arguments)  # type: ignore[arg-type]


def test_a_missing_gpu_is_a_user_error(gpu: None) -> None:
    with pytest.raises(UserError, match="has 1, counted from cuda:0"):
        choose_machine("cuda:3", "fp32")


def test_threads_are_set_and_described(only_cpu: None) -> None:
    before = torch.get_num_threads()
    try:
        machine = choose_machine(precision="fp32", threads=1)
        assert torch.get_num_threads() == 1
        assert machine.describe() == "CPU, 1 thread, fp32"
    finally:
        torch.set_num_threads(before)


def test_autocast_computes_in_the_precision_of_the_machine() -> None:
    machine = device.Machine(torch.device("cpu"), "bf16", 1)
    a = torch.ones(2, 2)
    with machine.autocast():
        assert (a @ a).dtype == torch.bfloat16
    with device.Machine(torch.device("cpu"), "fp32", 1).autocast():
        assert (a @ a).dtype == torch.float32


def test_strided_depthwise_convolutions_stay_in_fp32_under_autocast() -> None:
    machine = device.Machine(torch.device("cpu"), "bf16", 1)
    image = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    strided, even = (torch.nn.Conv2d(4, 4, 3, stride, groups=4) for stride in (2, 1))
    expected = strided(image)
    with machine.autocast_except_strided_convs():
        assert torch.equal(strided(image), expected)
        assert even(image).dtype == torch.nn.Conv2d(4, 4, 3)(image).dtype == torch.bfloat16
        assert strided(image.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(("threads", "expected"), [(4, 4), (0, None), (10**6, None), ("4", None), (None, None)])
def test_the_threads_of_a_record_are_only_taken_from_a_sensible_number(threads: object, expected: int | None) -> None:
    assert recorded_threads({"threads": threads}) == expected
    assert recorded_threads({}) is None
