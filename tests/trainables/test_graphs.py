from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from trainables import augment as augmentations
from trainables.comparison import Arm, Comparison, prepare
from trainables.config import Runtime, TrialConfig
from trainables.data import Dataset
from trainables.graphs import WARM_UP, Replayed
from trainables.methods import ProbeResult, Views
from trainables.records import REPRODUCIBLE, Row

CPU = torch.device("cpu")
ARMS: dict[str, dict[str, Any]] = {
    "archetype": {"granularity": "none"},
    "filtered": {},
    "soft": {"filter": "soft", "margin": 0.3, "raw_batch_size": 12},
    "epochwise": {"granularity": "epoch"},
    "adaptive": {"raw_batch_size": "adaptive"},
    "infobatch": {"filter": "none", "selector": "infobatch", "granularity": "epoch"},
    "backprop": {"filter": "none", "selector": "selective_backprop"},
    "trained": {"probe_mode": "train"},
}
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "SGD", "lr": 0.05, "nesterov": True},
    {"name": "Adam", "amsgrad": True},
    {"name": "AdamW"},
]


def trial(**changes: Any) -> TrialConfig:
    settings: dict[str, Any] = {
        "dataset": {"name": "cifar10"},
        "model": {"name": "LeNet"},
        "optimizer": OPTIMIZERS[0],
        "schedule": {"name": "exponential", "gamma": 0.5},
        "augmentation": "thesis",
        "batch_size": 8,
        "epochs": 3,
        "arms": ARMS,
    }
    return TrialConfig.model_validate(settings | changes)


def run(comparison: Comparison, epochs: int) -> list[Row]:
    rows = [row for _ in range(epochs) for row in comparison.step()]
    return [{name: row[name] for name in REPRODUCIBLE} for row in rows]


def doubled(views: Views) -> ProbeResult:
    return ProbeResult((2.0 * views.index + views.epoch).view(-1, 1), views.index)


def test_replayed_arms_are_the_plain_ones_bit_for_bit(make_dataset) -> None:
    data = make_dataset(train=8 * 9 + 3)  # the last batch is smaller, and runs plainly
    plain, replayed = (Comparison(trial(), data, CPU, graphs) for graphs in (False, True))
    assert run(replayed, 4) == run(plain, 4)
    for one, other in zip(plain.arms, replayed.arms, strict=True):
        for key, value in one.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[key])
    assert all(arm.graphs[1].recorded == [8] for arm in replayed.arms)


def test_a_replayed_comparison_continues_bit_for_bit_and_records_anew(make_dataset) -> None:
    data = make_dataset(train=8 * 9)
    whole = run(Comparison(trial(), data, CPU), 4)
    stopped, resumed = (Comparison(trial(), data, CPU, graphs=True) for _ in range(2))
    early = run(stopped, 2)
    run(resumed, 3)
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert not any(graph.recorded for arm in resumed.arms for graph in arm.graphs)
    assert early + run(resumed, 2) == whole


def test_only_batches_of_a_size_are_replayed_and_from_the_fourth_on() -> None:
    sizes: list[tuple[int, int]] = []

    def noted(views: Views) -> ProbeResult:
        sizes.append((len(views), id(views)))
        return doubled(views)

    replayed = Replayed(noted, [4], CPU)
    batches = [Views.of(torch.arange(size) + start, 5) for start, size in enumerate([4, 2, 4, 4, 4, 3, 4])]
    for views in batches:
        assert torch.equal(replayed(views).logits, doubled(views).logits)
    assert [size for size, _ in sizes] == [4, 2, 4, 4, 4, 3, 4]
    own = [views for views, (_, seen) in zip(batches, sizes, strict=True) if id(views) != seen]
    assert own == [batches[4], batches[6]]
    assert WARM_UP == 3


def test_each_size_is_recorded_for_itself() -> None:
    replayed = Replayed(doubled, [2, 4, 8], CPU)
    for turn in range(WARM_UP + 1):
        for size in (2, 4, 3):
            assert replayed.recorded == ([] if turn < WARM_UP else [2, 4][: (size > 2) + (size == 3)])
            views = Views.of(torch.arange(size) + turn, 5)
            assert torch.equal(replayed(views).logits, doubled(views).logits)
    assert replayed.recorded == [2, 4]
    replayed.forget()
    assert replayed.recorded == []


def test_probes_ahead_of_need_are_replayed_too(make_dataset) -> None:
    """Where a raw batch is small beside a batch, several of them are probed at once, in sizes that recur."""
    data = make_dataset(train=240)
    arms = {"archetype": ARMS["archetype"], "filtered": {"raw_batch_size": 2}}
    plain, replayed = (Comparison(trial(arms=arms, batch_size=16), data, CPU, graphs) for graphs in (False, True))
    assert run(replayed, 4) == run(plain, 4)
    recorded = replayed.arms[1].graphs[0].recorded
    assert len(recorded) > 1
    assert set(recorded) <= {2 * 2**power for power in range(10)}


def test_a_result_is_the_callers_own() -> None:
    replayed = Replayed(doubled, [2], CPU)
    results = [replayed(Views.of(torch.tensor([start, start + 1]), 0)) for start in range(6)]
    assert [result.labels.tolist() for result in results] == [[start, start + 1] for start in range(6)]


@contextmanager
def without_contents() -> Iterator[None]:
    """Tensors have a shape and no contents here: what asks for contents, as a wait for the device does, raises."""
    augmentations._constant.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    augmentations._constant.cache_clear()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("augmentation", ["none", "standard", "thesis"])
def test_probe_and_update_are_functions_of_shapes_alone(
    make_dataset, augmentation: str, precision: str, optimizer: dict[str, Any]
) -> None:
    data = make_dataset(train=48)
    config = trial(augmentation=augmentation, precision=precision, optimizer=optimizer)
    arms = [Arm(name, method, config, data, CPU, {}) for name, method in config.arms.items()]
    with without_contents():
        views = Views(torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.int64))
        for arm in arms:
            for run in (arm.probe, arm.update):
                assert run(views).logits.shape == (8, 4)


def test_what_looks_at_contents_is_found() -> None:
    with without_contents(), pytest.raises(DataDependentOutputException):
        torch.zeros(3).sum().item()


@pytest.mark.cuda
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_graphs_on_a_gpu_give_what_plain_calls_give(
    make_dataset, cuda: torch.device, optimizer: dict[str, Any]
) -> None:
    data = on(make_dataset(train=8 * 9 + 3), cuda)
    torch.backends.cudnn.deterministic = True
    config = trial(optimizer=optimizer, model={"name": "ResNet18"})
    plain, replayed = (Comparison(config, data, cuda, graphs) for graphs in (False, True))
    for one, other in zip(run(plain, 4), run(replayed, 4), strict=True):
        assert one["steps"] == other["steps"]
        assert one["test_mean_loss"] == pytest.approx(other["test_mean_loss"], rel=1e-4)
    assert all(arm.graphs[1].recorded == [8] for arm in replayed.arms)


@pytest.mark.cuda
def test_probe_and_update_never_wait_for_the_gpu(make_dataset, cuda: torch.device) -> None:
    data = on(make_dataset(train=48), cuda)
    config = trial(model={"name": "ResNet18"})
    views = Views(torch.arange(8, device=cuda), torch.ones(8, dtype=torch.int64, device=cuda))
    arm = Arm("filtered", config.arms["filtered"], config, data, cuda, {})
    for run in (arm.probe, arm.update):
        run(views)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for run in (arm.probe, arm.update):
            run(views)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_comparisons_one_after_the_other_take_no_more_of_a_gpu(cuda: torch.device) -> None:
    config = trial(dataset={"name": "mnist5k", "samples_per_class": 40}, augmentation="none")
    taken = []
    for _ in range(4):
        comparison = None
        comparison = prepare(config, Runtime(device="cuda"))
        run(comparison, 3)
        taken.append(torch.cuda.memory_allocated())
    assert max(taken[1:]) <= taken[0] + 2**20


def on(data: Dataset, device: torch.device) -> Dataset:
    return Dataset(
        data.train.to(device), None, data.test.to(device), data.classes, data.mean.to(device), data.std.to(device)
    )
