"""Ordered SGD against the formulas of its paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peer_helpers import as_arm, assert_goes_on, compared

from trainables.comparison import Comparison
from trainables.config import MethodConfig, TrialConfig
from trainables.contracts import SelectionContract
from trainables.methods import Batch, Memory, Run, Unit
from trainables.methods.ordered_sgd import OrderedSGD

CPU = torch.device("cpu")
USE = "trainables.methods.ordered_sgd:OrderedSGD"


def remembering(method: OrderedSGD, batch_size: int, device: torch.device = CPU) -> Memory:
    memory = Memory()
    labels = torch.zeros(64, dtype=torch.int64, device=device)
    method.begin(Run(64, 3, labels, batch_size, 10, device, Any, Any, Any, lambda spent: None), memory)
    return memory


def unit(size: int, pass_number: int = 1) -> Unit:
    return Unit(0, pass_number, pass_number, torch.arange(size), size, 0, lambda arm: [], lambda spent: None)


def batch(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> Batch:
    withheld = torch.zeros((), dtype=torch.int64, device=logits.device)
    return Batch(torch.arange(len(labels), device=logits.device), logits, labels, withheld, None, smoothing)


def cross_entropies(logits: list[list[float]], labels: list[int]) -> list[float]:
    """Written out: the log of the sum of exponentials, less the label's logit."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        largest = max(row)
        losses.append(math.log(sum(math.exp(value - largest) for value in row)) + largest - row[label])
    return losses


ROWS = st.lists(
    st.tuples(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), st.integers(0, 2)), min_size=1, max_size=20
)


@given(ROWS, st.integers(1, 25))
def test_the_loss_is_the_mean_of_the_q_largest_losses(rows: list[tuple[list[float], int]], q: int) -> None:
    scores, truth = [row for row, _ in rows], [label for _, label in rows]
    logits = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    given = batch(logits, torch.tensor(truth))
    method = OrderedSGD(q=q)
    loss = method.loss(given, remembering(method, batch_size=16))
    largest = sorted(cross_entropies(scores, truth), reverse=True)[:q]
    assert loss.item() == pytest.approx(sum(largest) / len(largest), rel=1e-9, abs=1e-9)
    assert given.withheld is not None
    assert given.withheld.item() == len(rows) - len(largest)  # the others are not sent backward


def test_the_gradient_is_that_of_the_chosen_samples_alone() -> None:
    scores, truth = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]], [0, 0, 0, 0]
    losses = cross_entropies(scores, truth)
    chosen = sorted(range(4), key=lambda i: -losses[i])[:2]
    logits = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    method = OrderedSGD(q=2)
    method.loss(batch(logits, torch.tensor(truth)), remembering(method, 4)).backward()
    assert logits.grad is not None
    for i, row in enumerate(scores):
        total = sum(math.exp(value) for value in row)
        expected = [(math.exp(value) / total - (k == truth[i])) / 2 for k, value in enumerate(row)]
        assert logits.grad[i].tolist() == pytest.approx(expected if i in chosen else [0.0] * 3, abs=1e-12)


def test_of_equal_losses_the_first_drawn_is_chosen() -> None:
    logits = torch.zeros(4, 3, requires_grad=True)
    method = OrderedSGD(q=2)
    method.loss(batch(logits, torch.tensor([0, 1, 2, 0])), remembering(method, 4)).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum(1).bool().tolist() == [True, True, False, False]


def test_with_label_smoothing_losses_are_ranked_as_they_are_trained_on() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [1.0, 0.5, 0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 0])
    method = OrderedSGD(q=1)
    plain = method.loss(batch(logits, labels), remembering(method, 2))
    smoothed = method.loss(batch(logits, labels, smoothing=0.5), remembering(method, 2))
    first, second = cross_entropies(logits.tolist(), [0, 0])
    assert plain.item() == pytest.approx(second)  # the surer sample has the smaller loss
    of_all = [sum(cross_entropies([row] * 3, [0, 1, 2])) / 3 for row in logits.tolist()]
    assert smoothed.item() == pytest.approx(0.5 * first + 0.5 * of_all[0])  # and the larger one when that is penalized


def pass_of(method: OrderedSGD, memory: Memory, right: int, size: int, batch_size: int) -> None:
    """A pass whose updates have so many samples right."""
    method.choose(unit(size), None, memory)
    labels = torch.zeros(size, dtype=torch.int64)
    logits = torch.zeros(size, 3)
    logits[:right, 0], logits[right:, 1] = 1.0, 1.0
    for some, truth in zip(logits.split(batch_size), labels.split(batch_size), strict=True):
        method.loss(batch(some, truth), memory)


@pytest.mark.parametrize(
    ("right", "q"),
    [(0, 64), (799, 64), (800, 32), (899, 32), (900, 16), (949, 16), (950, 8), (994, 8), (995, 4), (1000, 4)],
)
def test_an_adaptive_q_is_halved_when_the_accuracy_of_the_last_pass_reaches_a_stage(right: int, q: int) -> None:
    method = OrderedSGD()
    memory = remembering(method, batch_size=64)
    method.choose(unit(1000), None, memory)
    assert memory.q.item() == 64  # nothing is known
    pass_of(method, memory, right, 1000, 64)
    assert memory.q.item() == 64  # it changes between passes alone
    method.choose(unit(1000), None, memory)
    assert memory.q.item() == q


def test_an_adaptive_q_never_grows_again() -> None:
    method = OrderedSGD()
    memory = remembering(method, batch_size=64)
    sizes = []
    for right in (850, 960, 100, 920, 100):
        pass_of(method, memory, right, 1000, 64)
        sizes.append(memory.q.item())
    method.choose(unit(1000), None, memory)
    assert [*sizes, memory.q.item()] == [64, 32, 8, 8, 8, 8]


def test_an_adaptive_q_is_one_at_least() -> None:
    method = OrderedSGD()
    memory = remembering(method, batch_size=4)
    pass_of(method, memory, 20, 20, 4)
    method.choose(unit(20), None, memory)
    assert memory.q.item() == 1


@pytest.mark.parametrize("q", [3, "adaptive"])
def test_no_number_leaves_the_device(q: Any) -> None:
    """Tensors on the meta device have no values, so that to wait for one is an error; shapes must be static."""
    method, meta = OrderedSGD(q=q), torch.device("meta")
    memory = remembering(method, 8, meta)
    method.choose(unit(8), None, memory)
    logits = torch.zeros(8, 3, device=meta)
    loss = method.loss(batch(logits, torch.zeros(8, dtype=torch.int64, device=meta)), memory)
    assert loss.shape == ()
    assert loss.device == meta


def config(selector: dict[str, Any] | None, **more: Any) -> TrialConfig:
    mine = {"granularity": "none"} if selector is None else {"granularity": "epoch", "selector": selector}
    return as_arm(mine, **more)


def trained(selector: dict[str, Any] | None, data: Any, **more: Any) -> tuple[Comparison, list[dict[str, Any]]]:
    return compared(config(selector, **more), data)


def test_an_epoch_costs_a_forward_pass_of_all_and_two_more_for_q_of_each_batch(make_dataset: Any) -> None:
    _, rows = trained({"use": USE, "q": 3}, make_dataset())
    for row in rows[1:]:  # 48 samples in 6 batches of 8
        assert (row["steps"], row["samples_probed"], row["samples_trained"]) == (6, 0, 48)
        assert row["samples_backward"] == 6 * 3
        assert row["compute"] == 48 * (1 + 2 * 3 / 8)


def test_an_adaptive_q_makes_later_epochs_cheaper(make_dataset: Any) -> None:
    _, rows = trained({"use": USE}, make_dataset(), epochs=12, optimizer={"lr": 0.05})
    backward = [row["samples_backward"] for row in rows[1:]]
    assert backward[0] == 48
    assert backward[-1] < 48
    assert backward == sorted(backward, reverse=True)
    assert set(backward) <= {48 // 2**stage for stage in range(5)} | {6}  # b/16 of 8 is one sample at least


def test_where_q_is_the_batch_size_it_is_the_archetype(make_dataset: Any) -> None:
    data = make_dataset()
    ours, _ = trained({"use": USE, "q": 8}, data)
    plain = ours.arms[0].model.state_dict()
    for name, value in ours.arms[-1].model.state_dict().items():
        assert torch.allclose(value, plain[name], atol=1e-5), name


def test_it_is_for_stable_batches_by_epoch() -> None:
    with pytest.raises(ValueError, match="stable"):
        MethodConfig(granularity="epoch", batch="unstable", selector={"use": USE})
    with pytest.raises(ValueError, match="granularity epoch"):
        MethodConfig(granularity="batch", selector={"use": USE})
    with pytest.raises(ValueError, match="q"):
        MethodConfig(granularity="epoch", selector={"use": USE, "q": 0})


def test_a_restored_comparison_goes_on_with_the_same_bits(make_dataset: Any) -> None:
    assert_goes_on(config({"use": USE}), make_dataset())


class TestContract(SelectionContract):
    @pytest.fixture(params=[OrderedSGD(), OrderedSGD(q=3)], autouse=True)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.selection = request.param
