"""Static pruning against the formulas of its papers: EL2N, forgetting, and the random control."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peer_helpers import as_arm, assert_goes_on, compared
from torch import nn

from trainables.comparison import Comparison
from trainables.config import MethodConfig, TrialConfig
from trainables.contracts import SelectionContract
from trainables.methods import Memory, Run, Unit
from trainables.methods.auxiliary import score_pass, train_pass
from trainables.methods.static_pruning import EL2N, Forgetting, Scored, StaticPruning, StaticRandom, forgotten
from trainables.seeds import generator

CPU = torch.device("cpu")
HERE = "trainables.methods.static_pruning"


def linear(inputs: int, classes: int, stream: str) -> nn.Module:
    layer = nn.utils.skip_init(nn.Linear, inputs, classes)
    nn.init.normal_(layer.weight, generator=generator(7, stream))
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer)


def run(
    images: torch.Tensor,
    labels: torch.Tensor,
    network: Callable[[str], nn.Module] | None = None,
    batch_size: int = 4,
    epochs: int = 30,
    spent: list[float] | None = None,
    seed: int = 0,
) -> Run:
    """A run on these images; its networks are linear unless others are given."""
    classes = int(labels.max()) + 1
    return Run(
        size=len(labels),
        classes=classes,
        labels=labels,
        batch_size=batch_size,
        epochs=epochs,
        device=CPU,
        images=lambda index: images[index],
        network=network or (lambda stream: linear(images[0].numel(), classes, stream)),
        stream=lambda name: generator(seed, name),
        spend=(spent if spent is not None else []).append,
    )


def random_run(size: int = 30, seed: int = 0, **more: Any) -> Run:
    images = torch.randn(size, 1, 3, 3, generator=generator(seed, "images"))
    return run(images, torch.arange(size) % 3, seed=seed, **more)


def kept(method: StaticPruning, run: Run) -> list[int]:
    memory = Memory()
    method.begin(run, memory)
    method.prepare(run, memory)
    assert memory.kept.dtype == torch.bool
    everything = torch.arange(run.size).flip(0)
    unit = Unit(0, 1, 1, everything, run.size, 0, lambda arm: [], lambda spent: None)
    positions = method.choose(unit, None, memory).positions
    assert positions.tolist() == sorted(positions.tolist())  # in the order drawn
    return sorted(everything[positions].tolist())


SCORES = st.lists(st.floats(0, 2, width=32), min_size=1, max_size=40, unique=True)


@given(SCORES, st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]), st.integers(0, 5))
def test_the_share_of_the_highest_scores_is_kept(scores: list[float], ratio: float, seed: int) -> None:
    chosen = StaticRandom(ratio=ratio).subset(torch.tensor(scores), generator(seed, "ties"))
    count = max(round(ratio * len(scores)), 1)
    expected = sorted(range(len(scores)), key=lambda i: -scores[i])[:count]
    assert chosen.nonzero().flatten().tolist() == sorted(expected)


@given(SCORES, st.sampled_from([(0.5, 0.5), (0.2, 0.3), (0.9, 0.1), (0.05, 0.0)]), st.integers(0, 5))
def test_el2n_drops_the_share_offset_of_the_very_highest_scores_first(
    scores: list[float], shares: tuple[float, float], seed: int
) -> None:
    ratio, offset = shares
    chosen = EL2N(ratio=ratio, offset=offset).subset(torch.tensor(scores), generator(seed, "ties"))
    size, count = len(scores), max(round(ratio * len(scores)), 1)
    dropped = min(round(offset * size), size - count)
    ranked = sorted(range(size), key=lambda i: -scores[i])
    assert chosen.nonzero().flatten().tolist() == sorted(ranked[dropped : dropped + count])


def test_equal_scores_are_ranked_at_random() -> None:
    """Also where the training set is sorted by class."""
    times = torch.zeros(10)
    for seed in range(2000):
        times += StaticRandom(ratio=0.3).subset(torch.tensor([1.0] + 9 * [0.0]), generator(seed, "ties"))
    assert times[0] == 2000
    assert times[1:] / 2000 == pytest.approx(torch.full((9,), 2 / 9), abs=0.04)


def test_a_score_that_is_not_a_number_counts_as_infinite() -> None:
    scores = torch.tensor([1.0, math.nan, 2.0, math.inf, 0.0])
    chosen = StaticRandom(ratio=0.6).subset(scores, generator(0, "ties"))
    assert chosen.tolist() == [False, True, True, True, False]


def test_static_random_is_one_random_subset_for_the_whole_run_and_costs_nothing() -> None:
    spent: list[float] = []
    first = kept(StaticRandom(ratio=0.4), random_run(50, spent=spent))
    assert len(first) == 20
    assert spent == []
    assert first == kept(StaticRandom(ratio=0.4), random_run(50))
    assert first != kept(StaticRandom(ratio=0.4), random_run(50, seed=1))
    assert set(first) < set(kept(StaticRandom(ratio=0.8), random_run(50)))


def errors(logits: list[list[float]], labels: list[int]) -> list[float]:
    """||p - y||, written out."""
    found = []
    for row, label in zip(logits, labels, strict=True):
        total = sum(math.exp(value - max(row)) for value in row)
        p = [math.exp(value - max(row)) / total for value in row]
        found.append(math.sqrt(sum((value - (k == label)) ** 2 for k, value in enumerate(p))))
    return found


def test_el2n_is_the_mean_over_networks_of_the_distance_of_probabilities_and_label() -> None:
    """At a rate so small that the networks stay as they begin, so that their errors can be written out."""
    method = EL2N(networks=3, epochs=2, lr=1e-30)
    of = random_run(20)
    logits = [of.network(f"el2n {number}")(of.images(torch.arange(20))).tolist() for number in range(3)]
    by_network = [errors(one, of.labels.tolist()) for one in logits]
    assert by_network[0] != pytest.approx(by_network[1])  # from different weights
    expected = [sum(values) / 3 for values in zip(*by_network, strict=True)]
    assert method.scores(of).tolist() == pytest.approx(expected, abs=1e-6)
    best = sorted(range(20), key=lambda i: -expected[i])[:10]
    assert kept(method, of) == sorted(best)


def test_a_network_is_trained_on_every_sample_by_gradient_descent_on_its_batches_mean_loss() -> None:
    """Against the closed form of a linear network's gradient: (p - y) times the inputs."""
    of = random_run(10, batch_size=4)
    network = of.network("any")
    weight, bias = (p.detach().clone().double() for p in network.parameters())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    shuffled, said = train_pass(of, network, optimizer, torch.arange(10), generator(3, "order"))
    assert shuffled.tolist() == torch.randperm(10, generator=generator(3, "order")).tolist()
    x, y = of.images(shuffled).flatten(1).double(), torch.eye(3, dtype=torch.float64)[of.labels[shuffled]]
    start = 0
    for size in (4, 3, 3):  # three batches of 4 at most, as equal as can be
        some = slice(start, start + size)
        logits = x[some] @ weight.T + bias
        assert torch.allclose(said.logits[some].double(), logits, atol=1e-5)  # before the update
        error = (logits.softmax(1) - y[some]) / size
        weight, bias, start = weight - 0.1 * error.T @ x[some], bias - 0.1 * error.sum(0), start + size
    after = score_pass(of, network, torch.arange(10)).logits.double()
    assert torch.allclose(after, of.images(torch.arange(10)).flatten(1).double() @ weight.T + bias, atol=1e-5)


def test_scores_are_of_evaluation_mode_and_leave_batch_normalization_alone() -> None:
    of = random_run(9, batch_size=3)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(9), nn.Linear(9, 3))
    statistics = network[1].running_mean
    assert isinstance(statistics, torch.Tensor)
    before = statistics.clone()
    together = score_pass(of, network, torch.arange(9)).logits
    apart = torch.cat([score_pass(of, network, torch.tensor([i])).logits for i in range(9)])
    assert torch.allclose(together, apart, atol=1e-6)
    assert torch.equal(statistics, before)
    train_pass(of, network, torch.optim.SGD(network.parameters(), lr=0.1), torch.arange(9), generator(0, "order"))
    assert not torch.equal(statistics, before)


def slowly_forgotten(right: list[bool]) -> int:
    events, learned = 0, False
    for presentation, is_right in enumerate(right):
        learned = learned or is_right
        if presentation > 0 and right[presentation - 1] and not is_right:
            events += 1
    return events if learned else len(right)


@given(st.integers(1, 8).flatmap(lambda t: st.lists(st.lists(st.booleans(), min_size=t, max_size=t), min_size=1)))
def test_a_sample_is_forgotten_when_it_is_right_and_wrong_at_the_next_presentation(samples: list[list[bool]]) -> None:
    counts = forgotten(torch.tensor(samples).T).tolist()
    assert counts == [slowly_forgotten(right) for right in samples]
    for right, count in zip(samples, counts, strict=True):
        assert any(right) <= (count < len(right))  # no sample that was learned is forgotten as often as one never was


class Scripted(nn.Module):
    """A network that is right about a sample at a presentation in training just where the table says so."""

    def __init__(self, table: list[list[bool]], labels: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.table = table
        self.labels = labels
        self.presented = [0] * len(labels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert self.training
        logits = torch.zeros(len(images), 2)
        for row, sample in enumerate(images.flatten().long().tolist()):
            is_right = self.table[sample][self.presented[sample]]
            self.presented[sample] += 1
            label = int(self.labels[sample])
            logits[row, label if is_right else 1 - label] = 1.0
        return logits + self.weight


def scripted(tables: list[list[list[bool]]], **more: Any) -> Run:
    size = len(tables[0])
    labels = torch.arange(size) % 2
    networks = {f"forgetting {number}": Scripted(table, labels) for number, table in enumerate(tables)}
    return run(torch.arange(size).float().view(-1, 1, 1, 1), labels, networks.__getitem__, batch_size=3, **more)


def test_forgetting_counts_what_training_itself_said_of_each_sample() -> None:
    table = [
        [True, True, True, True],  # never forgotten
        [True, False, True, False],  # twice
        [False, False, False, False],  # never learned
        [False, True, False, False],  # once
        [False, False, False, True],  # learned at last
    ]
    spent: list[float] = []
    assert Forgetting(epochs=4).scores(scripted([table], spent=spent)).tolist() == [0, 2, 4, 1, 0]
    assert sum(spent) == 3 * 4 * 5
    assert kept(Forgetting(epochs=4, ratio=0.6), scripted([table])) == [1, 2, 3]


def test_the_counts_of_several_networks_are_added_up() -> None:
    one = [[True, False, True], [False, False, False], [True, True, True]]
    other = [[True, False, False], [True, True, False], [False, False, False]]
    counts = Forgetting(epochs=3, networks=2).scores(scripted([one, other])).tolist()
    assert counts == [1 + 1, 3 + 1, 0 + 3]


def test_scoring_is_as_long_as_in_the_papers_in_relation_to_the_run() -> None:
    assert [EL2N().passes(random_run(epochs=epochs)) for epochs in (200, 30, 5)] == [20, 3, 1]
    assert Forgetting().passes(random_run(epochs=12)) == 12
    assert EL2N(epochs=7).passes(random_run()) == Forgetting(epochs=7).passes(random_run()) == 7


@pytest.mark.parametrize(
    ("method", "kind", "expected"),
    [
        (EL2N(), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}),
        (Forgetting(lr=0.3, momentum=0), torch.optim.SGD, {"lr": 0.3, "momentum": 0, "nesterov": False}),
        (EL2N(optimizer="adamw", weight_decay=0.01), torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.01}),
        (EL2N(optimizer="adamw", lr=0.02), torch.optim.AdamW, {"lr": 0.02, "weight_decay": 5e-4}),
    ],
)
def test_the_options_are_those_of_the_optimizer(method: Scored, kind: type, expected: dict[str, Any]) -> None:
    optimizer = method._optimizer(nn.Linear(2, 2))
    assert type(optimizer) is kind
    assert {name: optimizer.defaults[name] for name in expected} == expected


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_mislabeled_samples_have_the_largest_errors_and_an_offset_drops_them(optimizer: Any) -> None:
    size, wrong = 120, list(range(0, 120, 10))
    truth = torch.arange(size) % 3
    images = (4 * torch.eye(3)[truth] + 0.5 * torch.randn(size, 3, generator=generator(0, "noise"))).view(size, 1, 1, 3)
    labels = truth.clone()
    labels[wrong] = (truth[wrong] + 1) % 3
    options = {"optimizer": optimizer, "lr": None if optimizer == "sgd" else 0.1, "epochs": 8, "networks": 2}
    hardest = kept(EL2N(ratio=0.1, **options), run(images, labels, batch_size=16))
    assert hardest == wrong
    assert not set(kept(EL2N(ratio=0.3, offset=0.1, **options), run(images, labels, batch_size=16))) & set(wrong)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"offset 0.6 and ratio 0.5"):
        EL2N(offset=0.6)
    for options in ({"ratio": 0.0}, {"ratio": 1.1}, {"networks": 0}, {"epochs": 0}, {"lr": 0.0}, {"momentum": 1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Forgetting.model_validate(options)
    with pytest.raises(ValueError, match="granularity epoch"):
        MethodConfig(granularity="batch", selector={"use": f"{HERE}:EL2N"})


def config(name: str, **options: Any) -> TrialConfig:
    mine = {"granularity": "epoch", "selector": {"use": f"{HERE}:{name}", **options}}
    return as_arm(mine)


def trained(name: str, data: Any, **options: Any) -> tuple[Comparison, list[dict[str, Any]]]:
    return compared(config(name, **options), data)


@pytest.mark.parametrize(
    ("name", "options", "scoring"),
    [
        ("StaticRandom", {}, 0),
        ("EL2N", {"networks": 2, "epochs": 3}, 2 * (3 * 3 + 1) * 48),
        ("EL2N", {}, (3 * 1 + 1) * 48),
        ("Forgetting", {"epochs": 2}, 3 * 2 * 48),
        ("Forgetting", {}, 3 * 3 * 48),
    ],
)
def test_scoring_is_counted_once_and_an_epoch_is_what_is_kept(
    name: str, options: dict[str, Any], scoring: int, make_dataset: Any
) -> None:
    comparison, rows = trained(name, make_dataset(), ratio=0.25, **options)
    for row in rows[1:]:
        assert (row["samples_probed"], row["samples_trained"], row["steps"]) == (0, 12, 2)
        assert row["samples_rejected"] == 36
    assert [row["auxiliary_compute"] for row in rows] == [0, scoring, 0, 0]
    assert [row["compute"] for row in rows] == [0, 36 + scoring, 36, 36]
    assert rows[1]["auxiliary_seconds"] > 0 == rows[2]["auxiliary_seconds"]
    assert int(comparison.arms[-1].sampler.memory.kept.sum()) == 12


def test_every_epoch_trains_on_the_same_samples(make_dataset: Any) -> None:
    comparison, _ = trained("EL2N", make_dataset(), ratio=0.25)
    sampler = comparison.arms[-1].sampler
    sampler.start_epoch(4)
    again = sorted(i for views in sampler.batches(comparison.arms[-1].probe) for i in views.index.tolist())
    assert again == sampler.memory.kept.nonzero().flatten().tolist()


@pytest.mark.parametrize("name", ["StaticRandom", "EL2N", "Forgetting"])
def test_a_restored_comparison_goes_on_with_the_same_bits(name: str, make_dataset: Any) -> None:
    assert_goes_on(config(name), make_dataset())


class TestContract(SelectionContract):
    METHODS = (StaticRandom(ratio=0.3), EL2N(networks=2, epochs=1, offset=0.1), Forgetting(), EL2N(optimizer="adamw"))

    @pytest.fixture(params=METHODS, autouse=True)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.selection = request.param
