"""The answer of ``filter-study gaps``: the verdict and the gap table, to be read or to be read in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analysis.budgets import ONLY_WITH_BUDGETS
from analysis.confirmation_claims import claims, unconfirmed
from analysis.confirmations import confirmations
from analysis.database import TableError
from analysis.gaps import summarize
from analysis.load import Study, config_keys
from analysis.outcomes import counted_by_arm
from analysis.pairs import Pairs, pair
from analysis.stopped import Stopping, stopping
from analysis.tables import gap_table, to_latex, to_markdown, to_records, to_text
from analysis.verdict import verdict
from trainables.records import CLOCKS

HEADLINE = ("test_accuracy", "test_mean_loss", "test_q90_loss", "test_worst_loss", "cumulative_compute")
"""The metrics shown where none is asked for."""

WHY_MISSING = {
    "passes": ", which earlier versions did not record; each of its epochs is one pass over the data, so take --clock "
    "epochs",
    "reference_seconds": ": how long passes and updates take was not measured for it; take --clock compute",
}
"""Why a study can lack a clock, and what to ask for in its place."""

Form = Literal["text", "markdown", "latex", "csv", "json"]


@dataclass(frozen=True)
class Answer:
    """What the gaps of a study are.

    Attributes:
        pairs: the comparisons that count.
        verdict: what they allow to say, a sentence or caveat each.
        summary: the statistics, as :func:`analysis.gaps.summarize` returns them.
        stopping: what early stopping leaves out of the pairs.
        with_stopped: the statistics with each stopped comparison at the last epoch that both of its arms reached; None
            where there is none.
    """

    pairs: Pairs
    verdict: tuple[str, ...]
    summary: pd.DataFrame
    stopping: Stopping
    with_stopped: pd.DataFrame | None


def answer(
    study: Study,
    metrics: Sequence[str] = (),
    by: Sequence[str] = (),
    at: str = "final",
    clock: str = "epochs",
    against: str | None = None,
    treatment: str | None = None,
) -> Answer:
    """The gaps of a study's comparisons.

    Args:
        study: its tables.
        metrics: those to compare; by default :data:`HEADLINE` and the study's own on test, as far as there are
            any.
        by: configuration keys to group by.
        at: ``final``, ``best`` or an epoch's number; see :func:`analysis.pairs.pair`, as for the others.
        clock: what both arms have spent alike.
        against: the arm to take for the baseline.
        treatment: the arm to take for the treatment.

    Raises:
        TableError: a name is unknown, or things do not go together; of several errors all are named.
    """
    arms = sorted(study.epochs["arm"].dropna().unique())
    known = study.columns.metrics
    errors = [f"--metric {name} has no gap; one of {', '.join(known)}" for name in metrics if name not in known]
    keys = config_keys(study.trials)
    errors += [f"--by {key} is no key of this study; one of {', '.join(keys)}" for key in by if key not in keys]
    if at not in ("final", "best") and not at.isdecimal():
        errors.append(f"--at {at} must be final, best or an epoch's number")
    if clock != "epochs" and at != "final":
        errors.append(f"--clock {clock} goes with --at final only")
    if clock in ONLY_WITH_BUDGETS and study.epochs[CLOCKS[clock]].isna().all():
        errors.append(f"--clock {clock}: this study has no value in the column {CLOCKS[clock]}{WHY_MISSING[clock]}")
    for option, arm in (("against", against), ("treatment", treatment)):
        if arm is not None and arm not in arms:
            errors.append(f"--{option} {arm} is no arm of this study; one of {', '.join(arms)}")
    if errors:
        raise TableError("\n".join(errors))
    moment: Any = at if at in ("final", "best") else int(at)
    pairs = pair(study, moment, clock, against, treatment)
    headline = [*HEADLINE, *(c.name for c in study.columns.own if c.direction and c.name.startswith("test_"))]
    measured = [name for name in headline if pairs.frame[f"gap/{name}"].notna().any()]
    shown = list(metrics) or measured or list(HEADLINE)
    found = confirmations(study.path)
    early = stopping(pairs)
    said = [
        *verdict(pairs, shown[0], early).splitlines(),
        *(claims(study, found, shown[0]) or unconfirmed(study)),
    ]
    summary, with_stopped = (summarize(frame, shown, by) for frame in (pairs.frame, early.reached))
    return Answer(pairs, tuple(said), summary, early, with_stopped if early.read else None)


def written(found: Answer, form: Form) -> str:
    """An answer as text: sentences and table for people, unrounded numbers in the units of ``records`` for programs.

    CSV has the table alone; JSON has it under ``gaps``, the sentences under ``verdict``, and what was compared. Where
    comparisons were stopped early, a note says so below the table, and a second table counts these as far as they came
    (in JSON under ``with_stopped``, beside ``stopped``: how many, by which rule and metric).
    """
    early = found.stopping
    if form == "csv":
        return found.summary.to_csv(index=False)
    if form == "json":
        pairs = found.pairs
        compared = {"at": pairs.at, "clock": pairs.clock, "dropped": pairs.dropped}
        compared["without_gap"] = counted_by_arm(pairs.frame)
        rule = {"comparisons": early.stopped, "rule": early.rule.name, "metric": early.rule.metric}
        whole = {"verdict": found.verdict, **compared, "stopped": rule, "gaps": to_records(found.summary)}
        if found.with_stopped is not None:
            whole["with_stopped"] = to_records(found.with_stopped)
        return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    table = gap_table(found.summary, found.pairs.columns)
    if form == "latex":
        return "".join(f"% {line}\n" for line in (*found.verdict, *filter(None, [early.short]))) + to_latex(table)
    write = to_markdown if form == "markdown" else to_text
    text = "\n".join(found.verdict) + f"\n\n{write(table)}"
    if early.stopped:
        text += f"\n{early.short}\n"
    if found.with_stopped is not None:
        heading = f"With {early.read} stopped ones at the last epoch that they reached, which are not final:"
        text += f"{heading}\n\n{write(gap_table(found.with_stopped, found.pairs.columns))}"
    return text
