from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from drawing import blank, follower, train_epoch
from thesis import Batch, Run, transcription
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables import methods
from trainables.config import MethodConfig
from trainables.data import Dataset
from trainables.methods import ProbeResult, Sampler, Views
from trainables.models.resnet import BasicBlock
from trainables.seeds import permutation
from trainables.train import Stopwatch, prober, updater, watched

BATCH = 8
CPU = torch.device("cpu")
PLAIN = MethodConfig(granularity="none")
Feed = Callable[[Views], tuple[Tensor, Tensor]]


def network() -> nn.Module:
    """A small network with batch normalization, as ResNet18 has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(BasicBlock(3, 4, 4), BasicBlock(4, 4, 1), nn.Flatten(), nn.Linear(4 * 8 * 8, 4))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def sampler(data: Dataset, method: MethodConfig, epochs: int = 3, **others: Sampler) -> Sampler:
    size = len(data.train.labels)
    order = lambda epoch: permutation(size, 0, "order", epoch)  # noqa: E731
    return methods.build(method, blank(size, BATCH, epochs), order, 0, CPU, others)


def feed_of(data: Dataset) -> Feed:
    def feed(views: Views) -> tuple[Tensor, Tensor]:
        images, labels = data.train.select(views.index)
        # Not the clean picture, so that the epoch of a view matters.
        return data.normalize(images.float() / 255) + 0.1 * views.epoch.view(-1, 1, 1, 1), labels

    return feed


def train(data: Dataset, sampler: Sampler, epochs: int = 3, training: bool = False) -> nn.Module:
    model, feed = network(), feed_of(data)
    optimizer = sgd(model)
    for epoch in range(1, epochs + 1):
        train_epoch(epoch, sampler, prober(model, feed, training), updater(model, feed, sampler.loss, optimizer))
    return model


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


EVERYTHING = [{"filter": "none", "selector": "top_q", "q": 0.0}, {"selector": "random", "ratio": 1.0}]


@pytest.mark.parametrize("granularity", ["epoch", "batch", "epoch+batch"])
@pytest.mark.parametrize("everything", EVERYTHING)
def test_selecting_everything_trains_bit_for_bit_as_the_archetype(
    make_dataset, granularity: str, everything: dict[str, Any]
) -> None:
    data = make_dataset(train=6 * BATCH)
    selecting = sampler(data, MethodConfig(granularity=granularity, **everything))
    assert_equal(train(data, selecting).state_dict(), train(data, sampler(data, PLAIN)).state_dict())
    stages = 0 if "ratio" in everything else len(granularity.split("+"))
    assert selecting.counts.samples_probed == stages * 6 * BATCH


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
    assert_equal(train(data, sampler(data, PLAIN)).state_dict(), model.state_dict())


class Net:
    """The thesis's ``net``, data set, loss and optimizer for the algorithms over lists, in plain torch."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.model = network()
        self.optimizer = sgd(self.model)
        self.steps: list[int] = []

    def pictures(self, batch: Batch) -> Tensor:
        return torch.stack(
            [
                (self.data.train.images[index].float() / 255 - self.data.mean) / self.data.std
                + 0.1 * torch.tensor(epoch)
                for index, epoch in batch
            ]
        )

    def labels(self, data: Batch) -> list[int]:
        return [self.data.train.labels[index].item() for index, _ in data]

    def forward(self, data: Batch) -> list[list[float]]:
        self.model.eval()
        with torch.no_grad():
            return self.model(self.pictures(data)).tolist()

    def step(self, batch: Batch) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        cross_entropy(self.model(self.pictures(batch)), torch.tensor(self.labels(batch))).backward()
        self.optimizer.step()
        self.steps.append(len(batch))


WHOLE = {"granularity": "epoch", "batch": "unstable", "raw_batch_size": 45}
ALGORITHMS = {
    "1": {"granularity": "none"},
    "2 with 3": WHOLE | {"filter": "none", "selector": "top_k", "k": 12},
    "2 with 4": WHOLE | {"filter": "none", "selector": "q_split", "k": 12},
    "2 with 5": WHOLE | {"selector": "top_k", "k": 9},
    "2 with 6": WHOLE | {"filter": "soft", "margin": 0.3, "selector": "top_k", "k": 9},
    "8": {"granularity": "epoch", "raw_batch_size": 45},
    "9": {"batch": "unstable", "raw_batch_size": 6},
    "10": {"raw_batch_size": 6},
    "10 with 5": {"raw_batch_size": 12, "selector": "top_k", "k": 5},
    "10 with 6": {"raw_batch_size": 12, "filter": "soft", "margin": 0.3, "selector": "top_k", "k": 5},
    "10, carry": {"raw_batch_size": 12, "overflow": "carry"},
    "10, adaptive": {"raw_batch_size": "adaptive"},
    "8 and 10": {"granularity": "epoch+batch", "raw_batch_size": 45},
}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_thesiss_algorithms_leave_the_same_parameters_bit_for_bit(make_dataset, algorithm: str) -> None:
    data, method = make_dataset(train=45), MethodConfig(**ALGORITHMS[algorithm])
    raw = BATCH if method.raw_batch_size in (None, "adaptive") else method.raw_batch_size
    net = Net(data)
    for _ in transcription(method, Run(lambda epoch: permutation(45, 0, "order", epoch), 3, BATCH, raw, 0), net):
        pass
    assert len(net.steps) >= 3
    ours = sampler(data, method)
    assert_equal(train(data, ours).state_dict(), net.model.state_dict())


def test_an_arm_that_selects_like_another_takes_as_many_steps_with_other_samples(make_dataset) -> None:
    data, method = make_dataset(train=45), MethodConfig(raw_batch_size=6)
    followed = sampler(data, method)
    following = sampler(data, follower(method, "filtered"), filtered=followed)
    model, other, feed = network(), network(), feed_of(data)
    steps = 0
    for epoch in (1, 2, 3):
        train_epoch(epoch, followed, prober(model, feed, False), updater(model, feed, followed.loss, sgd(model)))
        train_epoch(epoch, following, prober(other, feed, False), updater(other, feed, following.loss, sgd(other)))
        assert following.kept_by_unit == followed.kept_by_unit
        assert following.counts.steps == followed.counts.steps
        assert following.counts.samples_probed == 0
        steps += following.counts.steps
    assert steps > 0
    assert not torch.equal(next(model.parameters()), next(other.parameters()))


# ---------------------------------------------------------------------------------------------------------- probes


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_probing_changes_no_parameter_buffer_or_gradient(make_dataset, training: bool, before: bool) -> None:
    data = make_dataset(train=30)
    model = train(data, sampler(data, PLAIN), epochs=1)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.train(before)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert {"num_batches_tracked", "running_mean", "running_var"} <= {key.split(".")[-1] for key in state}
    probe = prober(model, feed_of(data), training)
    for epoch in (1, 2):
        result = probe(Views.of(torch.arange(30), epoch))
        assert not result.logits.requires_grad
    assert_equal(model.state_dict(), state)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    normalizations = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert normalizations
    assert all(module.track_running_stats for module in normalizations)
    model.train()
    model(feed_of(data)(Views.of(torch.arange(30), 1))[0])
    changed = {key.split(".")[-1] for key, value in model.state_dict().items() if not torch.equal(value, state[key])}
    assert changed == {
        "num_batches_tracked",
        "running_mean",
        "running_var",
    }  # which a forward pass outside a probe does


@pytest.mark.parametrize("training", [False, True])
def test_a_sampler_that_rejects_everything_changes_nothing(make_dataset, training: bool) -> None:
    data = make_dataset(train=30)
    data.train.labels.zero_()
    model = network()
    with torch.no_grad():
        model[-1].bias[0] += 1e6  # every sample is right
    optimizer, feed = sgd(model), feed_of(data)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rejecting = sampler(data, MethodConfig())
    train_epoch(1, rejecting, prober(model, feed, training), updater(model, feed, rejecting.loss, optimizer))
    assert rejecting.counts.samples_probed == rejecting.counts.samples_rejected == 30
    assert rejecting.counts.steps == 0
    assert_equal(model.state_dict(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert optimizer.state_dict()["state"] == {}


def test_a_probe_in_training_mode_normalizes_by_the_probed_batch(make_dataset) -> None:
    data = make_dataset(train=30)
    model, feed = network(), feed_of(data)
    views = Views.of(torch.arange(12), 1)
    evaluated, trained = (prober(model, feed, training)(views).logits for training in (False, True))
    assert not torch.allclose(evaluated, trained, atol=1e-3)
    images, labels = feed(views)
    with torch.no_grad():
        assert torch.equal(evaluated, model.eval()(images))
        assert torch.equal(trained, model.train()(images))  # last: this one changes the running statistics
    other = prober(model, feed, True)(views[:6]).logits
    assert not torch.allclose(other, trained[:6], atol=1e-3)  # another batch, other statistics
    assert torch.equal(prober(model, feed, True)(views).labels, labels)


@pytest.mark.parametrize("training", [False, True])
def test_probes_see_the_model_in_the_mode_asked_for_and_updates_in_training_mode(make_dataset, training: bool) -> None:
    data = make_dataset(train=4 * BATCH)
    model, feed = network(), feed_of(data)
    modes: list[tuple[bool, bool]] = []
    model.register_forward_hook(lambda module, *_: modes.append((module.training, torch.is_grad_enabled())))
    probing = sampler(data, MethodConfig(filter="none", selector="top_q", q=0.0))
    train_epoch(1, probing, prober(model, feed, training), updater(model, feed, probing.loss, sgd(model)))
    assert modes == [(training, False), (True, True)] * 4


def test_an_observer_gets_what_the_model_said_of_each_batch_before_its_update(make_dataset) -> None:
    data = make_dataset(train=3 * BATCH)
    model, feed = network(), feed_of(data)
    updated: list[ProbeResult] = []
    probed: list[ProbeResult] = []
    said: list[Tensor] = []
    model.register_forward_hook(lambda _module, _inputs, logits: said.append(logits.detach().clone()))
    probing = sampler(data, MethodConfig(filter="none", selector="top_q", q=0.0))
    stopwatch = Stopwatch(CPU)
    probe = watched(prober(model, feed, False), stopwatch.measure("probe"), probed.append)
    update = updater(model, feed, probing.loss, sgd(model))
    train_epoch(1, probing, probe, watched(update, stopwatch.measure("train"), updated.append))
    assert min(stopwatch.read().values()) > 0
    assert len(updated) == len(probed) == 3
    order = probing.order(1).split(BATCH)
    for seen, logits in ((probed, said[::2]), (updated, said[1::2])):
        for result, batch, expected in zip(seen, order, logits, strict=True):
            assert torch.equal(result.logits, expected)
            assert torch.equal(result.labels, data.train.labels[batch])
            assert not result.logits.requires_grad


def test_the_mode_is_switched_only_where_it_changes(make_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(train=4 * BATCH)
    model, feed = network(), feed_of(data)
    switched: list[bool] = []
    walk = nn.Sequential.train
    monkeypatch.setattr(
        nn.Sequential, "train", lambda self, mode=True: (self is model and switched.append(mode)) or walk(self, mode)
    )
    plain = sampler(data, PLAIN)
    train_epoch(1, plain, prober(model, feed, False), updater(model, feed, plain.loss, sgd(model)))
    assert switched == []
    selecting = sampler(data, MethodConfig(filter="none", selector="top_q", q=0.0, raw_batch_size=BATCH // 2))
    train_epoch(1, selecting, prober(model, feed, False), updater(model, feed, selecting.loss, sgd(model)))
    assert switched == [False, True] * 4


def test_training_lowers_the_loss_it_is_given(make_dataset) -> None:
    data = make_dataset(train=4 * BATCH)
    model = network()
    images, labels = feed_of(data)(Views.of(torch.arange(4 * BATCH), 1))
    before = cross_entropy(model(images), labels).item()
    model.load_state_dict(train(data, sampler(data, PLAIN), epochs=6).state_dict())
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
    assert not any(stopwatch.read().values())
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
    assert stopwatch.read() == {"train": 0.0}
