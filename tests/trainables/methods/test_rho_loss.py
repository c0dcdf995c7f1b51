"""RHO-LOSS against the formulas of its paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peer_helpers import as_arm, assert_goes_on, compared
from torch import nn
from torch.nn.functional import cross_entropy

from trainables.comparison import Comparison
from trainables.config import MethodConfig, TrialConfig
from trainables.contracts import SelectionContract
from trainables.methods import Memory, ProbeResult, Run, Unit
from trainables.methods.rho_loss import RhoLoss
from trainables.seeds import generator

CPU = torch.device("cpu")
USE = "trainables.methods.rho_loss:RhoLoss"


def probed(losses: list[float]) -> ProbeResult:
    """A probe's result with these losses, as cross-entropy over two classes gives them."""
    values = torch.tensor(losses, dtype=torch.float64)
    labels = torch.zeros(len(losses), dtype=torch.int64)
    return ProbeResult(torch.stack((torch.zeros_like(values), values.expm1().log()), 1), labels)


def unit(index: torch.Tensor) -> Unit:
    return Unit(0, 1, 1, index, len(index), 0, lambda arm: [], lambda spent: None)


def remembering(irreducible: list[float]) -> Memory:
    memory = Memory()
    memory.irreducible = torch.tensor(irreducible)
    return memory


LOSSES = st.lists(st.tuples(st.floats(0, 20, width=32), st.floats(0, 20, width=32)), min_size=1, max_size=40)


@given(LOSSES, st.sampled_from([0.1, 0.25, 0.5, 1.0]), st.randoms())
def test_the_samples_of_the_largest_reducible_losses_are_selected(
    losses: list[tuple[float, float]], ratio: float, random: Any
) -> None:
    size = len(losses)
    index = list(range(size))
    random.shuffle(index)  # the unit has the samples in another order than the training set
    result = probed([losses[i][0] for i in index])
    chosen = RhoLoss(ratio=ratio).choose(unit(torch.tensor(index)), result, remembering([il for _, il in losses]))
    reducible = [loss - losses[i][1] for loss, i in zip(result.losses.tolist(), index, strict=True)]
    count = max(round(ratio * size), 1)
    expected = sorted(range(size), key=lambda position: -reducible[position])[:count]
    assert chosen.weights is None
    assert len(set(chosen.positions.tolist())) == count
    found = [reducible[position] for position in chosen.positions.tolist()]
    assert found == pytest.approx([reducible[position] for position in expected], abs=1e-5)  # the largest first


def test_where_nothing_is_irreducible_the_largest_losses_are_selected() -> None:
    chosen = RhoLoss(ratio=0.5).choose(unit(torch.arange(6)), probed([1, 5, 2, 4, 3, 0]), remembering([0.0] * 6))
    assert chosen.positions.tolist() == [1, 3, 4]


def test_where_every_loss_is_irreducible_the_first_drawn_are_selected() -> None:
    result = probed([1, 5, 2, 4, 3, 0])
    chosen = RhoLoss(ratio=0.5).choose(unit(torch.arange(6)), result, remembering(result.losses.tolist()))
    assert sorted(chosen.positions.tolist()) == [0, 1, 2]


def test_a_loss_that_is_not_a_number_counts_as_infinite() -> None:
    logits = torch.tensor([[0.0, 9.0], [math.nan, 0.0], [0.0, 2.0]])
    result = ProbeResult(logits, torch.zeros(3, dtype=torch.int64))
    assert RhoLoss(ratio=0.4).choose(unit(torch.arange(3)), result, remembering([0.0] * 3)).positions.tolist() == [1]


@given(st.integers(1, 5000), st.integers(1, 100).map(lambda percent: f"{percent / 100:.2f}"))
def test_a_raw_batch_is_as_large_as_it_takes_to_fill_a_batch(batch_size: int, ratio: str) -> None:
    method = RhoLoss(ratio=float(ratio))
    drawn = method.draw(batch_size, Memory())
    assert drawn == math.ceil(Fraction(batch_size) / Fraction(ratio))
    assert round(Fraction(ratio) * drawn) >= batch_size
    assert method.most(drawn) >= max(round(float(ratio) * drawn), 1)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.sampled_from([0.1, 0.3, 0.5]))
def test_what_is_selected_at_most_holds_for_units_of_any_sizes(sizes: list[int], ratio: float) -> None:
    method = RhoLoss(ratio=ratio)
    assert sum(map(method.most, sizes)) >= max(round(ratio * sum(sizes)), 1)


class Spied(nn.Module):
    """A network that notes which samples it sees, by training or not, and how high its losses are after each pass.

    A sample is its own image, and its label is 0.
    """

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.losses = losses
        self.trained: list[list[int]] = []
        self.scored: list[list[int]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        samples = images.flatten().long().tolist()
        if self.training:
            assert torch.is_grad_enabled()
            self.trained.append(samples)
            return torch.zeros(len(images), 2) + self.weight
        assert not torch.is_grad_enabled()
        self.scored.append(samples)
        values = self.losses[len(self.scored) - 1] + images.flatten() / 1000
        return torch.stack((torch.zeros_like(values), values.expm1().log()), 1)


def spied(
    size: int, losses: list[float], batch_size: int = 4, spent: list[float] | None = None, epochs: int = 10
) -> Any:
    networks: dict[str, Spied] = {}

    def network(stream: str) -> nn.Module:
        networks[stream] = Spied(losses)
        return networks[stream]

    return networks, Run(
        size=size,
        classes=2,
        labels=torch.zeros(size, dtype=torch.int64),
        batch_size=batch_size,
        epochs=epochs,
        device=CPU,
        images=lambda index: index.float().view(-1, 1, 1, 1),
        network=network,
        stream=lambda name: generator(0, name),
        spend=(spent if spent is not None else []).append,
    )


def irreducible(method: RhoLoss, run: Run) -> torch.Tensor:
    memory = Memory()
    method.begin(run, memory)
    method.prepare(run, memory)
    return memory.irreducible


@pytest.mark.parametrize("size", [12, 13])
def test_each_half_is_scored_by_a_network_that_never_saw_it(size: int) -> None:
    networks, run = spied(size, [1.0, 1.0, 1.0])
    irreducible(RhoLoss(epochs=3), run)
    one, other = networks.values()
    halves = []
    for network in (one, other):
        trained = {i for batch in network.trained for i in batch}
        scored = {i for samples in network.scored for i in samples}
        assert not trained & scored
        assert trained | scored == set(range(size))
        assert sorted(i for batch in network.trained for i in batch) == sorted(3 * list(trained))  # once in each pass
        assert len(network.scored) == 3
        halves.append((trained, scored))
    assert halves[0] == halves[1][::-1]
    assert {len(trained) for trained, _ in halves} == {size // 2, size - size // 2}
    assert halves[0][0] != set(range(size // 2 + size % 2))  # they are random halves


def test_the_pass_of_the_least_mean_loss_on_the_scored_half_counts() -> None:
    _, run = spied(10, [3.0, 1.0, 2.0, 1.0])
    expected = 1.0 + torch.arange(10) / 1000
    assert torch.allclose(irreducible(RhoLoss(epochs=4), run), expected, atol=1e-5)


def test_a_network_that_diverges_leaves_its_last_good_pass_or_nothing_to_reduce() -> None:
    _, run = spied(10, [math.nan, 2.0, math.nan])
    assert torch.allclose(irreducible(RhoLoss(epochs=3), run), 2.0 + torch.arange(10) / 1000, atol=1e-5)
    _, run = spied(10, [math.nan, math.nan])
    found = irreducible(RhoLoss(epochs=2), run)
    assert found.isfinite().all()
    assert found.min() > 1e30
    memory = remembering(found.tolist())
    chosen = RhoLoss(ratio=0.5).choose(unit(torch.arange(4)), probed([1.0, 2.0, 3.0, 4.0]), memory)
    assert chosen.positions.tolist() == [0, 1]


def test_the_cost_of_both_networks_is_counted() -> None:
    spent: list[float] = []
    _, run = spied(13, [1.0] * 5, spent=spent)
    irreducible(RhoLoss(epochs=5), run)
    assert sum(spent) == 5 * (3 + 1) * 13


def test_auxiliary_networks_are_trained_for_half_as_many_epochs_as_the_run_has() -> None:
    for epochs, passes in ((10, 5), (7, 4), (1, 1)):
        networks, run = spied(8, [1.0] * 9, epochs=epochs)
        irreducible(RhoLoss(), run)
        assert [len(network.scored) for network in networks.values()] == [passes, passes]


def test_the_options_are_those_of_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    adamw = torch.optim.AdamW
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda parameters, **given: made.append(given) or adamw(parameters, **given)
    )
    _, run = spied(8, [1.0])
    irreducible(RhoLoss(epochs=1), run)
    irreducible(RhoLoss(epochs=1, lr=0.02, weight_decay=0.5), run)
    assert made == 2 * [{"lr": 1e-3, "weight_decay": 0.01}] + 2 * [{"lr": 0.02, "weight_decay": 0.5}]


def noisy() -> tuple[Run, torch.Tensor]:
    """Three well separated classes; every tenth sample is mislabeled."""
    size = 300
    truth = torch.arange(size) % 3
    wrong = torch.arange(size) % 10 == 0
    images = (3 * torch.eye(3)[truth] + 0.5 * torch.randn(size, 3, generator=generator(0, "noise"))).view(size, 1, 1, 3)
    labels = torch.where(wrong, (truth + 1) % 3, truth)

    def network(stream: str) -> nn.Module:
        layer = nn.utils.skip_init(nn.Linear, 3, 3)
        nn.init.normal_(layer.weight, generator=generator(0, stream))
        nn.init.zeros_(layer.bias)
        return nn.Sequential(nn.Flatten(), layer)

    stream: Callable[[str], torch.Generator] = lambda name: generator(0, name)  # noqa: E731
    images_at: Callable[[torch.Tensor], torch.Tensor] = lambda index: images[index]  # noqa: E731
    return Run(size, 3, labels, 16, 10, CPU, images_at, network, stream, lambda spent: None), wrong


def test_mislabeled_samples_have_high_irreducible_losses_and_are_no_longer_selected() -> None:
    run, wrong = noisy()
    method = RhoLoss(ratio=0.1, epochs=10, lr=0.05)
    memory = Memory()
    method.begin(run, memory)
    everything = torch.arange(run.size)
    logits = 2 * torch.eye(3)[everything % 3]  # a network that knows two classes, and of the third nothing yet
    logits[everything % 3 == 2] = 0.0
    logits = logits + 0.1 * torch.randn(run.size, 3, generator=generator(1, "network"))
    result = ProbeResult(logits, run.labels)
    by_loss = method.choose(unit(everything), result, memory).positions
    method.prepare(run, memory)
    by_reducible_loss = method.choose(unit(everything), result, memory).positions
    assert memory.irreducible[wrong].min() > memory.irreducible[~wrong].median()
    assert memory.irreducible[wrong].mean() > 3 * memory.irreducible[~wrong].mean()
    assert wrong[by_loss].float().mean() > 0.6  # mostly noise, which is a tenth of the samples
    assert wrong[by_reducible_loss].float().mean() < 0.1
    assert (everything[by_reducible_loss] % 3 == 2).float().mean() > 0.9  # what can still be learned


def test_irreducible_losses_are_cross_entropies_of_networks_trained_apart() -> None:
    """The whole computation once more, slowly."""
    run, _ = noisy()
    method = RhoLoss(epochs=2, lr=0.05)
    found = irreducible(method, run)
    order = torch.randperm(run.size, generator=run.stream("rho_loss halves"))
    halves = order[: run.size // 2], order[run.size // 2 :]
    for number in range(2):
        trained, scored = halves[number], halves[1 - number]
        network, random = run.network(f"rho_loss {number}"), run.stream(f"rho_loss {number}")
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.05, weight_decay=0.01)
        best = None
        for _ in range(2):
            shuffled = trained[torch.randperm(len(trained), generator=random)]
            for some in shuffled.tensor_split(math.ceil(150 / 16)):
                optimizer.zero_grad()
                cross_entropy(network(run.images(some)), run.labels[some]).backward()
                optimizer.step()
            with torch.no_grad():
                losses = [float(cross_entropy(network(run.images(i[None])), run.labels[i][None])) for i in scored]
            if best is None or sum(losses) < sum(best):
                best = losses
        assert found[scored].tolist() == pytest.approx(best, abs=1e-4)


def config(**options: Any) -> TrialConfig:
    mine = {"granularity": "batch", "overflow": "carry", "selector": {"use": USE, **options}}
    return as_arm(mine, batch_size=4)


def trained(data: Any, **options: Any) -> tuple[Comparison, list[dict[str, Any]]]:
    return compared(config(**options), data)


def test_an_epoch_probes_all_samples_and_trains_on_the_share(make_dataset: Any) -> None:
    _, rows = trained(make_dataset(), ratio=0.25, epochs=2)
    for row in rows[1:]:  # 48 samples in raw batches of 16, each of which fills a batch of 4
        assert (row["samples_probed"], row["samples_kept"], row["samples_trained"]) == (48, 12, 12)
        assert (row["steps"], row["raw_batches"], row["samples_overflowed"]) == (3, 3, 0)
    assert [row["auxiliary_compute"] for row in rows] == [0, 2 * 4 * 48, 0, 0]
    assert [row["compute"] for row in rows] == [0, 48 * (1 + 3 * 0.25) + 2 * 4 * 48, 84, 84]


def test_by_default_a_tenth_is_trained_on(make_dataset: Any) -> None:
    _, rows = trained(make_dataset(train=80))
    assert [row["samples_trained"] for row in rows] == [0, 8, 8, 8]
    assert rows[1]["auxiliary_compute"] == 2 * 4 * 80  # half of three epochs, rounded up


def test_options_that_make_no_sense_are_refused() -> None:
    for options in ({"ratio": 0.0}, {"ratio": 1.1}, {"epochs": 0}, {"lr": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            RhoLoss.model_validate(options)
    with pytest.raises(ValueError, match="granularity batch"):
        MethodConfig(granularity="epoch", selector={"use": USE})


def test_a_restored_comparison_goes_on_with_the_same_bits(make_dataset: Any) -> None:
    assert_goes_on(config(ratio=0.25), make_dataset())


class TestContract(SelectionContract):
    """Its raw batches are twice as large as the arm's, as the contract allows."""

    selection = RhoLoss(ratio=0.5, epochs=2)
