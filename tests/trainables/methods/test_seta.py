"""SeTa against its paper: the random share, groups of losses, and the window that slides over them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peer_helpers import looks_drawn_from, of_loss, remembering, trained, updates_without_waiting, whole
from pydantic import ValidationError

from trainables.contracts import SelectionContract
from trainables.methods import Memory
from trainables.methods.seta import SeTa, grouped

LOSSES = st.lists(st.floats(0, 20), min_size=1, max_size=40)


class TestSeTaContract(SelectionContract):
    selection = SeTa()


class TestNarrowWindowContract(SelectionContract):
    selection = SeTa(prune=0.3, groups=3, window=0.4, anneal=1.0)


def by_group(losses: list[float], groups: int) -> list[list[float]]:
    found = grouped(torch.tensor(losses, dtype=torch.float64), groups)
    return [sorted(itertools.compress(losses, found == group)) for group in range(int(found.max()) + 1)]


@given(LOSSES, st.integers(1, 8))
def test_groups_are_intervals_and_none_is_empty(losses: list[float], groups: int) -> None:
    parts = by_group(losses, groups)
    assert list(itertools.chain(*parts)) == sorted(losses)
    assert all(parts)
    assert len(parts) <= min(groups, len(set(losses)))


@given(LOSSES, st.integers(1, 8))
def test_every_loss_is_nearest_to_the_mean_of_its_group(losses: list[float], groups: int) -> None:
    parts = by_group(losses, groups)
    means = [sum(part) / len(part) for part in parts]
    for group, part in enumerate(parts):
        for loss in part:
            distances = [abs(loss - mean) for mean in means]
            assert distances[group] <= min(distances) + 1e-9


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_well_separated_losses_are_grouped_as_the_best_partition_does(groups: int) -> None:
    random = torch.Generator().manual_seed(0)
    losses = sorted((torch.rand(12, generator=random) + 10 * (torch.arange(12) % groups)).tolist())

    def squares(part: list[float]) -> float:
        mean = sum(part) / len(part)
        return sum((loss - mean) ** 2 for loss in part)

    partitions = []
    for cuts in itertools.combinations(range(1, 12), groups - 1):
        partitions.append([losses[a:b] for a, b in itertools.pairwise((0, *cuts, 12))])
    assert by_group(losses, groups) == min(partitions, key=lambda parts: sum(map(squares, parts)))


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0] * 6, [0] * 6),  # one distinct loss, one group
        ([0.0] * 8 + [5.0], [0] * 8 + [1]),
        ([0.0] * 20 + [1.0, 2.0, 3.0, 4.0], [0] * 20 + [1, 2, 3, 4]),  # ties take up no more than one group
        ([3.0], [0]),
        ([1.0, math.inf, 9.0, math.nan], [0, 1, 1, 1]),
        ([math.inf, math.nan], [0, 0]),
    ],
)
def test_groups_of_known_losses(losses: list[float], expected: list[int]) -> None:
    assert grouped(torch.tensor(losses), 5).tolist() == expected


def test_groups_do_not_depend_on_the_order_of_the_losses() -> None:
    losses = torch.rand(200, generator=torch.Generator().manual_seed(3)) ** 4
    order = torch.randperm(200, generator=torch.Generator().manual_seed(4))
    assert torch.equal(grouped(losses, 5)[order], grouped(losses[order], 5))


def five_groups(peer: SeTa, epochs: int = 80) -> tuple[Memory, list[int]]:
    """The memory of 50 samples in five clear groups of ten, and each sample's group."""
    memory = remembering(peer, 50, epochs=epochs)
    group = [(7 * i) % 5 for i in range(50)]
    trained(peer, memory, list(range(50)), of_loss([0.1 + 2 * group[i] + 0.001 * i for i in range(50)]))
    return memory, group


def trained_groups(peer: SeTa, memory: Memory, group: list[int], number: int, epoch: int | None = None) -> set[int]:
    positions = peer.choose(whole(50, epoch or number, number), None, memory).positions.tolist()
    assert positions == sorted(positions)  # in the order drawn
    groups = {group[i] for i in positions}
    assert len(positions) == 10 * len(groups)  # a group is trained on as a whole
    return groups


def test_the_window_slides_from_easy_to_hard_and_begins_again() -> None:
    peer = SeTa(prune=0, groups=5, window=0.5)  # round(2.5) = 2 groups, four places
    memory, group = five_groups(peer)
    seen = [trained_groups(peer, memory, group, number) for number in range(1, 11)]
    easy_to_hard = [{0, 1}, {1, 2}, {2, 3}, {3, 4}]
    assert seen == [{0, 1, 2, 3, 4}, *(easy_to_hard[number % 4] for number in range(1, 10))]


def test_by_default_four_of_five_groups_are_trained_on() -> None:
    peer = SeTa(prune=0)
    memory, group = five_groups(peer)
    seen = [trained_groups(peer, memory, group, number) for number in (2, 3, 4)]
    assert seen == [{1, 2, 3, 4}, {0, 1, 2, 3}, {1, 2, 3, 4}]


def test_after_the_share_of_the_epochs_that_it_anneals_only_the_random_share_is_left_out() -> None:
    peer = SeTa(prune=0, anneal=0.875)
    memory, group = five_groups(peer, epochs=20)  # the window is there until epoch 17
    assert trained_groups(peer, memory, group, 17) == {0, 1, 2, 3}
    assert trained_groups(peer, memory, group, 18) == {0, 1, 2, 3, 4}
    assert trained_groups(peer, memory, group, 9, epoch=18) == {0, 1, 2, 3, 4}  # as under a budget
    assert trained_groups(peer, memory, group, 40, epoch=17) == {1, 2, 3, 4}
    peer = SeTa(prune=0.2, anneal=0.875)
    memory, _ = five_groups(peer, epochs=20)
    assert len(peer.choose(whole(50, 18), None, memory).positions) == 40


@pytest.mark.parametrize(("prune", "size", "expected"), [(0.1, 50, 45), (0.3, 10, 7), (0.99, 10, 1), (0.0, 9, 9)])
def test_a_random_share_is_left_out(prune: float, size: int, expected: int) -> None:
    peer = SeTa(prune=prune)
    memory = remembering(peer, size)
    assert len(peer.choose(whole(size), None, memory).positions) == expected


def test_every_sample_is_as_likely_to_be_left_out() -> None:
    peer = SeTa(prune=0.4)
    memory = remembering(peer, 10)
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[peer.choose(whole(10, seed=seed), None, memory).positions] += 1
    assert counts.sum() == 12000
    assert looks_drawn_from(counts, [1.0] * 10)


def test_groups_are_made_of_what_the_random_share_left() -> None:
    peer = SeTa(prune=0.2)
    memory, group = five_groups(peer)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(9)).tolist()
    for seed in range(20):
        unit = whole(50, 2, seed=seed, order=order)
        positions = peer.choose(unit, None, memory).positions.tolist()
        kept = sorted(torch.randperm(50, generator=unit.random_of(0))[:40].tolist())
        assert positions == [i for i in kept if group[order[i]] > 0]


def test_a_sample_without_a_loss_has_that_of_a_model_that_knows_nothing() -> None:
    memory = remembering(peer := SeTa(), 3, classes=10)
    trained(peer, memory, [1], of_loss([0.5]))
    assert memory.losses.tolist() == pytest.approx([math.log(10), 0.5, math.log(10)])


def test_a_loss_that_is_not_a_number_is_in_the_hardest_group() -> None:
    peer = SeTa(prune=0)
    memory, _ = five_groups(peer)
    trained(peer, memory, [0], torch.tensor([[math.nan, 0.0]]))
    assert 0 in peer.choose(whole(50, 2), None, memory).positions.tolist()
    assert 0 not in peer.choose(whole(50, 3), None, memory).positions.tolist()


def test_the_loss_is_the_plain_mean_and_waits_for_nothing() -> None:
    memory = remembering(peer := SeTa(), 3)
    assert trained(peer, memory, [0, 2], of_loss([1.0, 3.0])).item() == pytest.approx(2.0)
    assert updates_without_waiting(peer)


@pytest.mark.parametrize("options", [{"prune": 1.0}, {"groups": 0}, {"window": 0.0}, {"window": 1.1}, {"anneal": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        SeTa(**options)
