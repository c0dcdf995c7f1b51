from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from trainables import models
from trainables.comparison import prepare
from trainables.config import ModelConfig, Runtime, TrialConfig
from trainables.precision import PrecisionError, place, set_deterministic, set_float32
from trainables.records import REPRODUCIBLE
from trainables.seeds import generator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _exact_afterwards() -> Iterator[None]:
    yield
    set_float32("fp32", CPU)
    set_deterministic(False)


def lenet() -> nn.Module:
    return models.build(ModelConfig(name="LeNet"), 3, (32, 32), 10, generator(0, "weights"))


def flags() -> set[str]:
    return {torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision}


def trial(precision: str) -> TrialConfig:
    return TrialConfig.from_dotted(
        {
            "precision": precision,
            "dataset.samples_per_class": 20,
            "model.name": "LeNet",
            "batch_size": 16,
            "optimizer.lr": 0.02,
            "epochs": 3,
        }
    )


def test_a_placed_model_says_the_same_with_channels_last() -> None:
    images = torch.randn(5, 3, 32, 32, generator=generator(0, "images"))
    placed = place(lenet(), "fp32", CPU)
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in placed.parameters() if w.ndim == 4)
    assert torch.allclose(placed(images), lenet()(images), atol=1e-5)


def test_bf16_rounds_within_and_keeps_float32_without() -> None:
    images = torch.randn(5, 3, 32, 32, generator=generator(0, "images"))
    rounded, exact = place(lenet(), "bf16", CPU), lenet()
    seen = []
    rounded.model.fc2.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs.dtype))
    logits = rounded(images)
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact(images))
    assert torch.allclose(logits, exact(images), atol=0.02)
    logits.sum().backward()
    assert {p.dtype for p in rounded.parameters()} == {p.grad.dtype for p in rounded.parameters()} == {torch.float32}


def test_a_comparison_trains_in_bf16_alike_every_time_and_otherwise_than_in_fp32() -> None:
    def losses(precision: str) -> list[float]:
        comparison = prepare(trial(precision), Runtime(device="cpu"))
        rows = [row for _ in range(4) for row in comparison.step()]
        return [float(row["train_mean_loss"]) for row in rows]

    exact, rounded = losses("fp32"), losses("bf16")
    assert losses("bf16") == rounded
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.2)


def test_a_comparison_in_bf16_goes_on_bit_for_bit() -> None:
    through, stopped, resumed = (prepare(trial("bf16"), Runtime(device="cpu")) for _ in range(3))
    for _ in range(2):
        through.step()
        stopped.step()
    resumed.load_state_dict(stopped.state_dict())
    for ours, theirs in zip(resumed.step(), through.step(), strict=True):
        assert ours["test_mean_loss"] == theirs["test_mean_loss"]


def test_tf32_is_refused_where_there_is_no_cuda() -> None:
    with pytest.raises(PrecisionError, match="precision is tf32, which only CUDA has; use fp32 or bf16 on the cpu"):
        prepare(trial("tf32"), Runtime(device="cpu"))


@pytest.mark.parametrize(("precision", "multiplied"), [("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_float32_is_multiplied_exactly_unless_tf32_is_asked_for(precision, multiplied: str) -> None:
    set_float32("tf32", torch.device("cuda"))
    set_float32(precision, torch.device("cuda"))
    assert flags() == {multiplied}
    prepare(trial("fp32"), Runtime(device="cpu"))  # the next comparison of the process
    assert flags() == {"ieee"}


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_comparison_trains_on_a_gpu_in_every_precision(cuda: torch.device, precision: str) -> None:
    comparison = prepare(trial(precision), Runtime(device="cuda"))
    rows = [row for _ in range(4) for row in comparison.step()]
    assert all(math.isfinite(float(row["train_mean_loss"])) for row in rows)
    assert rows[-1]["train_mean_loss"] < rows[0]["train_mean_loss"]


def test_the_order_of_sums_is_fixed_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    prepare(trial("fp32"), Runtime(device="cpu", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    prepare(trial("fp32"), Runtime(device="cpu"))  # the next comparison of the process
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.cuda
@pytest.mark.parametrize("model", ["FCNet10", "LeNet", "ResNet18"])
def test_a_deterministic_comparison_gives_the_same_bits_on_a_gpu(cuda: torch.device, model: str) -> None:
    config = trial("fp32").model_copy(update={"model": ModelConfig(name=model)})
    runtime = Runtime(device="cuda", deterministic=True)
    first, second = (
        [[row[name] for name in REPRODUCIBLE] for _ in range(3) for row in comparison.step()]
        for comparison in (prepare(config, runtime), prepare(config, runtime))
    )
    assert first == second
