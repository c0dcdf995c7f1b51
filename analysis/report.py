"""One HTML file that tells what a study found: opens without a network, and says what it does not know."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims import compare, published_table
from analysis.confirmation_claims import claims, unconfirmed
from analysis.confirmations import chosen_by, confirmations, confirmed, is_confirmation, searched_in
from analysis.curve_charts import looks, panel_charts
from analysis.curves import panel_rows
from analysis.database import TableError
from analysis.figures import caption
from analysis.findings import HEADLINE, Findings, find, named, told
from analysis.gaps import amount, chooser, label, settings, summarize
from analysis.load import Study
from analysis.outcomes import counted_by_arm
from analysis.page import Block, Cell, Section, Table, Text, capped, choice, grid, noted, plain, render
from analysis.pairs import STUDY, arms, final_rows
from analysis.prints import drawn_beside
from analysis.published import FOLDER as PUBLISHED
from analysis.report_arms import controls, tuning
from analysis.report_budget import budgets
from analysis.report_gaps import sure, where
from analysis.report_league import leagues
from analysis.report_method import behaviour, tradeoff
from analysis.report_settings import drivers
from analysis.report_training import overfitting, speed
from analysis.status import duration
from analysis.stills import stills as stills_of
from analysis.stills import write_tables
from analysis.tables import cell, span, thesis_table, written
from analysis.tuning import at_best, standing
from analysis.verdict import verdict
from analysis.writing import write_text
from trainables.records import BUILT_IN, SIDES, STATUSES, Columns, title

QUESTIONS = (where, sure, controls, tuning, drivers, speed, overfitting, behaviour, tradeoff)
"""The nine questions, in their order."""

COUNT_STOPPED = ("speed", "behaviour")
"""The sections that count stopped comparisons as far as they came."""

ESTIMATES = ("where", "sure")
"""The sections whose answer is a median gap."""

MOST_ERRORS = 100
"""Errors and reasons that are told word for word, at most."""
MOST_DAMAGE = 50
"""Lines about what is damaged, at most."""


def write(study: Study, folder: Path, seed: int = 0, stills: bool = True) -> Path:
    """Write ``report.html`` to ``folder``, and figures and tables for print to ``folder/figures``.

    The page is one file with everything in it, replaced as a whole. The same tables give the same page.

    Args:
        study: its tables; of several studies read as one, trials have a column ``study``.
        folder: made where it is not there.
        seed: of all that is drawn at random.
        stills: whether the figures and tables for print are made, which takes longer than the page.

    Returns:
        The path of the page.

    Raises:
        TableError: ``folder`` cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = find(study, seed)
        chosen = extremes(found.frame)
        if not stills:
            return write_text(folder / "report.html", _page(found, chosen))
        (folder / "figures").mkdir(exist_ok=True)
        figures = stills_of(found, [trial_id for trial_id, _ in chosen.values()])
        with drawn_beside({name: figure.spec for name, figure in figures.items()}, folder / "figures"):
            write_tables(found, folder / "figures")
            return write_text(folder / "report.html", _page(found, chosen))
    except OSError as error:
        raise TableError(f"cannot write the report to {folder}: {error}; give a folder that can be written to") from (
            error
        )


def _page(found: Findings, chosen: Mapping[str, tuple[str, str]]) -> str:
    study = found.study
    confirming = confirmations(study.path)
    sections = [_of_finished(found, answer(found)) for answer in QUESTIONS]
    before = [
        section for section in (_confirmation(found, confirming), budgets(found), leagues(found)) if section.blocks
    ]
    after = [*_published(found), _comparisons(found), *_examples(found, chosen), _health(found, confirming)]
    provenance = Section("provenance", "Provenance", "")
    values = {
        "name": study.name,
        "question": question(study.trials),
        "verdict": _verdict(found, confirming),
        "numbers": key_numbers(study) | ({"early stopping": found.stopping.who()} if found.stopping.stopped else {}),
        "sections": sections,
        "before": before,
        "after": after,
        "others": [*before, *after, provenance],
        "manifest": plain("Manifest", ["What", "Value"], flat(study.manifest), words=True),
        "experiment": study.experiment,
    }
    return render("report.html.j2", values, (block for s in [*before, *sections, *after] for block in s.blocks))


def _of_finished(found: Findings, section: Section) -> Section:
    """The section with the caveat of early stopping, unless it counts stopped comparisons itself."""
    early = found.stopping
    if not early.stopped or found.frame.empty or section.id in COUNT_STOPPED:
        return section
    said = early.short
    if section.id in ESTIMATES and early.read:
        row = summarize(early.reached, [HEADLINE]).iloc[0]
        said += f" With {early.read} stopped ones at the last epoch that they reached it is {told(row)}."
    return noted(section, said, early.brief)


def _verdict(found: Findings, confirming: Sequence[Study]) -> list[str]:
    """What fresh seeds say comes first, for what was searched flatters; the verdict itself follows."""
    study = found.study
    said = claims(study, confirming, HEADLINE)
    lines = verdict(found.pairs, HEADLINE, found.stopping).splitlines()
    loss = ["Part of the record is damaged and left out; see Run health."] if study.damage else []
    return [*said, *lines, *([] if said else unconfirmed(study)), *loss]


def question(trials: pd.DataFrame) -> str:
    """The study's question, naming the arms that are compared; of several studies, also how many they are."""
    asked = f"Does {named(trials, 'treatment')} beat {named(trials, 'baseline')} at the same configuration, and where?"
    studies = trials[STUDY].nunique() if STUDY in trials else 1
    return asked if studies < 2 else f"{asked} {studies} studies, read together."


def key_numbers(study: Study) -> dict[str, str]:
    """How much was done: trials by status, epochs trained and saved, and time, each as text."""
    trials = study.trials
    last = trials["trial_id"].map(study.epochs.groupby("trial_id")["epoch"].max()).astype("Float64").fillna(0)
    due = trials["epochs"].astype("Float64") if "epochs" in trials else last
    saved = (due - last)[trials["status"] == "stopped"].clip(lower=0).sum()
    numbers = {"comparisons": f"{len(trials):,}"}
    numbers |= {status: f"{(trials['status'] == status).sum():,}" for status in STATUSES}
    numbers |= {"epochs trained, every arm": f"{last.sum():,.0f}", "epochs saved by early stopping": f"{saved:,.0f}"}
    spent = (trials["ended"] - trials["started"]).sum()
    numbers["time of all trials"] = duration(spent)
    numbers["from first start to last end"] = duration(trials["ended"].max() - trials["started"].min())
    always = ("finished", "stopped", "diverged", "failed")
    return {name: text for name, text in numbers.items() if text != "0" or name not in STATUSES or name in always}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
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


def _confirmation(found: Findings, confirming: Sequence[Study]) -> Section:
    """The configurations of every confirmation, in the metric that chose them and in the headline's."""
    study = found.study
    tables: list[Block] = []
    searched: list[tuple[Study | None, Study]] = [(study, other) for other in confirming]
    if is_confirmation(study):
        searched.append((searched_in(study), study))
    for search, other in searched:
        for metric in dict.fromkeys((chosen_by(other, HEADLINE), HEADLINE)):
            table = _confirmed_table(confirmed(search, other, metric), metric, other)
            tables += [table] if table.rows else []
    note = (
        "The best of many noisy gaps is too good to be true: part of it is luck, and part can be a baseline that "
        "nobody tuned. Here the search's best configurations ran again on fresh seeds, which had no part in choosing "
        "them, and to their last epoch. On the same seeds ran what the search found best for each arm in their "
        "problems, by validation accuracy; the tuned gap is between these two. Gaps are medians over the seeds; a 95% "
        "interval is of the median, each taken alone, and fewer than 6 seeds have none."
    )
    if found.stopping.stopped:
        note += f" The best are those of the comparisons that {found.stopping.which}: {found.stopping.who()}."
    return Section("confirmation", "Confirmation", "", [Text(note, note=True), *tables] if tables else [])


def _confirmed_table(frame: pd.DataFrame, metric: str, confirmation: Study) -> Table:
    keys, declared = list(frame.columns[1 : list(frame.columns).index("searched")]), confirmation.columns
    rows = []
    for row in frame.to_dict("records"):
        zero = "–" if math.isnan(row["median_low"]) else "yes" if row["excludes_zero"] else "no"
        rows.append(
            [
                Cell(row["configuration"]),
                *(_setting(row[key]) for key in keys),
                Cell(", ".join(row["roles"])),
                Cell(amount(metric, row["searched"], declared), row["searched"]),
                Cell(str(row["seeds"])),
                Cell(amount(metric, row["median"], declared), row["median"]),
                Cell(span(metric, row["median_low"], row["median_high"], declared), row["median_low"]),
                Cell(zero),
                Cell(amount(metric, -row["behind"], declared), -row["behind"]),
                Cell(amount(metric, row["tuned"], declared), row["tuned"]),
                Cell(span(metric, row["tuned_low"], row["tuned_high"], declared), row["tuned_low"]),
            ]
        )
    heads = ["Configuration", *keys, "Role", "Searched gap", "Seeds", "Confirmed median gap"]
    heads += ["95% interval of the median", "Leaves out 0", "Its baseline, against the best"]
    heads += ["Tuned median gap of its problem", "95% interval of the tuned median gap"]
    return Table(f"Gap in {title(metric)}, searched and confirmed ({confirmation.path.name})", heads, rows)


def _published(found: Findings) -> list[Section]:
    """Our gaps beside those that the thesis prints of the same problems, if there are any."""
    if found.frame.empty or found.study.path == PUBLISHED:
        return []
    compared = compare(found.study)
    if compared.empty:
        return []
    heads, rows = written(published_table(compared))
    note = (
        "What the thesis prints is one run of each arm, on full data sets; what is known to differ from ours stands "
        "beside it. A claim agrees where it lies within the 95% interval of our median gap."
    )
    table = plain("Gaps of the same problems, as published and as measured here", heads, rows)
    return [Section("published", "Beside the published figures", "", [Text(note, note=True), capped(table, 100)])]


def _comparisons(found: Findings) -> Section:
    trials = found.study.trials
    several = [STUDY] if STUDY in trials else []
    keys = [*several, *settings(trials)]
    columns = [f"{scope}/{HEADLINE}" for scope in (*SIDES, "gap")]
    rows = []
    for trial in trials.merge(found.frame[["trial_id", *columns]], on="trial_id", how="left").to_dict("records"):
        baseline, treatment, gap = (trial[column] for column in columns)
        measured = [Cell(_percent(baseline), baseline), Cell(_percent(treatment), treatment)]
        measured.append(Cell(amount(HEADLINE, gap), gap))
        names = [Cell(label(trial["number"])), Cell(str(trial["status"]))]
        rows.append([*names, *measured, *(_setting(trial[key]) for key in keys)])
    heads = ["Trial", "Status", "Baseline", "Treatment", "Gap", *keys]
    table = Table(f"All comparisons, with the {title(HEADLINE)} of both arms at the last epoch", heads, rows)
    shown: Block = capped(table) if rows else Text("The study has no trials yet.")
    return Section("comparisons", "All comparisons", "", [shown])


def _setting(value: Any) -> Cell:
    """A setting's value; numbers are sorted as such, and what is not set comes last."""
    if value is None or pd.isna(value):
        return Cell(label(value), math.nan)
    return Cell(label(value), float(value) if isinstance(value, int | float) else None)


def _examples(found: Findings, chosen: Mapping[str, tuple[str, str]]) -> list[Section]:
    study, sections = found.study, []
    for heading, (trial_id, metric) in chosen.items():
        name = heading.lower().replace(" ", "-")
        rows, names = panel_rows(study, trial_id), arms(study, trial_id)
        prefix = name.replace("-", "_")
        kinds = looks(names)
        panels = [(clock, panel_charts(rows, kinds, clock, prefix, study.columns)) for clock in found.clocks]
        drawn = choice("Along", [(clock, grid(*charts.values())) for clock, charts in panels])
        table = _thesis(f"Last epoch of every arm of the {name.replace('-', ' ')}", final_rows(study, trial_id))
        told = f"{caption(study, trial_id)}; {stands(found.frame, trial_id, metric, study.columns)}"
        sections.append(Section(name, f"{heading} by {title(metric)} gap", told, [*drawn, table]))
    return sections


def stands(frame: pd.DataFrame, trial_id: str, metric: str, columns: Columns = BUILT_IN) -> str:
    """How the treatment of a comparison stands in ``metric``, and where the baseline is at its best in its problem."""
    place = frame["trial_id"] == trial_id
    names = dict(zip(frame["trial_id"], frame["number"], strict=True))
    best = names.get(at_best(frame).loc[place, "baseline"].iloc[0])
    baseline = "" if best is None else f"; its baseline is at its best in trial {label(best)}"
    return f"in {title(metric)} {standing(frame, metric, columns)[place].iloc[0]}{baseline}"


def _thesis(text: str, rows: pd.DataFrame) -> Table:
    """The form of Tables 4.4 to 4.9: train, test and test/train."""
    table = thesis_table(rows)
    levels: list[Any] = list(table.columns)
    tops = [top for top, _ in levels]
    groups = [(top, tops.count(top)) for top in dict.fromkeys(tops)]
    cells = [[Cell(cell(value)) for value in row] for row in table.itertuples(index=False, name=None)]
    return Table(f"{text}: train, test and test/train", [low for _, low in levels], cells, groups)


def _health(found: Findings, confirming: Sequence[Study]) -> Section:
    study, trials = found.study, found.study.trials
    damage = [
        *study.damage,
        *(f"confirmation {other.path.name}: {line}" for other in confirming for line in other.damage),
    ]
    blocks: list[Block] = []
    if damage:
        rows = ([line] for line in damage)
        blocks.append(
            capped(plain("Part of the record is damaged. This was left out:", ["What"], rows, True), MOST_DAMAGE)
        )
    lost = [[what, f"{number:,}"] for what, number in counted_by_arm(found.frame).items()]
    blocks += [plain("Comparisons that an arm lost without a gap", ["Why", "Trials"], lost, words=True)] if lost else []
    dropped = [[why, f"{number:,}"] for why, number in found.pairs.dropped.items()]
    left_out = plain("Trials left out", ["Reason", "Trials"], dropped, words=True)
    blocks.append(left_out if dropped else Text("No trial was left out."))
    bad = trials[trials["error"].notna() & (trials["status"] != "stopped")]
    errors = ([label(row["number"]), str(row["status"]), str(row["error"])] for row in bad.to_dict("records"))
    table = plain("Errors, word for word", ["Trial", "Status", "Error"], errors, words=True)
    blocks.append(capped(table, MOST_ERRORS) if len(bad) else Text("No trial left an error."))
    reasons = trials.loc[trials["status"] == "stopped", "error"].value_counts()
    if len(reasons):
        counts = ([str(reason), f"{count:,}"] for reason, count in reasons.items())
        table = plain("Why trials were stopped", ["Reason", "Trials"], counts, words=True)
        blocks.append(capped(table, MOST_ERRORS))
    meanings = plain("What the statuses mean", ["Status", "Meaning"], STATUSES.items(), words=True)
    return Section("health", "Run health", "", [*blocks, meanings])


def _percent(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "–"
