"""The page on the field's methods says what its tables say."""

from pathlib import Path

import pytest

from analysis.gaps import amount
from analysis.league import league, league_table
from analysis.load import load
from analysis.sources import narrow
from analysis.tables import span, to_markdown

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "field.md").read_text(encoding="utf-8")


def rows_of(heading):
    """The rows with four cells of the first table below a heading."""
    lines = PAGE.split(heading, 1)[1].split("\n| ", 1)[1].split("\n\n", 1)[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if "---" not in line]


@pytest.fixture(scope="module")
def field():
    return load(DOCS / "results" / "field")


def test_the_table_is_that_of_the_results(field):
    assert to_markdown(league_table(league(field))).strip() in PAGE


def test_gaps_to_a_random_share_are_those_of_the_results(field):
    wanted = field.epochs.merge(field.trials[["trial_id", "epochs", "seed"]], on="trial_id")
    ends = wanted[wanted["epoch"] == wanted["epochs"]]
    reached = ends.pivot(index=["epochs", "seed"], columns="arm", values="test_accuracy").astype("float64")
    gaps = 100 * reached.sub(reached["random_share"], axis=0).groupby("epochs").median()
    told = {arm: cells for arm, *cells in rows_of("At equal compute.") if arm in gaps}
    assert len(told) == 9
    for arm, cells in told.items():
        numbers = [float(cell.replace("−", "-")) for cell in cells]
        assert numbers == pytest.approx(gaps[arm].round(2).tolist(), abs=0.006)


def test_gaps_under_noise_are_those_of_the_results():
    noisy = load(DOCS / "results" / "field_noise")
    levels = [league(narrow(noisy, f"dataset.label_noise == {level}")).rows.set_index("arm") for level in (0, 0.2, 0.4)]
    told = {arm: cells for arm, *cells in rows_of("## Under label noise") if arm in levels[0].index}
    assert [*told] == [arm for arm in levels[-1].index if arm != "archetype"]
    for arm, cells in told.items():
        for cell, rows in zip(cells, levels, strict=True):
            row = rows.loc[arm]
            interval = span("test_accuracy", row["gap_low"], row["gap_high"]).removesuffix(" pp")
            assert cell == f"{amount('test_accuracy', row['gap']).removesuffix(' pp')} ({interval})", arm
