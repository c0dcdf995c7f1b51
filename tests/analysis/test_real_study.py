"""A study of 48 comparisons on real digits, as `filter-study run landscape` and `export` left it: what it must say."""

import re
from html import unescape
from pathlib import Path

import pytest

from analysis.answer import answer
from analysis.load import load
from analysis.report import write

LANDSCAPE = Path(__file__).parent / "data" / "landscape"


@pytest.fixture(scope="module")
def study():
    return load(LANDSCAPE)


def test_it_is_whole(study):
    assert not study.damage
    assert len(study.trials) == 48
    assert set(study.trials["status"]) == {"finished"}
    assert len(study.epochs) == 48 * 3 * 21
    assert not study.manifest["git"]["modified"]


def test_filtering_loses_accuracy_and_lowers_the_worst_loss(study):
    found = answer(study)
    summary = found.summary.set_index("metric")
    accuracy = study.epochs.query("epoch == 20").pivot(index="trial_id", columns="arm", values="test_accuracy")
    gaps = accuracy["filtered"] - accuracy["archetype"]
    averages = gaps.groupby(study.trials.set_index("trial_id")["configuration"]).mean()  # 24, on two seeds each
    assert summary.loc["test_accuracy", "wins"] == ((gaps > 0).sum() + (gaps == 0).sum() / 2) / 48 < 0.2
    assert summary.loc["test_accuracy", "median"] == pytest.approx(averages.median()) == pytest.approx(-0.02025)
    assert summary.loc["test_worst_loss", "median_low"] > 0
    assert "beats archetype in 3 of 48 comparisons and ties in 7" in found.verdict[0]


def test_the_choice_of_samples_matters(study):
    assert answer(study, ["test_accuracy"], against="random").summary["median"].item() == pytest.approx(0.02875)


@pytest.mark.slow
def test_every_question_is_answered(study, tmp_path):
    page = write(study, tmp_path, stills=False).read_text("utf-8")
    text = unescape(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL))
    for place in range(1, 10):
        assert re.search(rf"\b{place}\.\s+\w+.*\?", text), place
    assert "add arms" not in text  # nothing that a question needs was left unrecorded
