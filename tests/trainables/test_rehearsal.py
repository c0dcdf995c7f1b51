"""What would go wrong late in a study is told before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainables import imports
from trainables.config import ARMS, SGD, TrialConfig
from trainables.rehearsal import EPOCHS, rehearse

METHOD = '''
from trainables.methods import Choice, Selection


class Late(Selection):
    """Fails in its last phase."""

    at: int = 9

    def choose(self, unit, seen, memory):
        if unit.epoch == self.at:
            raise IndexError("no phase is left")
        return Choice(seen.losses.argsort())
'''


def config(**arm: Any) -> TrialConfig:
    return TrialConfig.model_validate(
        {"arms": {"mine": arm}, "treatment": "mine", "epochs": 50, "batch_size": 128, "dataset": {"label_noise": 0.1}}
    )


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The import path of a method that fails in an epoch."""
    (tmp_path / "late_lab.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    imports.provide([str(tmp_path)])
    return "late_lab:Late"


def test_an_exception_in_a_late_phase_is_told_with_arm_epoch_file_and_line(late: str) -> None:
    said = rehearse(config(selector={"use": late}))
    assert said is not None
    assert said.startswith("arm 'mine': IndexError: no phase is left")
    assert "late_lab.py" in said
    assert said.endswith(f"(in a rehearsal on made-up images, epoch 9 of {EPOCHS})")


def test_a_rate_at_which_training_diverges_does_not_end_the_rehearsal(late: str) -> None:
    fast = config(selector={"use": late}).model_copy(update={"optimizer": SGD(lr=1e9)})
    assert rehearse(fast) is not None


def test_a_method_that_does_not_fail_is_not_told(late: str) -> None:
    assert rehearse(config(selector={"use": late, "at": 99})) is None


@pytest.mark.parametrize("name", sorted(ARMS.keys() - {"archetype", "filtered"}))
def test_every_built_in_arm_goes_through_its_phases(name: str) -> None:
    arms = {"filtered": {}, name: {}}
    treatment = {"arms": arms, "treatment": name, "epochs": 50, "batch_size": 128, "dataset": {"label_noise": 0.1}}
    assert rehearse(TrialConfig.model_validate(treatment)) is None
