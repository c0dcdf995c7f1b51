"""One HTML file that tells what a study found: opens without a network, and says what it does not know."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.confirmations import (
    chosen_by,
    claims,
    confirmations,
    confirmed,
    is_confirmation,
    searched_in,
    unconfirmed,
)
from analysis.database import TableError
from analysis.figures import caption, gap_distribution, nine_panels
from analysis.gaps import (
    Tuned,
    amount,
    chooser,
    hyperparameters,
    label,
    settings,
    summarize,
    telling,
    title,
    tuned,
    verdict,
)
from analysis.load import Study, write_text
from analysis.pairs import Pairs, final_rows, pair
from analysis.status import duration
from analysis.tables import gap_table, span, thesis_table, written
from trainables.records import CLOCKS, STATUSES

MAIN_METRICS = (
    "validation_accuracy",
    "test_accuracy",
    "test_mean_loss",
    "test_q90_loss",
    "test_worst_loss",
    "cumulative_train_seconds",
    "cumulative_seconds",
    "cumulative_compute",
)
DRAWN_METRICS = ("test_accuracy", "test_mean_loss", "test_q90_loss", "test_worst_loss")
HEADLINE = "test_accuracy"
SIDES = ("baseline", "treatment")
MOST_RUNGS = 6


@dataclass(frozen=True)
class Table:
    """A table as the page shows it: headings (with the columns each spans, above them, where there are two levels)."""

    caption: str
    heads: list[str]
    rows: list[list[str]]
    groups: list[tuple[str, int]]


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its data URI, and in words what it shows."""

    source: str
    alt: str


@dataclass(frozen=True)
class Example:
    """One comparison shown in full."""

    heading: str
    text: str
    picture: Picture
    table: Table


def write(study: Study, folder: Path, seed: int = 0) -> Path:
    """Write ``report.html`` to ``folder``, and its figures also as PNG files to ``folder/figures``.

    The page is one file with everything in it, replaced as a whole. ``seed`` is of the bootstrap intervals, so that the
    same tables give the same page.

    Returns:
        The path of the page.

    Raises:
        TableError: ``folder`` cannot be written.
    """
    folder = Path(folder)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        page = _page(study, folder / "figures", seed)
        return write_text(folder / "report.html", page)
    except OSError as error:
        raise TableError(f"cannot write the report to {folder}: {error}; give a folder that can be written to") from (
            error
        )


def _page(study: Study, figures: Path, seed: int) -> str:
    pairs = pair(study)
    frame = pairs.frame
    measured = [metric for metric in MAIN_METRICS if np.isfinite(frame[f"gap/{metric}"]).any()]
    found = confirmations(study.path)
    damage = [*study.damage, *(f"confirmation {other.path.name}: {line}" for other in found for line in other.damage)]
    environment = Environment(
        loader=PackageLoader("analysis", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        name=study.name,
        question=question(study.trials),
        verdict=_verdict(study, found, verdict(pairs, np.random.default_rng(seed), HEADLINE).splitlines()),
        numbers=key_numbers(study),
        confirmations=_confirmation_tables(study, found),
        gaps=_gaps_table(frame, measured, seed),
        clocks=_clocks_table(study, seed),
        controls=_controls_table(study, frame, seed),
        equal_epochs=_equal_epochs_table(study, seed),
        tuned=_tuned_table(tuned(frame)),
        by_key=_by_key_tables(frame, seed),
        distributions=_distributions(frame, figures),
        comparisons=_comparisons_table(study, frame),
        examples=_examples(study, frame, figures),
        dropped=_plain("Trials left out", ["Reason", "Trials"], [[why, str(n)] for why, n in pairs.dropped.items()]),
        kept=len(frame),
        errors=_errors_table(study.trials),
        stops=_stops_table(study.trials),
        damage=damage,
        statuses=STATUSES,
        manifest=_plain("Manifest", ["What", "Value"], [[key, value] for key, value in flat(study.manifest)]),
        experiment=study.experiment,
    )


def _verdict(study: Study, found: Sequence[Study], lines: Sequence[str]) -> list[str]:
    """What fresh seeds say comes first, for what was searched flatters; the ``lines`` of the verdict itself follow."""
    said = claims(study, found, HEADLINE)
    loss = ["Part of the record is damaged and left out; see Run health."] if study.damage else []
    return [*said, *lines, *([] if said else unconfirmed(study)), *loss]


def question(trials: pd.DataFrame) -> str:
    """The study's question, naming the arms that are compared."""
    names = {}
    for role in ("baseline", "treatment"):
        given = {str(name) for name in trials[role].dropna()} if role in trials else set()
        names[role] = " or ".join(sorted(given)) or f"the {role}"
    return f"Does {names['treatment']} beat {names['baseline']} at the same configuration, and where?"


def key_numbers(study: Study) -> dict[str, str]:
    """How much was done: trials by status, epochs trained and saved, and time, each as text."""
    trials = study.trials
    last = trials["trial_id"].map(study.epochs.groupby("trial_id")["epoch"].max()).astype("Float64").fillna(0)
    due = trials["epochs"].astype("Float64") if "epochs" in trials else last
    saved = (due - last)[trials["status"] == "stopped"].clip(lower=0).sum()
    numbers = {"comparisons": str(len(trials))}
    numbers |= {status: str(int((trials["status"] == status).sum())) for status in STATUSES}
    numbers |= {"epochs trained, every arm": f"{last.sum():,.0f}", "epochs saved by early stopping": f"{saved:,.0f}"}
    spent = (trials["ended"] - trials["started"]).sum()
    numbers["time of all trials"] = duration(spent)
    numbers["from first start to last end"] = duration(trials["ended"].max() - trials["started"].min())
    always = ("finished", "stopped", "diverged", "failed")
    return {name: text for name, text in numbers.items() if text != "0" or name not in STATUSES or name in always}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """A nested mapping as dotted names and text."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", ", ".join(map(str, value)) or "none"
        else:
            yield f"{prefix}{key}", "none" if value is None or value == {} else str(value)


def extremes(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The comparisons with the best and the worst gap: by heading, the trial and the metric that chose it.

    Chosen on validation accuracy (on test accuracy with nothing held out), among the comparisons whose baseline learned
    unless none did. Empty where no gap is finite; one entry where there is one comparison.
    """
    metric = "validation_accuracy" if chooser(frame) == "validation_accuracy" else HEADLINE
    frame = frame[np.isfinite(frame[f"gap/{metric}"])]
    if frame["baseline_learned"].any():
        frame = frame[frame["baseline_learned"]]
    gaps = frame.set_index("trial_id")[f"gap/{metric}"]
    if gaps.empty:
        return {}
    if len(gaps) == 1:
        return {"The only comparison": (str(gaps.index[0]), metric)}
    return {"Best comparison": (str(gaps.idxmax()), metric), "Worst comparison": (str(gaps.idxmin()), metric)}


def _plain(text: str, heads: list[str], rows: list[list[str]]) -> Table:
    return Table(text, heads, rows, [])


def _table(text: str, frame: pd.DataFrame) -> Table:
    heads, rows = written(frame)
    return _plain(text, heads, rows)


def _thesis(text: str, rows: pd.DataFrame) -> Table:
    table = thesis_table(rows)
    levels: list[Any] = list(table.columns)
    tops = [top for top, _ in levels]
    groups = [(top, tops.count(top)) for top in dict.fromkeys(tops)]
    return Table(text, [low for _, low in levels], written(table)[1], groups)


def _gaps_table(frame: pd.DataFrame, metrics: list[str], seed: int) -> Table:
    text = "Gaps at the last epoch of finished comparisons; positive: the treatment is better"
    return _table(text, gap_table(summarize(frame, metrics, np.random.default_rng(seed))))


def _confirmation_tables(study: Study, found: Sequence[Study]) -> list[Table]:
    """The configurations of every confirmation, in the metric that chose them and in the headline's."""
    tables = []
    searched: list[tuple[Study | None, Study]] = [(study, other) for other in found]
    if is_confirmation(study):
        searched.append((searched_in(study), study))
    for search, other in searched:
        for metric in dict.fromkeys((chosen_by(other, HEADLINE), HEADLINE)):
            frame = confirmed(search, other, metric)
            keys = list(frame.columns[1 : list(frame.columns).index("searched")])
            rows = []
            for row in frame.to_dict("records"):
                zero = "–" if not math.isfinite(row["low"]) else "yes" if row["excludes_zero"] else "no"
                of_search = [row["configuration"], *(label(row[key]) for key in keys), amount(metric, row["searched"])]
                left = [amount(metric, row["mean"]), span(metric, row["low"], row["high"]), zero]
                rows.append([*of_search, str(row["seeds"]), *left])
            heads = ["Configuration", *keys, "Searched gap", "Seeds", "Confirmed gap", "95% interval", "Leaves out 0"]
            tables.append(_plain(f"Gap in {title(metric)}, searched and confirmed ({other.path.name})", heads, rows))
    return [table for table in tables if table.rows]


def _headline_table(text: str, named: Mapping[str, Pairs], heading: str, seed: int) -> Table:
    """The headline metric's gaps, a row for each of several ways to pair."""
    rows = []
    for name, pairs in named.items():
        row = summarize(pairs.frame, [HEADLINE], np.random.default_rng(seed))
        row.insert(0, heading, name)
        row.insert(1, "Left out", sum(pairs.dropped.values()))
        rows.append(row)
    return _table(text, gap_table(pd.concat(rows)).drop(columns="Metric")) if rows else _plain(text, [], [])


def _clocks_table(study: Study, seed: int) -> Table:
    text = f"Gap in {title(HEADLINE)} where both arms have spent the same"
    return _headline_table(text, {clock: pair(study, clock=clock) for clock in CLOCKS}, "Clock", seed)


def _controls_table(study: Study, frame: pd.DataFrame, seed: int) -> Table:
    """The treatment against every arm that is neither baseline nor treatment."""
    compared = {name for role in SIDES if role in frame for name in frame[role]}
    others = sorted(set(study.epochs["arm"].dropna()) - compared) if compared else []
    text = f"Gap in {title(HEADLINE)} of the treatment against every other arm, at the last epoch"
    return _headline_table(text, {arm: pair(study, against=arm) for arm in others}, "Against", seed)


def _equal_epochs_table(study: Study, seed: int) -> Table:
    """Gaps of all trials that reached an epoch, at up to six epochs; empty where none was stopped early."""
    reached = study.epochs.groupby("trial_id")["epoch"].max()
    rungs = sorted({int(epoch) for epoch in reached if epoch > 0})
    if len(rungs) > MOST_RUNGS:
        rungs = [rungs[round(place)] for place in np.linspace(0, len(rungs) - 1, MOST_RUNGS)]
    if not (study.trials["status"] == "stopped").any():
        rungs = []
    text = f"Gap in {title(HEADLINE)} of all trials that reached an epoch, finished or not"
    return _headline_table(text, {str(epoch): pair(study, at=epoch) for epoch in rungs}, "Epoch", seed)


def _tuned_table(cells: list[Tuned]) -> Table:
    rows = [
        [
            ", ".join(f"{key} {label(value)}" for key, value in cell.cell.items()) or "all",
            title(cell.chosen_by),
            str(cell.trials),
            f"{cell.baseline_test:.1%} (trial {cell.baseline_trial})",
            f"{cell.treatment_test:.1%} (trial {cell.treatment_trial})",
            amount(HEADLINE, cell.gap),
        ]
        for cell in cells
    ]
    heads = ["Cell", "Chosen by", "Configurations", "Best baseline, test", "Best treatment, test", "Gap"]
    return _plain("Each arm at its own best hyperparameters within a cell, from the same configurations", heads, rows)


def _by_key_tables(frame: pd.DataFrame, seed: int) -> list[Table]:
    tables = []
    for key in hyperparameters(frame):
        summary = summarize(frame, [HEADLINE], np.random.default_rng(seed), [key])
        tables.append(_table(f"By {key}", gap_table(summary).drop(columns="Metric")))
    return tables


def _distributions(frame: pd.DataFrame, figures: Path) -> list[Picture]:
    metrics = [metric for metric in DRAWN_METRICS if np.isfinite(frame[f"gap/{metric}"]).any()]
    if not metrics:
        return []
    path = gap_distribution(frame, metrics, figures / "gaps.png")
    pictures = [_picture(path, f"Gaps of {len(frame)} comparisons in {', '.join(map(title, metrics))}, a dot each.")]
    key = telling(frame, HEADLINE)
    if key:
        path = gap_distribution(frame, [HEADLINE], figures / "gaps-by-hyperparameter.png", by=key)
        pictures.append(_picture(path, f"Gaps in {title(HEADLINE)} by {key}, the setting that separates them most."))
    return pictures


def _comparisons_table(study: Study, frame: pd.DataFrame) -> Table:
    keys = settings(study.trials)
    columns = [f"{scope}/{HEADLINE}" for scope in (*SIDES, "gap")]
    trials = study.trials.merge(frame[["trial_id", *columns]], on="trial_id", how="left")
    rows = []
    for trial in trials.to_dict("records"):
        baseline, treatment, gap = (trial[column] for column in columns)
        values = [_percent(baseline), _percent(treatment), amount(HEADLINE, gap)]
        rows.append([label(trial["number"]), str(trial["status"]), *values, *(label(trial[key]) for key in keys)])
    heads = ["Trial", "Status", "Baseline", "Treatment", "Gap", *keys]
    return _plain(f"All comparisons, with the {title(HEADLINE)} of both arms at the last epoch", heads, rows)


def _percent(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "–"


def _examples(study: Study, frame: pd.DataFrame, figures: Path) -> list[Example]:
    examples = []
    for heading, (trial_id, metric) in extremes(frame).items():
        text = caption(study, trial_id)
        path = nine_panels(study, trial_id, figures / f"{heading.lower().replace(' ', '-')}.png")
        alt = f"Nine panels against epochs: accuracy and mean, q90 and worst loss on train and test, and time. {text}."
        table = _thesis("Last epoch of every arm: train, test and test/train", final_rows(study, trial_id))
        examples.append(Example(f"{heading} by {title(metric)} gap", text, _picture(path, alt), table))
    return examples


def _errors_table(trials: pd.DataFrame) -> Table:
    bad = trials[trials["error"].notna() & (trials["status"] != "stopped")]
    rows = [[label(row["number"]), str(row["status"]), str(row["error"])] for row in bad.to_dict("records")]
    return _plain("Errors, word for word", ["Trial", "Status", "Error"], rows)


def _stops_table(trials: pd.DataFrame) -> Table:
    reasons = trials.loc[trials["status"] == "stopped", "error"].value_counts()
    rows = [[str(reason), str(count)] for reason, count in reasons.items()]
    return _plain("Why trials were stopped", ["Reason", "Trials"], rows)


def _picture(path: Path, alt: str) -> Picture:
    return Picture(f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", alt)
