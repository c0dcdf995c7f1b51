import copy
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import places, tune
from trainables.checkpoints import HANG, Checkpoints
from trainables.comparison import Comparison, prepare
from trainables.config import DeadRun, Objective, Recovery, Runtime, TrialConfig
from trainables.places import Place
from trainables.records import REPRODUCIBLE, Row
from trainables.tune import ComparisonTrainable

TRIAL = {
    "dataset.samples_per_class": 30,
    "model.name": "FCNet10",
    "batch_size": 16,
    "optimizer.lr": 0.05,
    "epochs": 4,
}
RUNTIME = Runtime(device="cpu", threads=1)


def settings(
    folder: Path | str | None = None,
    objective: Any = "gap/validation_accuracy",
    dead_run: DeadRun | None = None,
    memory_gib: float | None = None,
    hang_seconds: float = 600,
    **trial: Any,
) -> dict[str, Any]:
    """A trainable's configuration; with a folder, a checkpoint is written before every epoch but the first."""
    dotted = {key.replace("__", "."): value for key, value in trial.items()}
    return {
        "trial": TRIAL | dotted,
        "runtime": RUNTIME.model_dump() | {"memory_gib": memory_gib},
        "objective": Objective(metric=objective, baseline_floor=0).model_dump(),
        "dead_run": (dead_run or DeadRun()).model_dump(),
        "recovery": Recovery(checkpoint_seconds=0, hang_seconds=hang_seconds).model_dump(),
        "checkpoints": None if folder is None else asdict(Place.of(folder)),
    }


@pytest.fixture(autouse=True)
def _trainables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what the trainables of a test have opened."""
    made: list[ComparisonTrainable] = []
    setup = ComparisonTrainable.setup

    def remembered(self: ComparisonTrainable, config: dict[str, Any]) -> None:
        made.append(self)
        setup(self, config)

    monkeypatch.setattr(ComparisonTrainable, "setup", remembered)
    yield
    for trainable in made:
        trainable.stop()


def run(trainable: ComparisonTrainable) -> list[dict[str, Any]]:
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    return results


def rows_of(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return reproducible([row for result in results for row in result["rows"]])


def reproducible(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in REPRODUCIBLE) for row in rows]


def alone(comparison: Comparison) -> list[Row]:
    rows = []
    while not comparison.done:
        rows += comparison.step()
    return rows


@pytest.fixture(scope="module")
def undisturbed() -> list[tuple[Any, ...]]:
    """The rows of the comparison in a plain process, epoch by epoch."""
    return reproducible(alone(prepare(TrialConfig.from_dotted(TRIAL), RUNTIME)))


# ------------------------------------------------------------------------------------------------------------- results


def test_a_result_has_the_rows_the_objectives_and_the_metrics_of_one_epoch() -> None:
    metrics = ("gap/test_accuracy", "filtered/cumulative_compute")
    first, *_, last = results = run(ComparisonTrainable(settings(objective=metrics)))
    assert [result["epoch"] for result in results] == [1, 2, 3, 4]
    assert [(row["arm"], row["epoch"]) for row in first["rows"]] == [
        ("archetype", 0), ("filtered", 0), ("archetype", 1), ("filtered", 1),
    ]  # fmt: skip
    assert [(row["arm"], row["epoch"]) for row in last["rows"]] == [("archetype", 4), ("filtered", 4)]
    assert last["objective"] == last["objectives"][0] == last["gap/test_accuracy"]
    assert last["objectives"][1] == last["rows"][1]["cumulative_compute"]
    assert last["gap/test_accuracy"] == last["filtered/test_accuracy"] - last["archetype/test_accuracy"]
    assert last["better/test_accuracy"] == max(last["filtered/test_accuracy"], last["archetype/test_accuracy"])
    assert last["better/test_mean_loss"] == min(last["filtered/test_mean_loss"], last["archetype/test_mean_loss"])
    assert last["objective"] == last["rows"][1]["test_accuracy"] - last["rows"][0]["test_accuracy"]
    assert [result["status"] for result in results] == ["running"] * 3 + ["finished"]
    assert [result["reason"] for result in results] == [None] * 4


def test_the_rows_are_bit_identical_to_those_of_a_plain_process(undisturbed: list[Any]) -> None:
    assert rows_of(run(ComparisonTrainable(settings()))) == undisturbed


@pytest.mark.slow
def test_an_actor_that_is_reused_leaks_nothing_into_the_next_trial(tmp_path: Path) -> None:
    trainable = ComparisonTrainable(settings())
    other = settings(
        tmp_path,
        objective="filtered/test_mean_loss",
        dead_run=DeadRun(epochs=1, margin=0),
        **{"model.name": "LeNet", "optimizer.name": "Adam", "optimizer.lr": 0.01, "seed": 5},
    )
    run(trainable)
    for values in (other, settings(dataset__samples_per_class=100_000), settings()):
        fresh = run(ComparisonTrainable(values | {"checkpoints": None}))
        assert trainable.reset(values)
        reused = run(trainable)
        assert rows_of(reused) == rows_of(fresh)
        assert [result["epoch"] for result in reused] == [result["epoch"] for result in fresh]
        assert [result["reason"] for result in reused] == [result["reason"] for result in fresh]


def test_a_diverged_comparison_is_done_and_its_objectives_are_no_numbers() -> None:
    values = settings(objective=("gap/test_accuracy", "filtered/cumulative_compute"), optimizer__lr=1e12)
    last = run(ComparisonTrainable(values))[-1]
    assert (last["status"], last["done"]) == ("diverged", True)
    assert last["reason"].startswith("training loss is not finite: archetype")
    assert all(math.isnan(value) for value in (*last["objectives"], last["objective"]))
    assert last["epoch"] < TRIAL["epochs"]


def test_where_arms_are_tuned_on_their_own_each_ones_value_comes_after_the_objective() -> None:
    each = ["archetype/test_accuracy", "filtered/test_mean_loss"]
    last = run(ComparisonTrainable({**settings(), "each": each}))[-1]
    assert last["objectives"] == [last["gap/validation_accuracy"], *(last[name] for name in each)]
    missing = run(ComparisonTrainable({**settings(dataset__samples_per_class=100_000), "each": each}))[-1]
    assert len(missing["objectives"]) == 3
    assert all(map(math.isnan, missing["objectives"]))


def test_an_arm_that_diverged_has_no_value_and_the_other_keeps_its_own() -> None:
    each = ["archetype/test_accuracy", "filtered/test_accuracy"]
    trainable = ComparisonTrainable({**settings(), "each": each})
    trainable.train()
    (arm,) = [arm for arm in trainable.comparison.arms if arm.name == "archetype"]
    with torch.no_grad():
        for parameter in arm.model.parameters():
            parameter.fill_(math.nan)
    last = trainable.train()
    assert last["status"] == "diverged"
    assert last["reason"] == "training loss is not finite: archetype"
    gap, baseline, treatment = last["objectives"]
    assert math.isnan(gap)
    assert math.isnan(baseline)
    assert treatment == last["filtered/test_accuracy"]


def test_a_dead_comparison_is_stopped_with_the_reason() -> None:
    results = run(ComparisonTrainable(settings(dead_run=DeadRun(epochs=2), optimizer__lr=1e-9)))
    assert [result["status"] for result in results] == ["running", "stopped"]
    assert results[-1]["reason"].startswith("dead: after epoch 2 no arm's training accuracy is over ")
    assert math.isfinite(results[-1]["objective"])
    assert len(results[-1]["rows"]) == 2
    alive = run(ComparisonTrainable(settings(dead_run=DeadRun(epochs=2))))
    assert alive[-1]["status"] == "finished"


def test_a_comparison_whose_data_cannot_be_fails_without_raising_for_to_try_again_would_not_help() -> None:
    values = settings(objective=("gap/test_accuracy", "gap/test_mean_loss"), dataset__samples_per_class=100_000)
    (result,) = run(ComparisonTrainable(values))
    assert (result["status"], result["done"], result["rows"], result["epoch"]) == ("failed", True, [], 0)
    assert "samples_per_class is 100000, but the smallest class of mnist5k has" in result["reason"]
    assert [math.isnan(value) for value in result["objectives"]] == [True, True]


def test_what_may_go_better_another_time_is_raised_by_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Comparison:
        raise OSError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(tune, "prepare", broken)
        trainable = ComparisonTrainable(settings())
    with pytest.raises(OSError, match="the network is gone"):
        trainable.train()
    assert trainable.reset(settings())
    assert trainable.train()["status"] == "running"


# --------------------------------------------------------------------------------------------------------- going on


def broken_off(values: dict[str, Any], steps: int = 3) -> None:
    """A worker that ends without a word after so many epochs; its newest checkpoint is of the one before the last."""
    trainable = ComparisonTrainable(values)
    for _ in range(steps):
        trainable.train()


def test_checkpoints_are_never_ahead_of_what_was_reported(tmp_path: Path) -> None:
    trainable = ComparisonTrainable(settings(tmp_path))
    kept = Checkpoints(Place.of(tmp_path))
    for reported in range(1, 5):
        result = trainable.train()
        assert [epoch for epoch, _ in kept.newest()] == [epoch for epoch in (reported - 1, reported - 2) if epoch > 0]
        assert result["trouble"] is None


@pytest.mark.parametrize("arms", [{}, {"optimizer.name": "Adam", "optimizer.lr": 0.01, "schedule.name": "cosine"}])
def test_a_comparison_goes_on_from_its_newest_checkpoint_as_if_nothing_had_happened(
    tmp_path: Path, arms: dict[str, Any]
) -> None:
    whole = rows_of(run(ComparisonTrainable(settings(**arms))))
    broken_off(settings(tmp_path, **arms))  # three epochs, and a checkpoint of the second
    again = run(ComparisonTrainable(settings(tmp_path, **arms)))
    assert [result["epoch"] for result in again] == [3, 4]
    assert rows_of(again) == whole[-4:]


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_one_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_or_from_its_start(
    tmp_path: Path, undisturbed: list[Any]
) -> None:
    broken_off(settings(tmp_path))
    damaged(max(tmp_path.glob("*.pt")))
    again = run(ComparisonTrainable(settings(tmp_path)))
    assert [result["epoch"] for result in again] == [2, 3, 4]
    assert rows_of(again) == undisturbed[-6:]
    for file in tmp_path.glob("*.pt"):
        damaged(file)
    assert reproducible(ComparisonTrainable(settings(tmp_path)).train()["rows"]) == undisturbed[:4]


def test_a_checkpoint_of_another_configuration_is_not_gone_on_with(tmp_path: Path, undisturbed: list[Any]) -> None:
    broken_off(settings(tmp_path, seed=3), steps=2)
    assert reproducible(ComparisonTrainable(settings(tmp_path)).train()["rows"]) == undisturbed[:4]


def test_a_checkpoint_of_another_version_is_not_gone_on_with(tmp_path: Path, undisturbed: list[Any]) -> None:
    broken_off(settings(tmp_path), steps=2)
    kept = Checkpoints(Place.of(tmp_path))
    assert ComparisonTrainable(settings(tmp_path)).comparison.epoch == 1
    ((_, state),) = kept.newest()
    for change in (
        lambda other: other.pop("arms"),
        lambda other: other.pop("config"),
        lambda other: other["arms"].pop("filtered"),
        lambda other: other["arms"]["filtered"]["model"].popitem(),
        lambda other: other["config"].update(momentum=0.5),
    ):
        other = copy.deepcopy(state)
        change(other)
        kept.save(1, other)
        trainable = ComparisonTrainable(settings(tmp_path))
        assert trainable.comparison.epoch == -1
    assert reproducible(trainable.train()["rows"]) == undisturbed[:4]


def test_a_disk_that_is_full_is_reported_and_ends_no_training(
    tmp_path: Path, undisturbed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places, "_to_disk", full)
    results = run(ComparisonTrainable(settings(tmp_path)))
    assert rows_of(results) == undisturbed
    assert results[0]["trouble"] is None
    for result in results[1:]:
        message = f"no checkpoint of epoch {result['epoch'] - 1} could be written to {tmp_path}: [Errno 28] No space"
        assert result["trouble"].startswith(message)


def test_checkpoints_are_as_far_apart_as_is_asked_for(tmp_path: Path) -> None:
    values = settings(tmp_path)
    values["recovery"]["checkpoint_seconds"] = 3600
    run(ComparisonTrainable(values))
    assert list(tmp_path.glob("*.pt")) == []


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [{}, {"optimizer.name": "Adam"}, {"schedule.name": "cosine"}])
def test_a_trial_that_tune_itself_restores_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    values = settings(**optimizer, optimizer__lr=0.02)
    undisturbed = run(ComparisonTrainable(values))
    first = ComparisonTrainable(values)
    first.train()
    first.train()
    first.save(str(tmp_path))
    second = ComparisonTrainable(values)
    second.restore(str(tmp_path))
    restored = run(second)
    assert [result["epoch"] for result in restored] == [3, 4]
    assert rows_of(restored) == rows_of(undisturbed[2:])


@pytest.mark.slow
def test_a_trial_goes_on_from_the_state_of_another_of_its_population(tmp_path: Path) -> None:
    donor = ComparisonTrainable(settings(tmp_path / "donor", optimizer__lr=0.1))
    worse = ComparisonTrainable(settings(tmp_path / "own", optimizer__lr=1e-6))
    for _ in range(2):
        donor.train()
        worse.train()
    donor.save(str(tmp_path / "handed on"))
    worse.save(str(tmp_path / "left"))
    changed = settings(tmp_path / "own", optimizer__lr=0.08)
    worse.reset(changed)
    worse.restore(str(tmp_path / "handed on"))
    ours = rows_of([worse.train()])
    assert [row[REPRODUCIBLE.index("epoch")] for row in ours] == [3, 3]
    assert {row[REPRODUCIBLE.index("learning_rate")] for row in ours} == {0.08}
    # its worker dies now, and another begins
    assert ComparisonTrainable(changed).comparison.epoch == 2
    again = ComparisonTrainable(changed)
    again.restore(str(tmp_path / "handed on"))
    assert rows_of([again.train()]) == ours
    again.train()
    # and later, when its own checkpoint is ahead of what was handed on
    late = ComparisonTrainable(changed)
    assert late.comparison.epoch == 3
    late.restore(str(tmp_path / "handed on"))
    assert late.comparison.epoch == 3


# ------------------------------------------------------------------------------------------------- hanging, memory


def in_a_process(script: str) -> subprocess.CompletedProcess[str]:
    """Python with this module's names, in a process that may come to harm."""
    head = "from tests.trainables.test_tune import *\nimport time, torch\n"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", head + script]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_an_epoch_that_hangs_is_ended_with_the_place_where_it_hung(tmp_path: Path) -> None:
    done = in_a_process(f"""
trainable = ComparisonTrainable(settings({str(tmp_path)!r}))
print(trainable.train()["status"], trainable.train()["status"], flush=True)
trainable.recovery = Recovery(checkpoint_seconds=0, hang_seconds=1)
def endless(): time.sleep(60)
trainable.comparison.step = endless
trainable.train()
print("not reached")
""")
    assert done.returncode == 1, done.stderr
    assert done.stdout == "running running\n"
    where = (tmp_path / HANG).read_text()
    assert where.startswith("Timeout (0:00:01)!")
    assert "in endless" in where
    assert "in step" in where
    assert [epoch for epoch, _ in Checkpoints(Place.of(tmp_path)).newest()] == [2, 1]  # from where it goes on


@pytest.mark.slow
def test_a_comparison_that_hangs_before_its_first_epoch_is_ended_too_and_where_no_file_can_be_it_is_said() -> None:
    done = in_a_process("""
import trainables.tune
trainables.tune.prepare = lambda *_: time.sleep(60)
ComparisonTrainable(settings("memory://nowhere", hang_seconds=1))
""")
    assert done.returncode == 1
    assert "Timeout (0:00:01)!" in done.stderr
    assert "in _continued" in done.stderr


@pytest.mark.slow
def test_time_between_epochs_is_not_watched(tmp_path: Path) -> None:
    done = in_a_process(f"""
trainable = ComparisonTrainable(settings({str(tmp_path)!r}))
trainable.recovery = Recovery(hang_seconds=2)
trainable.train()
time.sleep(3)
print(trainable.train()["status"])
""")
    assert (done.returncode, done.stdout) == (0, "running\n"), done.stderr


@pytest.mark.slow
def test_a_comparison_that_wants_too_much_memory_fails_and_its_process_lives(tmp_path: Path) -> None:
    done = in_a_process(f"""
values = settings({str(tmp_path)!r}, memory_gib=3)
trainable = ComparisonTrainable(values)
print(trainable.train()["status"])
def greedy(): return torch.ones(2**30)
trainable.comparison.step = greedy
try:
    trainable.train()
except (MemoryError, RuntimeError) as error:
    print(type(error).__name__)
try:
    bytearray(2**32)
except MemoryError as error:
    print(type(error).__name__)
trainable.reset(values)
print(trainable.train()["status"])
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["running", "RuntimeError", "MemoryError", "running"]
