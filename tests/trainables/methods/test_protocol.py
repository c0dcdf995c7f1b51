"""What the protocol of selections can express: a small selection for each need of published methods."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from drawing import blank
from peer_helpers import as_arm, compared
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy

from trainables.comparison import Comparison
from trainables.config import MethodConfig, TrialConfig
from trainables.contracts import SelectionContract
from trainables.methods import Batch, Choice, Memory, ProbeResult, Run, Selection, Unit, build
from trainables.methods.sampler import REPEATED
from trainables.records import REPRODUCIBLE

CPU = torch.device("cpu")
HERE = __name__


class HardestHalf(Selection):
    """Its own loss: the mean of the larger half of a batch's losses; the other samples are not sent backward.

    One forward pass serves choice and update, as in Ordered SGD (Kawaguchi & Lu 2020).
    """

    withholds: ClassVar[bool] = True

    @property
    def probes(self) -> bool:
        return False

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        return Choice(torch.arange(len(unit)))

    def loss(self, batch: Batch, memory: Memory) -> torch.Tensor:
        losses = batch.losses
        half = (len(losses) + 1) // 2
        batch.send_backward(half)
        return losses.topk(half).values.mean()


class LastLoss(Selection):
    """A memory of what training's own forward pass said: draws with repeats by the last loss; weights undo the bias."""

    weighted: ClassVar[bool] = True
    granularities: ClassVar[tuple[str, ...]] = ("epoch",)
    share: float = Field(1.0, gt=0)

    @property
    def probes(self) -> bool:
        return False

    def begin(self, run: Run, memory: Memory) -> None:
        memory.losses = torch.ones(run.size, device=run.device)

    def most(self, unit: int) -> int:
        return int(unit * self.share)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        chance = memory.losses[unit.index].clamp_min(1e-6)
        chance = chance / chance.sum()
        drawn = torch.multinomial(chance.cpu(), self.most(len(unit)), replacement=True, generator=unit.random)
        return Choice(drawn, weights=1 / (len(unit) * chance[drawn]), repeats=True)

    def loss(self, batch: Batch, memory: Memory) -> torch.Tensor:
        memory.losses[batch.index] = batch.losses.detach()
        return batch.mean_loss


class Sometimes(Selection):
    """Decides per update whether and how much to probe: every second raw batch is twice as large and half probed."""

    granularities: ClassVar[tuple[str, ...]] = ("batch",)

    def begin(self, run: Run, memory: Memory) -> None:
        memory.updates = torch.zeros((), dtype=torch.int64, device=run.device)
        memory.probing = False

    def draw(self, raw_batch_size: int, memory: Memory) -> int:
        memory.probing = int(memory.updates) % 2 == 1
        return 2 * raw_batch_size if memory.probing else raw_batch_size

    def look(self, unit: Unit, memory: Memory) -> bool | torch.Tensor:
        return torch.arange(0, len(unit), 2) if memory.probing else False

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        if seen is None:
            return Choice(torch.arange(len(unit)))
        return Choice(torch.arange(0, len(unit), 2)[seen.losses.argsort(descending=True)])

    def loss(self, batch: Batch, memory: Memory) -> torch.Tensor:
        memory.updates += 1
        return batch.mean_loss


class Rated(Selection):
    """A factor on the learning rate that grows with every update."""

    @property
    def probes(self) -> bool:
        return False

    def begin(self, run: Run, memory: Memory) -> None:
        memory.factor = torch.ones((), device=run.device)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        return Choice(torch.arange(len(unit)))

    def loss(self, batch: Batch, memory: Memory) -> torch.Tensor:
        memory.factor += 1
        return batch.mean_loss

    def rate(self, memory: Memory) -> torch.Tensor:
        return memory.factor


class Assistant(Selection):
    """Auxiliary models: one trained before the first update, and one along with training; both counted."""

    def begin(self, run: Run, memory: Memory) -> None:
        features = run.images(torch.arange(1, device=run.device)).flatten(1).shape[1]
        memory.assistant = nn.utils.skip_init(nn.Linear, features, run.classes)
        nn.init.zeros_(memory.assistant.weight)
        nn.init.zeros_(memory.assistant.bias)
        memory.irreducible = torch.zeros(run.size, device=run.device)

    def prepare(self, run: Run, memory: Memory) -> None:
        index = torch.arange(run.size, device=run.device)
        with torch.no_grad():
            logits = run.network("scorer")(run.images(index))
        memory.irreducible.copy_(cross_entropy(logits, run.labels, reduction="none"))
        run.spend(run.size)

    def overhead(self, memory: Memory) -> float:
        return 0.25

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        assert seen is not None
        unit.spend(0.5 * len(unit))
        excess = seen.losses - memory.irreducible[unit.index]
        return Choice(excess.topk(max(len(unit) // 2, 1)).indices)


EVERY = [HardestHalf, LastLoss, Sometimes, Rated, Assistant]


def config(selection: type[Selection], **options: Any) -> TrialConfig:
    granularity = "epoch" if "batch" not in selection.granularities else "batch"
    mine = {"granularity": granularity, "selector": {"use": f"{HERE}:{selection.__name__}", **options}}
    return as_arm(mine)


def trained(selection: type[Selection], data: Any, **options: Any) -> tuple[Comparison, list[dict[str, Any]]]:
    return compared(config(selection, **options), data)


class WeightedApart(Selection):
    """Units that share a probe, choices with weights and repeats: the harder of every two samples, once and again."""

    granularities: ClassVar[tuple[str, ...]] = ("batch",)
    weighted: ClassVar[bool] = True

    @property
    def ahead(self) -> bool:
        return True

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        assert seen is not None
        hardest = seen.losses.argmax().view(1)
        weight = 1 + (unit.number % 5) + seen.losses[hardest] / 100
        return Choice(hardest.repeat(2), weights=weight.repeat(2), repeats=True)


class TestEvery(SelectionContract):
    """All of them keep the contract."""

    @pytest.fixture(params=EVERY, autouse=True)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.selection = request.param()


class TestBuiltIn(SelectionContract):
    """So do the built-in ones."""

    METHODS: ClassVar[list[dict[str, Any]]] = [
        {},
        {"filter": "soft", "selector": {"name": "top_k", "k": 3}},
        {"filter": "none", "selector": {"name": "q_split", "k": 4}},
        {"filter": "none", "selector": {"name": "random", "ratio": 0.4}},
        {"selector": "selective_backprop"},
        {"granularity": "epoch", "selector": "infobatch"},
        {"granularity": "none"},
    ]

    @pytest.fixture(params=METHODS, autouse=True)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.selection = MethodConfig(**request.param).selection(8)


def test_a_forward_pass_that_serves_twice_costs_two_more_for_what_is_sent_backward_alone(make_dataset: Any) -> None:
    _, rows = trained(HardestHalf, make_dataset())
    for row in rows[1:]:
        assert row["samples_probed"] == 0
        assert row["samples_trained"] == 48
        assert row["samples_backward"] == 24
        assert row["compute"] == 48 + 2 * 24


def test_its_own_loss_is_what_the_update_descends(make_dataset: Any) -> None:
    data = make_dataset()
    comparison, _ = trained(HardestHalf, data)
    other, _ = trained(Rated, data)
    ours, theirs = comparison.arms[-1].model.state_dict(), other.arms[-1].model.state_dict()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_repeats_show_images_of_their_own_and_weights_undo_the_bias(make_dataset: Any) -> None:
    data = make_dataset()
    comparison = Comparison(config(LastLoss, share=3.0), data, CPU)
    sampler = comparison.arms[-1].sampler
    comparison.step()
    views = list(sampler.batches(comparison.arms[-1].probe))
    seen = [(i, e) for batch in views for i, e in zip(batch.index.tolist(), batch.epoch.tolist(), strict=True)]
    assert len(seen) == 3 * 48
    assert len({index for index, _ in seen}) < 48 * 3  # some repeat
    assert len(set(seen)) == len(seen)
    assert {epoch for _, epoch in seen} > {1}
    assert all(epoch == 1 or epoch > REPEATED for _, epoch in seen)  # no image of another pass
    weights = torch.cat([batch.weight for batch in views if batch.weight is not None])
    assert torch.allclose(weights, torch.ones(144))  # all losses are the same yet


def test_weights_make_the_expected_loss_that_of_the_whole_set() -> None:
    method, memory, size = LastLoss(share=400.0), Memory(), 5
    memory.losses = torch.tensor([0.1, 1.0, 2.0, 0.5, 4.0])
    unit = Unit(0, 1, 1, torch.arange(size), size, 0, lambda arm: [], lambda spent: None)
    choice = method.choose(unit, None, memory)
    losses = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])
    assert choice.weights is not None
    assert float((losses[choice.positions] * choice.weights).mean()) == pytest.approx(float(losses.mean()), rel=0.2)


def test_weights_and_repeats_are_the_same_where_units_share_a_probe() -> None:
    size, batch_size = 120, 8
    labels, logits = torch.arange(size) % 2, torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    batches = []
    for at_once in (0, 32):
        problem, order = blank(size, batch_size, epochs=1), lambda epoch: torch.arange(size)
        method = MethodConfig(selector={"use": f"{HERE}:WeightedApart"}, raw_batch_size=2)
        sampler = build(method, problem, order, 0, CPU, {}, at_once=at_once)
        probed: list[int] = []

        def probe(views: Any, probed: list[int] = probed) -> ProbeResult:
            probed.append(len(views))
            return ProbeResult(logits[views.index], labels[views.index])

        seen = [(b.index.tolist(), b.epoch.tolist(), b.weight.tolist()) for b in sampler.batches(probe)]
        batches.append(seen)
        assert (max(probed) > 2) == (at_once > 0)
    assert batches[0] == batches[1]
    assert len(batches[0]) == 2 * 60 // batch_size
    weights = {round(weight) for _, _, given in batches[0] for weight in given}
    assert len(weights) >= 5


def test_it_is_decided_per_update_whether_and_how_much_is_probed(make_dataset: Any) -> None:
    _, rows = trained(Sometimes, make_dataset())
    for row in rows[1:]:  # of 48: 8 unprobed, 16 of which 8 are looked at, and so on
        assert row["samples_trained"] == 8 * row["steps"]
        assert 0 < row["samples_probed"] < 48
        assert row["samples_probed"] % 8 == 0
    assert rows[1]["samples_probed"] == 16


def test_a_factor_on_the_learning_rate_is_that_of_the_next_update(make_dataset: Any) -> None:
    comparison = Comparison(config(Rated), make_dataset(), CPU)
    arm, rates = comparison.arms[-1], []
    update = arm.optimizer.step
    arm.optimizer.step = lambda *_, **__: (rates.append(arm.optimizer.param_groups[0]["lr"]), update())  # type: ignore
    comparison.step()
    comparison.step()
    assert rates == pytest.approx([0.02 * factor for factor in range(1, 7)])


def test_auxiliary_models_are_counted_once_and_by_the_sample(make_dataset: Any) -> None:
    _, rows = trained(Assistant, make_dataset())
    assert [row["samples_probed"] for row in rows] == [0, 48, 48, 48]
    each = [0.25 * row["samples_trained"] + 0.5 * 48 for row in rows[1:]]
    assert [row["auxiliary_compute"] for row in rows] == [0.0, 48 + each[0], *each[1:]]
    for row in rows[1:]:
        assert row["compute"] == 48 + 3 * row["samples_trained"] + row["auxiliary_compute"]
        assert row["seconds"] == sum(row[f"{part}_seconds"] for part in ("probe", "select", "train", "auxiliary"))
    assert rows[1]["auxiliary_seconds"] > 0
    assert rows[2]["auxiliary_seconds"] == 0


@pytest.mark.parametrize("selection", EVERY)
def test_a_restored_comparison_goes_on_with_the_same_bits(selection: type[Selection], make_dataset: Any) -> None:
    data = make_dataset()
    whole, rows = trained(selection, data)
    first = Comparison(config(selection), data, CPU)
    first.step()
    first.step()
    second = Comparison(config(selection), data, CPU)
    second.load_state_dict(first.state_dict())
    after = []
    while not second.done:
        after += [row for row in second.step() if row["arm"] == "mine"]
    columns = [name for name in REPRODUCIBLE if name in rows[0]]
    assert [[row[name] for name in columns] for row in after] == [[row[name] for name in columns] for row in rows[2:]]
    assert whole.arms[-1].sampler.state_dict().keys() == second.arms[-1].sampler.state_dict().keys()


class Forgetful(Selection):
    """State outside the memory: a list that the class itself holds."""

    SEEN: ClassVar[list[int]] = []

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        self.SEEN.append(len(unit))
        return Choice(torch.arange(len(unit)).roll(len(self.SEEN)))


def test_a_class_that_holds_state_without_saving_it_breaks_the_contract() -> None:
    contract = SelectionContract()
    contract.selection = Forgetful()
    with pytest.raises(AssertionError, match="does not go on as it would have"):
        contract.test_a_restored_run_goes_on_as_it_would_have()


def test_the_memory_refuses_what_no_checkpoint_can_hold() -> None:
    memory = Memory()
    with pytest.raises(TypeError, match=r"memory.seen: a set cannot be saved in a checkpoint"):
        memory.seen = {1, 2}
    with pytest.raises(AttributeError, match="'scores' is not remembered: set it in begin"):
        memory.scores  # noqa: B018


def test_a_selection_is_no_place_for_state() -> None:
    with pytest.raises(ValueError, match=r"frozen|no field"):
        Sometimes().counter = 3  # type: ignore[attr-defined]


def test_options_are_checked_and_have_the_same_name_everywhere() -> None:
    trial = config(LastLoss, share=2.0)
    assert trial.to_dotted()["arms.mine.selector.share"] == 2.0
    assert trial.to_dotted()["arms.mine.selector.use"] == f"{HERE}:LastLoss"
    assert TrialConfig.from_dotted(trial.to_dotted()) == trial
    with pytest.raises(ValueError, match="did you mean 'share'"):
        config(LastLoss, shore=2.0)
    with pytest.raises(ValueError, match="greater than 0"):
        config(LastLoss, share=0)


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is no selector: subclass one of trainables\.methods"):
        MethodConfig(selector={"use": f"{HERE}:config"})
    with pytest.raises(ValueError, match="is no filter"):
        MethodConfig(filter={"use": f"{HERE}:LastLoss"})


def test_memory_of_the_same_shape_keeps_its_place() -> None:
    """Recorded CUDA graphs know tensors by their place in memory."""
    method = build(MethodConfig(granularity="epoch", selector="infobatch"), blank(6, 2, 3), torch.randperm, 0, CPU, {})
    place = method.memory.scores.data_ptr()
    state = method.state_dict()
    state["memory"]["scores"] = torch.arange(6.0)
    method.load_state_dict(state)
    assert method.memory.scores.data_ptr() == place
    assert method.memory.scores.tolist() == [0, 1, 2, 3, 4, 5]
