"""Selective Backprop's options: the authors' own, Composer's, and stale losses. ``test_peers.py`` has the formula."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.comparison import Comparison
from trainables.config import MethodConfig, TrialConfig
from trainables.contracts import SelectionContract
from trainables.methods import Memory, ProbeResult, Run, Unit
from trainables.methods.selective_backprop import SelectiveBackprop

CPU = torch.device("cpu")
LOSSES = st.lists(st.floats(0, 20, width=32), min_size=1, max_size=40)


def probed(losses: list[float]) -> ProbeResult:
    """A probe's result with these losses, as cross-entropy over two classes gives them."""
    values = torch.tensor(losses, dtype=torch.float64)
    labels = torch.zeros(len(losses), dtype=torch.int64)
    return ProbeResult(torch.stack((torch.zeros_like(values), values.expm1().log()), 1), labels)


def remembering(method: SelectiveBackprop, size: int = 0, epochs: int = 10) -> Memory:
    memory = Memory()
    labels = torch.zeros(size, dtype=torch.int64)
    method.begin(Run(size, 2, labels, 4, epochs, CPU, Any, Any, Any, lambda spent: None), memory)
    return memory


def unit(index: list[int], *, number: int = 0, epoch: int = 1, pass_number: int | None = None, seed: int = 0) -> Unit:
    passed = epoch if pass_number is None else pass_number
    return Unit(number, epoch, passed, torch.tensor(index), len(index), seed, lambda arm: [], lambda spent: None)


def whole(method: SelectiveBackprop, memory: Memory, one: Unit) -> bool:
    """Whether the unit is taken as a whole, unprobed."""
    before = memory.state_dict()
    if (look := method.look(one, memory)) is not False:
        assert look is True
        return False
    assert method.choose(one, None, memory).positions.tolist() == list(range(len(one)))
    assert memory.state_dict().keys() == before.keys()
    assert torch.equal(memory.history, before["history"])
    return True


@given(st.lists(LOSSES, min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 3.0]), st.integers(1, 50))
def test_by_default_it_selects_bit_for_bit_as_it_did_without_options(
    batches: list[list[float]], beta: float, window: int
) -> None:
    method = SelectiveBackprop(beta=beta, window=window)
    memory = remembering(method)
    history = torch.empty(0)
    for number, losses in enumerate(batches):
        one = unit(list(range(len(losses))), number=number)
        assert method.look(one, memory) is True
        positions = method.choose(one, probed(losses), memory).positions
        found = probed(losses).losses
        history = torch.cat((history, found))[-window:]
        ranks = torch.searchsorted(history.sort().values, found, right=True)
        chances = (ranks / max(len(history), 1)) ** beta
        drawn = torch.rand(len(found), generator=unit([0] * len(losses), number=number).random)
        assert positions.tolist() == (drawn < chances).nonzero().flatten().tolist()
        assert torch.equal(memory.history, history)
    assert list(memory.state_dict()) == ["history"]


@given(st.lists(LOSSES, min_size=1, max_size=4), st.sampled_from([1.0, 3.0]), st.integers(1, 50))
def test_a_strict_rank_counts_smaller_losses_alone(batches: list[list[float]], beta: float, window: int) -> None:
    method = SelectiveBackprop(beta=beta, window=window, strict=True)
    memory = remembering(method)
    history: list[float] = []
    for losses in batches:
        result = probed(losses)
        positions = method.choose(unit(list(range(len(losses)))), result, memory).positions.tolist()
        values = result.losses.tolist()
        history = (history + values)[-window:]
        expected = [(sum(past < loss for past in history) / len(history)) ** beta for loss in values]
        assert method.probabilities(result.losses, memory).tolist() == pytest.approx(expected, abs=1e-6)
        assert all(expected[position] > 0 for position in positions)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
def test_the_share_selected_is_about_one_in_one_plus_beta(beta: float, strict: bool) -> None:
    """The authors' log has 24.7 % at a beta of 3."""
    method = SelectiveBackprop(beta=beta, strict=strict, window=4000)
    memory = remembering(method)
    losses = torch.rand(4000, generator=torch.Generator().manual_seed(0)).tolist()
    selected = len(method.choose(unit(list(range(4000))), probed(losses), memory).positions)
    assert selected / 4000 == pytest.approx(1 / (1 + beta), abs=0.03)


def test_the_first_passes_are_taken_as_a_whole() -> None:
    method = SelectiveBackprop(prime=2)
    memory = remembering(method)
    taken = [whole(method, memory, unit([0, 1, 2], epoch=1, pass_number=number)) for number in (1, 2, 3, 4)]
    assert taken == [True, True, False, False]
    assert list(memory.state_dict()) == ["history"]


PERCENT = st.integers(0, 100)


@given(st.integers(1, 300), st.tuples(PERCENT, PERCENT).filter(lambda shares: shares[0] < shares[1]))
def test_it_selects_in_the_epochs_between_the_shares_start_and_end(epochs: int, shares: tuple[int, int]) -> None:
    start, end = shares
    method = SelectiveBackprop(start=start / 100, end=end / 100)
    memory = remembering(method, epochs=epochs)
    for epoch in range(1, epochs + 1):
        elapsed = Fraction(epoch - 1, epochs)  # when the epoch begins
        selects = Fraction(start, 100) <= elapsed < Fraction(end, 100)
        assert whole(method, memory, unit([0], epoch=epoch)) != selects


def test_composers_shares_of_ten_epochs() -> None:
    method = SelectiveBackprop(start=0.5, end=0.9)
    memory = remembering(method, epochs=10)
    selecting = [epoch for epoch in range(1, 11) if not whole(method, memory, unit([0], epoch=epoch))]
    assert selecting == [6, 7, 8, 9]


@pytest.mark.parametrize(
    ("interrupt", "taken"), [(0, []), (2, [1, 3, 5, 7]), (3, [2, 5]), (8, [7]), (9, [])], ids=lambda value: str(value)
)
def test_every_so_many_th_raw_batch_is_taken_as_a_whole(interrupt: int, taken: list[int]) -> None:
    method = SelectiveBackprop(interrupt=interrupt)
    memory = remembering(method)
    found = [number for number in range(8) if whole(method, memory, unit([0, 1], number=number, epoch=3))]
    assert found == taken


def test_a_loss_serves_for_so_many_passes() -> None:
    """Sample i has the loss i + the pass's number / 10 at each look, so that the remembered ones tell their age."""
    method = SelectiveBackprop(stale=3, window=4)
    memory = remembering(method, size=4)
    looks, ages = [], []
    for number in range(1, 9):
        one = unit([2, 0, 3, 1], epoch=number, seed=number)
        look = method.look(one, memory)
        assert isinstance(look, torch.Tensor)
        looks.append(len(look))
        seen = probed([int(one.index[i]) + number / 10 for i in look]) if len(look) else None
        method.choose(one, seen, memory)
        ages.append(round(10 * float(memory.history[1])))  # of sample 0, the second of the unit
        expected = [i + ages[-1] / 10 for i in (2, 0, 3, 1)]
        assert memory.history.tolist() == pytest.approx(expected, abs=1e-5)
    assert looks == [4, 0, 0, 4, 0, 0, 4, 0]
    assert ages == [1, 1, 1, 4, 4, 4, 7, 7]


def test_a_sample_whose_loss_is_not_known_is_looked_at() -> None:
    method = SelectiveBackprop(stale=2)
    memory = remembering(method, size=6)
    first = unit([4, 1, 0], epoch=1)
    assert method.look(first, memory).tolist() == [0, 1, 2]  # type: ignore[union-attr]
    method.choose(first, probed([4.0, 1.0, 0.5]), memory)
    second = unit([1, 5, 0, 3], epoch=2)
    assert method.look(second, memory).tolist() == [1, 3]  # type: ignore[union-attr]
    method.choose(second, probed([5.0, 3.0]), memory)
    assert memory.history[-4:].tolist() == pytest.approx([1.0, 5.0, 0.5, 3.0])
    third = unit([0, 1, 2, 3, 4, 5], epoch=3)
    assert method.look(third, memory).tolist() == [0, 1, 2, 4]  # type: ignore[union-attr]


def test_a_stale_loss_that_is_not_a_number_has_the_highest_rank() -> None:
    method = SelectiveBackprop(stale=2, window=8)
    memory = remembering(method, size=2)
    one = unit([0, 1])
    method.look(one, memory)
    result = ProbeResult(torch.tensor([[math.nan, 0.0], [5.0, 0.0]]), torch.zeros(2).long())
    assert 0 in method.choose(one, result, memory).positions.tolist()
    assert 0 in method.choose(unit([0, 1], epoch=2), None, memory).positions.tolist()


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"start 0.9 must be below end 0.5"):
        SelectiveBackprop(start=0.9, end=0.5)
    with pytest.raises(ValueError, match="interrupt 1"):
        SelectiveBackprop(interrupt=1)
    for options in ({"prime": -1}, {"start": 1.0}, {"end": 0.0}, {"interrupt": -2}, {"stale": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SelectiveBackprop.model_validate(options)


def test_the_options_can_be_named_in_a_configuration() -> None:
    options = {"name": "selective_backprop", "prime": 1, "strict": True, "beta": 3.0, "stale": 3}
    assert MethodConfig(selector=options).selector == SelectiveBackprop(prime=1, strict=True, beta=3.0, stale=3)


def trained(data: Any, epochs: int = 4, **options: Any) -> list[dict[str, Any]]:
    selector = {"name": "selective_backprop", "window": 64, **options}
    config = TrialConfig.model_validate(
        {
            "batch_size": 8,
            "epochs": epochs,
            "model": {"name": "FCNet8"},
            "optimizer": {"lr": 0.02},
            "augmentation": "none",
            "arms": {"archetype": {}, "mine": {"granularity": "batch", "overflow": "carry", "selector": selector}},
            "treatment": "mine",
        }
    )
    comparison = Comparison(config, data, CPU)
    rows = []
    while not comparison.done:
        rows += [row for row in comparison.step() if row["arm"] == "mine"]
    return rows[1:]


def test_a_primed_pass_is_that_of_the_archetype(make_dataset: Any) -> None:
    rows = trained(make_dataset(), prime=1)
    assert [row["samples_probed"] for row in rows] == [0, 48, 48, 48]
    assert (rows[0]["samples_trained"], rows[0]["steps"], rows[0]["compute"]) == (48, 6, 3 * 48)
    assert all(row["compute"] == 48 + 3 * row["samples_trained"] for row in rows[1:])


def test_interrupted_and_stale_epochs_probe_less(make_dataset: Any) -> None:
    data = make_dataset()
    assert [row["samples_probed"] for row in trained(data, interrupt=2)] == [24] * 4
    assert [row["samples_probed"] for row in trained(data, interrupt=3)] == [32] * 4
    assert [row["samples_probed"] for row in trained(data, stale=3, epochs=5)] == [48, 0, 0, 48, 0]
    assert [row["samples_probed"] for row in trained(data, start=0.25, end=0.75)] == [0, 48, 48, 0]


def test_whole_raw_batches_count_as_kept(make_dataset: Any) -> None:
    for row in trained(make_dataset(), interrupt=2):
        assert row["samples_kept"] + row["samples_rejected"] == 48
        assert row["samples_kept"] >= 24


class TestContract(SelectionContract):
    METHODS = (
        SelectiveBackprop(),
        SelectiveBackprop(prime=1, strict=True, beta=3.0),
        SelectiveBackprop(start=0.3, end=0.7),
        SelectiveBackprop(interrupt=2, window=16),
        SelectiveBackprop(stale=2),
        SelectiveBackprop(stale=2, prime=1, interrupt=3, end=0.9),
    )

    @pytest.fixture(params=METHODS, autouse=True)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.selection = request.param
