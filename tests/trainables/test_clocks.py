"""Reference seconds, and the key under which a reference is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.clocks import Reference, amount, key, seconds
from trainables.config import TrialConfig
from trainables.data import Dimensions

COLOUR = Dimensions(3, (32, 32), 10)
WORK = st.fixed_dictionaries(
    {
        "samples_probed": st.integers(0, 10**6),
        "samples_trained": st.integers(0, 10**6),
        "samples_backward": st.integers(0, 10**6),
        "auxiliary_compute": st.floats(0, 1e6),
    }
)


@given(work=WORK)
def test_where_an_update_takes_three_forward_passes_seconds_are_compute(work: dict[str, Any]) -> None:
    compute = sum(work[name] for name in ("samples_probed", "samples_trained", "auxiliary_compute"))
    compute += 2 * work["samples_backward"]
    assert seconds(work, Reference(1.0, 3.0)) == pytest.approx(compute)
    assert seconds(work, Reference(0.5, 1.5)) == pytest.approx(compute / 2)


def test_each_kind_of_work_takes_what_was_measured_for_it() -> None:
    nothing = dict.fromkeys(("samples_probed", "samples_trained", "samples_backward", "auxiliary_compute"), 0)
    reference = Reference(forward=2.0, update=7.0)
    assert seconds(nothing, reference) == 0
    assert seconds(nothing | {"samples_probed": 10}, reference) == 20
    assert seconds(nothing | {"auxiliary_compute": 10.0}, reference) == 20
    assert seconds(nothing | {"samples_trained": 10, "samples_backward": 10}, reference) == 70
    assert seconds(nothing | {"samples_trained": 10, "samples_backward": 4}, reference) == 6 * 2 + 4 * 7


def test_every_clock_reads_its_own_column() -> None:
    spent = {"steps": 2, "samples_trained": 3, "compute": 4.0, "reference_seconds": 5.0}
    clocks = ("epochs", "steps", "samples", "compute", "reference_seconds")
    assert [amount(clock, spent, 1.5) for clock in clocks] == [1.5, 2, 3, 4.0, 5.0]  # type: ignore[arg-type]


def test_a_key_says_what_a_reference_depends_on_and_nothing_else() -> None:
    base: dict[str, Any] = {
        "model": {"name": "ResNet18"},
        "batch_size": 64,
        "precision": "fp32",
        "augmentation": "thesis",
        "optimizer": {"name": "SGD", "lr": 0.1},
        "dataset": {"name": "cifar10"},
    }

    def told(shape: Dimensions = COLOUR, **changes: Any) -> str:
        return key(TrialConfig.model_validate(base | changes), shape)

    assert told() == "ResNet18, 3 x 32 x 32, 10 classes, batch 64, fp32, augmentation thesis, SGD"
    others = [
        told(model={"name": "LeNet"}),
        told(batch_size=32),
        told(precision="bf16"),
        told(augmentation="none"),
        told(optimizer={"name": "Adam", "lr": 0.1}),
        told(Dimensions(3, (32, 32), 100)),
        told(Dimensions(3, (48, 32), 10)),
        told(model={"use": "torch.nn:Identity"}),
        told(model={"use": "torch.nn:Identity", "width": 2}),
        told(model={"use": "torch.nn:Identity", "width": 3}),
        told(model={"use": "torch.nn:Identity", "name": "LeNet"}),
    ]
    assert len({told(), *others}) == 12
    same = [told(epochs=3), told(seed=4), told(optimizer={"name": "SGD", "lr": 0.2}), told(arms={"filtered": {}})]
    assert {told(), *same} == {told()}
