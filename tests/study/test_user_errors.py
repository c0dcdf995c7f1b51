"""Whatever a user says wrong ends in a message and an exit code: every kind of error, and a random walk over --set."""

import contextlib
import importlib
import io
import json
import os
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis
import filter_study
import search_spaces
import study
import trainables
from study import experiment as experiments
from study.cli import main
from study.experiment import Experiment
from trainables.config import TrialConfig, flatten
from trainables.errors import UserError


def modules() -> Iterator[str]:
    for package in (filter_study, study, trainables, search_spaces, analysis):
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                yield module.name


def kinds(of: type[UserError] = UserError) -> set[type[UserError]]:
    """All errors that a user can cause, with every module imported that could have one."""
    for name in modules():
        importlib.import_module(name)
    found: set[type[UserError]] = set()
    ahead = [of]
    while ahead:
        found.add(ahead[-1])
        ahead += ahead.pop().__subclasses__()
    return {kind for kind in found if kind.__module__.partition(".")[0] != "tests"}


def called(*arguments: str) -> tuple[int, str, str]:
    """The exit code of a command line in this process, what it printed, and what it complained of."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["filter-study", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    code = ended.value.code
    return code if isinstance(code, int) else 0, out.getvalue(), err.getvalue()


def test_every_error_that_a_user_can_cause_is_one_message_and_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kinds()
    assert len(found) > 20
    for kind in found:
        error = kind.__new__(kind)
        error.args = ("optimizer.lr: -1: must be greater than 0",)

        def raising(error: UserError = error) -> list[str]:
            raise error

        monkeypatch.setattr(experiments, "built_in", raising)
        code, _, said = called("ls")
        assert code == kind.exit_code, kind
        assert kind.exit_code in (2, 130), kind
        assert said == "optimizer.lr: -1: must be greater than 0\n", kind


FURTHER = int(os.environ.get("WALK", "0"))
"""Walk so many steps, other ones each time: ``WALK=2000 pytest tests/study/test_user_errors.py``. Else the same few."""

SECTIONS = {
    key: value
    for key, value in flatten(
        Experiment.model_validate(
            {"name": "x", "about": {"title": "", "question": ""}, "trial": {}, "search": {"trials": 1}}
        ).model_dump(mode="json")
    ).items()
    if not key.startswith(("about", "name", "trial", "code", "storage", "data_dir", "smoke"))
}
KEYS = sorted({*TrialConfig().to_dotted(), *SECTIONS} | {"space.optimizer.lr", "arms.mine.selector.name", "nonsense"})
WORDS = [
    *("SGD", "Adam", "LeNet", "ResNet18", "FCNet10", "cosine", "multistep", "optuna", "grid", "points", "random"),
    *(
        "batch",
        "epoch",
        "compute",
        "steps",
        "filtered",
        "archetype",
        "tf32",
        "bf16",
        "online",
        "hard",
        "loss",
        "no:way",
    ),
]
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, -1, 0.5, 1e-9, 1e9, 1e300, "nan", "inf", "1e-3", 3.0]), st.integers(-5, 50)
)
SCALARS = st.one_of(NUMBERS, st.booleans(), st.none(), st.sampled_from(WORDS), st.text(max_size=6))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "choice", "uniform", "use", "like", "lr", "x"]), inner, max_size=3)
    ),
    max_leaves=4,
)
SETTINGS = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3)


def overrides(chosen: dict[str, Any]) -> list[str]:
    return [
        part
        for key, value in chosen.items()
        for part in ("--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    ]


def fine(code: int, out: str, err: str, chosen: dict[str, Any]) -> None:
    assert "Traceback" not in out + err, chosen
    assert code in (0, 2), (chosen, err)
    assert (code == 2) == bool(err.strip()) or code == 0, (chosen, err)


@settings(max_examples=FURTHER or 80, derandomize=not FURTHER)
@given(SETTINGS)
def test_no_setting_ends_in_a_traceback(chosen: dict[str, Any]) -> None:
    fine(*called("show", "quickstart", *overrides(chosen)), chosen)


PINNED = {
    "epochs": 1,
    "dataset.samples_per_class": 20,
    "scheduler.name": "none",
    "search.trials": 1,
    "wandb.mode": "disabled",
}
"""What is not walked over where something trains, so that it ends soon and asks no server."""


@pytest.mark.slow
@settings(
    max_examples=FURTHER or 40,
    derandomize=not FURTHER,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chosen=SETTINGS)
def test_what_is_valid_trains_and_what_is_not_says_why(chosen: dict[str, Any], tmp_path: Path) -> None:
    chosen = {key: value for key, value in chosen.items() if key not in PINNED and not key.startswith("mlflow")}
    where = tmp_path / os.urandom(8).hex()
    code, out, err = called("validate", "quickstart", *overrides(PINNED | chosen))
    fine(code, out, err, chosen)
    done = called("train", "quickstart", *overrides(PINNED | chosen), "--no-report", "--dir", str(where))
    assert "Traceback" not in done[1] + done[2], chosen
    if code == 0:
        assert done[0] in (0, 1), (chosen, done[2])  # 1: it diverged
    else:
        assert not where.exists() or done[0] == 0, chosen  # what is searched may be wrong where one comparison is fine
