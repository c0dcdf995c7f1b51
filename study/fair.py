"""The same experiment at the same cost: every arm may spend the compute that the baseline spends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from study import experiment as experiments
from study import folder as folders
from study import manifest
from study.experiment import Experiment, ExperimentError
from trainables.config import TrialConfig

CLOCK = "compute"


def load(source: str, overrides: Sequence[str] = (), smoke: bool = False, code: Sequence[str] = ()) -> Experiment:
    """The experiment ``source`` with the budget ``{clock: compute, of: BASELINE}``, named after it.

    Args:
        source: a study's folder, whose experiment it is; or, as for :func:`study.experiment.load`, a built-in name or a
            file.
        overrides: further keys to set, ``key=value``.
        smoke: whether to take its short form.
        code: further folders with code of one's own.

    Raises:
        FolderError: the folder holds no study.
        ExperimentError: the experiment is not valid, or has a budget already; with every error at once.
    """
    file, name = _file(source)
    given = experiments.load(file, overrides, smoke, code=code)
    if errors := already(given):
        raise ExperimentError(source, errors)
    budget = [f"budget.clock={CLOCK}", f"budget.of={baseline(given)}"]
    fair = experiments.load(file, [*overrides, *budget], smoke, code=code)
    about = fair.about.model_copy(update={"title": f"{fair.about.title}, with the same compute for every arm"})
    return fair.model_copy(update={"name": f"{name or fair.name}-fair", "about": about})


def _file(source: str) -> tuple[str, str | None]:
    """The experiment file that ``source`` names, and what the study there is called; None where it is no folder."""
    folder = Path(source)
    if source in experiments.built_in() or not folder.is_dir():
        return source, None
    folders.existing(folder)
    return str(folder / folders.EXPERIMENT), str(manifest.read(folder).get("name") or folder.resolve().name)


def baseline(experiment: Experiment) -> str:
    """The arm whose spending is to be the budget."""
    return str(experiment.trial.get("baseline", TrialConfig.model_fields["baseline"].default))


def already(experiment: Experiment) -> list[str]:
    """Why an experiment cannot be run at the baseline's compute: it says itself what arms may spend."""
    set_by = {key: value for key, value in experiment.trial.items() if value is not None}
    varied = [*experiment.space, *(key for point in experiment.search.points for key in point)]
    stated = [f"{key}: {value}" for key, value in set_by.items() if _is_budget(key) and value != "epochs"]
    stated += [f"{key}, which varies" for key in dict.fromkeys(varied) if _is_budget(key)]
    own = f"arms.{baseline(experiment)}.epochs"  # what the baseline trains for is the budget, whatever it is
    stated = [one for one in stated if not one.startswith(f"{own}:")]
    errors = []
    if stated:
        errors.append(
            f"--fair sets the budget, but the experiment has one already ({'; '.join(stated)}); leave out --fair"
        )
    if "baseline" in varied:
        errors.append(
            "--fair needs one baseline, and this experiment varies it; set budget.clock and budget.of yourself"
        )
    return errors


def _is_budget(key: str) -> bool:
    """Whether a dotted key says what arms, or one arm, may spend."""
    parts = key.split(".")
    return parts[0] == "budget" or (parts[0] == "arms" and len(parts) > 2 and parts[2] in ("budget", "epochs"))
