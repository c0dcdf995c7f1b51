from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.data import Dataset
from trainables.models.resnet import BasicBlock
from trainables.samplers import Filter, ProbeResult, Sampler, Views, wrong
from trainables.seeds import permutation
from trainables.train import Stopwatch, train_epoch

BATCH = 8


def keep_all(result: ProbeResult) -> Tensor:
    return torch.ones_like(result.labels, dtype=torch.bool)


def keep_none(result: ProbeResult) -> Tensor:
    return torch.zeros_like(result.labels, dtype=torch.bool)


def network() -> nn.Module:
    """A small network with batch normalization, as ResNet18 has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(BasicBlock(3, 4, 4), BasicBlock(4, 4, 1), nn.Flatten(), nn.Linear(4 * 8 * 8, 4))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def sampler(
    data: Dataset, *, epoch_filter: Filter | None = None, batch_filter: Filter | None = None, raw: int = BATCH
) -> Sampler:
    size = len(data.train.labels)
    return Sampler(
        lambda epoch: permutation(size, 0, "order", epoch),
        BATCH,
        raw,
        epoch_filter,
        batch_filter,
        device=torch.device("cpu"),
    )


def feed_of(data: Dataset) -> Callable[[Views], tuple[Tensor, Tensor]]:
    def feed(views: Views) -> tuple[Tensor, Tensor]:
        images, labels = data.train.select(views.index)
        # Not the clean picture, so that the epoch of a view matters.
        return data.normalize(images.float() / 255) + 0.1 * views.epoch.view(-1, 1, 1, 1), labels

    return feed


def train(data: Dataset, sampler: Sampler, epochs: int = 3) -> dict[str, Tensor]:
    model = network()
    optimizer, stopwatch = sgd(model), Stopwatch(torch.device("cpu"))
    for epoch in range(1, epochs + 1):
        train_epoch(epoch, sampler, feed_of(data), model, optimizer, stopwatch)
    return model.state_dict()


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("filters", [("epoch_filter",), ("batch_filter",), ("epoch_filter", "batch_filter")])
def test_a_filter_that_keeps_everything_trains_bit_for_bit_as_the_archetype(make_dataset, filters) -> None:
    data = make_dataset(train=6 * BATCH)
    filtered = sampler(data, **dict.fromkeys(filters, keep_all))
    assert_equal(train(data, filtered), train(data, sampler(data)))
    assert filtered.counts.samples_probed == len(filters) * 6 * BATCH


def test_the_archetype_is_a_plain_loop_bit_for_bit(make_dataset) -> None:
    data = make_dataset(train=6 * BATCH + 3)
    model = network()
    model.train()
    momenta = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for epoch in (1, 2, 3):
        order = permutation(6 * BATCH + 3, 0, "order", epoch).tolist()
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            images = (data.train.images[batch].float() / 255 - data.mean) / data.std + 0.1 * torch.tensor(epoch)
            loss = cross_entropy(model(images), data.train.labels[batch])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient, momentum in zip(model.parameters(), gradients, momenta, strict=True):
                    momentum.mul_(0.9).add_(gradient.add(parameter, alpha=5e-4))
                    parameter.add_(momentum, alpha=-0.05)
    assert_equal(train(data, sampler(data)), model.state_dict())


def test_algorithm_10_is_a_plain_loop_bit_for_bit(make_dataset) -> None:
    data = make_dataset(train=45)
    model = network()
    optimizer, feed = sgd(model), feed_of(data)
    held: list[tuple[int, int]] = []
    steps = 0

    def pictures(batch: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        index, epoch = (torch.tensor(column) for column in zip(*batch, strict=True))
        return feed(Views(index, epoch))

    for epoch in (1, 2, 3):
        order = permutation(45, 0, "order", epoch).tolist()
        for start in range(0, 45, 6):
            raw = [(index, epoch) for index in order[start : start + 6]]
            model.eval()
            with torch.no_grad():
                images, labels = pictures(raw)
                guesses = model(images).argmax(1)
            held += [sample for sample, guess, label in zip(raw, guesses, labels, strict=True) if guess != label]
            if len(held) >= BATCH:
                model.train()
                images, labels = pictures(held[:BATCH])
                optimizer.zero_grad()
                cross_entropy(model(images), labels).backward()
                optimizer.step()
                steps += 1
                held = []
    assert steps > 3
    assert_equal(train(data, sampler(data, batch_filter=wrong, raw=6)), model.state_dict())


@pytest.mark.parametrize("filters", [("epoch_filter",), ("batch_filter",), ("epoch_filter", "batch_filter")])
def test_probing_changes_no_parameter_buffer_or_gradient(make_dataset, filters) -> None:
    data = make_dataset(train=30)
    model = network()
    optimizer = sgd(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rejecting = sampler(data, **dict.fromkeys(filters, keep_none))
    train_epoch(1, rejecting, feed_of(data), model, optimizer, Stopwatch(torch.device("cpu")))
    assert rejecting.counts.samples_probed == 30
    assert rejecting.counts.steps == 0
    assert_equal(model.state_dict(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert optimizer.state_dict()["state"] == {}


def test_probes_see_the_model_in_evaluation_mode_and_updates_in_training_mode(make_dataset) -> None:
    data = make_dataset(train=4 * BATCH)
    model = network()
    modes: list[tuple[bool, bool]] = []
    model.register_forward_hook(lambda module, *_: modes.append((module.training, torch.is_grad_enabled())))
    probing = sampler(data, batch_filter=keep_all)
    train_epoch(1, probing, feed_of(data), model, sgd(model), Stopwatch(torch.device("cpu")))
    assert modes == [(False, False), (True, True)] * 4


def test_training_lowers_the_loss_it_is_given(make_dataset) -> None:
    data = make_dataset(train=4 * BATCH)
    model = network()
    images, labels = feed_of(data)(Views.of(torch.arange(4 * BATCH), 1))
    before = cross_entropy(model(images), labels).item()
    model.load_state_dict(train(data, sampler(data), epochs=6))
    assert cross_entropy(model(images), labels).item() < before / 2


def measured(stopwatch: Stopwatch, phase: str, seconds: float) -> None:
    with stopwatch.measure(phase):
        time.sleep(seconds)


def test_the_stopwatch_adds_up_by_phase_and_starts_anew_when_read() -> None:
    stopwatch = Stopwatch(torch.device("cpu"))
    for _ in range(3):
        measured(stopwatch, "probe", 0.02)
    measured(stopwatch, "train", 0.03)
    seconds = stopwatch.read()
    assert set(seconds) == {"probe", "train"}
    assert 0.06 <= seconds["probe"] < 1
    assert 0.03 <= seconds["train"] < 1
    assert stopwatch.read() == {}
    measured(stopwatch, "probe", 0.01)
    assert 0.01 <= stopwatch.read()["probe"] < 0.06


@pytest.mark.cuda
def test_the_stopwatch_waits_for_the_gpu_only_when_read(cuda: torch.device) -> None:
    stopwatch = Stopwatch(cuda)
    matrix = torch.randn(2048, 2048, device=cuda)
    matrix @ matrix
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(2):
        with stopwatch.measure("train"):
            for _ in range(20):
                matrix @ matrix
    issued = time.perf_counter() - began
    seconds = stopwatch.read()["train"]
    assert 0 < seconds < time.perf_counter() - began
    assert issued < seconds * 10 + 0.1
    assert stopwatch.read() == {}
