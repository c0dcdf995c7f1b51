"""The page on the field's methods says what its tables say."""

from pathlib import Path

import pytest

from analysis.league import league, league_table
from analysis.load import load
from analysis.tables import to_markdown

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "field.md").read_text(encoding="utf-8")


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
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.count("|") == 5 and "---" not in line]
    told = {arm: cells for arm, *cells in lines if arm in gaps}
    assert len(told) == 9
    for arm, cells in told.items():
        numbers = [float(cell.replace("−", "-")) for cell in cells]
        assert numbers == pytest.approx(gaps[arm].round(2).tolist(), abs=0.006)
