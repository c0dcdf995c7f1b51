import shutil
from dataclasses import replace

import pytest

from analysis.confirmation_claims import claims, unconfirmed
from analysis.confirmations import BEST, WINNER, confirmations, is_confirmation, searched_in
from analysis.load import load

HELD = (0.0, 0.04, 0.04, 0.06, 0.06, 0.1)


def test_the_claim_quotes_what_was_confirmed_and_how_much_was_lost(search, confirm):
    confirm(aaaaaaaa=HELD, bbbbbbbb=(0.2, 0.21) * 3)
    said = claims(load(search), confirmations(search), "test_accuracy")
    assert said == [
        "Confirmed on 6 fresh seeds: the search's best configuration (optimizer.lr 0.1) has a median gap of +5.00 pp "
        "in validation accuracy (95% interval from 0.00 pp to +10.00 pp, which includes 0); the search had found "
        "+20.00 pp, 75% of which did not hold.",
        "It is the best configuration of its problem for each arm in the search.",
        "Beside it stands a median gap of +4.00 pp in test accuracy (95% interval from 0.00 pp to +8.00 pp, which "
        "includes 0); the search had found +20.00 pp, 80% of which did not hold.",
        "Of 2 winners with results, the whole interval lies above 0 for 1 and below 0 for 0 (validation accuracy, each "
        "taken alone).",
    ]
    assert unconfirmed(load(search)) != []  # which the caller says only where nothing is claimed


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        (
            (-0.1,) * 6,
            "a median gap of −10.00 pp in validation accuracy (95% interval from −10.00 pp to −10.00 pp, ",
        ),
        ((-0.1,) * 6, "which leaves out 0); the search had found +20.00 pp, all of which did not hold."),
        ((0.2, 0.25, 0.3) * 2, "the search had found +20.00 pp, which held."),
        ((0.05, 0.15), "+10.00 pp in validation accuracy (too few seeds for an interval); the search had found"),
    ],
)
def test_the_claim_says_no_more_than_the_seeds(search, confirm, gaps, words):
    confirm(aaaaaaaa=gaps)
    assert words in claims(load(search), confirmations(search), "validation_accuracy")[0]


def test_a_configuration_without_results_is_not_quoted(search, confirm):
    confirm(aaaaaaaa=(), bbbbbbbb=HELD)
    said = claims(load(search), confirmations(search), "validation_accuracy")
    assert said[0].startswith(
        "Confirmed on 6 fresh seeds: the configuration (optimizer.lr 0.2) has a median gap of +5.00 pp"
    )
    assert said[1].startswith("There archetype is as good as at its best in the search, which is not confirmed; to ")
    assert len(said) == 2


def test_the_newest_confirmation_with_results_speaks(search, confirm):
    confirm("a-late-one", "2026-03-01", aaaaaaaa=(0.1, 0.1, 0.1))
    confirm("b-early-one", "2026-01-01", aaaaaaaa=HELD)
    confirm("c-later-one", "2026-04-01", aaaaaaaa=())
    found = confirmations(search)
    assert [study.name for study in found] == ["b-early-one", "a-late-one", "c-later-one"]
    assert "a median gap of +10.00 pp" in claims(load(search), found, "validation_accuracy")[0]


def test_a_confirmation_speaks_for_itself(search, confirm, tmp_path):
    folder = confirm(aaaaaaaa=HELD)
    study = load(folder)
    assert is_confirmation(study)
    assert not is_confirmation(load(search))
    assert searched_in(study).name == "quick"
    said = claims(study, [], "validation_accuracy")
    assert "the search's best configuration (optimizer.lr 0.1)" in said[0]
    assert said[-1] == "This study confirms 1 configuration of quick on fresh seeds."
    alone = load(shutil.copytree(folder, tmp_path / "alone"))
    assert searched_in(alone) is None
    said = claims(alone, [], "validation_accuracy")
    assert "the search's best configuration (aaaaaaaa) has a median gap of +5.00 pp" in said[0]
    assert "the search had found +20.00 pp" in said[0]


def test_without_a_confirmation_nothing_is_claimed(search):
    assert confirmations(search) == []
    assert claims(load(search), [], "test_accuracy") == []


def test_the_best_gap_of_a_search_is_said_to_be_unconfirmed(search):
    study = load(search)
    assert unconfirmed(study) == [
        f"The best gap of this search is not confirmed on fresh seeds; to do so: filter-study confirm {search}"
    ]
    assert unconfirmed(replace(study, path=search / "a b"))[0].endswith(f"filter-study confirm '{search}/a b'")


@pytest.mark.parametrize(
    "experiment", ["search: {name: grid}", "search: {name: points}", "", "search", "a: [", "[" * 3000]
)
def test_where_nothing_was_searched_nothing_needs_confirming(search, experiment):
    assert unconfirmed(replace(load(search), experiment=experiment)) == []


def test_one_comparison_is_the_best_of_none(search):
    study = load(search)
    assert unconfirmed(replace(study, trials=study.trials.head(1))) == []
    assert unconfirmed(replace(study, trials=study.trials.assign(status="failed"))) == []


# ------------------------------------------------------------------------------------------------- each arm at its best

ROLES = {"aaaaaaaa": [WINNER], "bbbbbbbb": [BEST["baseline"]], "cccccccc": [BEST["treatment"]]}
A = [(0.50, 0.88), (0.52, 0.90), (0.48, 0.86)] * 2
B = [(0.90, 0.80), (0.92, 0.80), (0.91, 0.80)] * 2
WORSE = [(0.80, 0.90), (0.80, 0.91), (0.80, 0.89)] * 2
BETTER = [(0.80, 0.93), (0.80, 0.955), (0.80, 0.94)] * 2


def test_a_win_that_the_tuned_comparison_undoes_is_not_quoted_first_and_did_not_hold(untuned, confirm_arms):
    confirm_arms(ROLES, aaaaaaaa=A, bbbbbbbb=B, cccccccc=WORSE)
    assert claims(load(untuned), confirmations(untuned), "validation_accuracy") == [
        "Confirmed on 6 fresh seeds, each arm at its own best configuration of this problem: a median gap of −1.00 pp "
        "in validation accuracy (95% interval from −2.00 pp to 0.00 pp, which includes 0).",
        "The gap at the search's best configuration (optimizer.lr 0.1) does not stand against that: there archetype is "
        "40.00 pp behind its best on the same seeds, and the median gap is +38.00 pp in validation accuracy (95% "
        "interval from +38.00 pp to +38.00 pp, which leaves out 0); the search had found +38.00 pp.",
    ]


def test_a_win_that_the_tuned_comparison_bears_out_comes_second_with_its_standing(untuned, confirm_arms):
    confirm_arms(ROLES, aaaaaaaa=[(b - 0.01, t) for b, t in A], bbbbbbbb=B, cccccccc=BETTER)
    first, second = claims(load(untuned), confirmations(untuned), "validation_accuracy")
    assert "each arm at its own best configuration of this problem: a median gap of +3.00 pp" in first
    assert "from +3.00 pp to +3.50 pp, which leaves out 0)" in first
    assert second.startswith(
        "At the search's best configuration (optimizer.lr 0.1) archetype is 41.00 pp behind its best on the same "
        "seeds, and the median gap is +39.00 pp"
    )
    assert second.endswith("; the search had found +38.00 pp, which held.")


@pytest.mark.parametrize(
    ("baseline", "treatment", "undone"),
    [
        ([(0.9, 0.8)] * 6, [(0.8, 0.95)] * 6, False),
        ([(0.9, 0.8)] * 6, [(0.8, 0.85)] * 6, True),  # the sign turns
        ([(0.9, 0.8)] * 6, [(0.8, 0.90), (0.8, 0.95), (0.8, 0.89)] * 2, True),  # 0 is in the interval
        ([(0.9, 0.8)] * 2, [(0.8, 0.91)] * 2, False),  # no interval: the sign decides
        ([(0.9, 0.8)] * 2, [(0.8, 0.89)] * 2, True),
        ([None] * 6, [(0.8, 0.99)] * 6, True),  # the best baseline has no result
    ],
)
def test_what_undoes_a_win(untuned, confirm_arms, baseline, treatment, undone):
    confirm_arms(ROLES, aaaaaaaa=[(0.5, 0.9)] * len(baseline), bbbbbbbb=baseline, cccccccc=treatment)
    said = claims(load(untuned), confirmations(untuned), "validation_accuracy")
    assert "which held" not in said[0]
    assert ("which held" not in said[1]) is undone
    assert said[0].startswith("Not confirmed" if baseline == [None] * 6 else "Confirmed on ")
    assert "at its own best" in said[0]


def test_the_best_baseline_at_the_winners_configuration_is_said_to_be_that(untuned, confirm_arms):
    roles = {"bbbbbbbb": [WINNER, BEST["baseline"]], "cccccccc": [BEST["treatment"]]}
    confirm_arms(roles, bbbbbbbb=[(0.9, 0.95)] * 6, cccccccc=[(0.8, 0.96)] * 6)
    said = claims(load(untuned), confirmations(untuned), "validation_accuracy")
    assert "optimizer.lr 0.2) archetype is at its best on the same seeds, and the median gap is +5.00 pp" in said[1]


def test_of_what_is_best_for_each_arm_one_gap_is_both(untuned, confirm_arms):
    confirm_arms({"bbbbbbbb": [WINNER, *BEST.values()]}, bbbbbbbb=[(0.9, 0.95)] * 6)
    first, second = claims(load(untuned), confirmations(untuned), "validation_accuracy")
    assert first.startswith(
        "Confirmed on 6 fresh seeds: the search's best configuration (optimizer.lr 0.2) has a median gap"
    )
    assert second == "It is the best configuration of its problem for each arm."


def test_another_metric_is_quoted_tuned_first_as_well(untuned, confirm_arms):
    confirm_arms(ROLES, aaaaaaaa=A, bbbbbbbb=B, cccccccc=WORSE)
    also = claims(load(untuned), confirmations(untuned), "test_accuracy")[2]
    assert also.startswith(
        "With each arm at its own best the median gap is −2.00 pp in test accuracy (95% interval from"
    )
    assert "at that configuration alone it is +76.00 pp in test accuracy" in also
    assert "which held" not in also


def test_winners_over_untuned_baselines_are_counted(untuned, confirm_arms):
    roles = {"aaaaaaaa": [WINNER], "cccccccc": [WINNER, BEST["treatment"]], "bbbbbbbb": [BEST["baseline"]]}
    confirm_arms(roles, aaaaaaaa=A, cccccccc=BETTER, bbbbbbbb=B)
    last = claims(load(untuned), confirmations(untuned), "validation_accuracy")[-1]
    assert last.startswith("Of 2 winners with results, the whole interval lies above 0 for 2 and below 0 for 0")
    assert "1 of their wins is over an untuned baseline" in last


def test_fresh_seeds_without_a_gap_are_said(untuned, confirm_arms):
    confirm_arms(ROLES, aaaaaaaa=[(0.4, 0.9), None, *[(0.4, 0.9)] * 4], bbbbbbbb=B, cccccccc=BETTER)
    said = claims(load(untuned), confirmations(untuned), "validation_accuracy")
    assert "1 of its 6 fresh seeds has no gap" in said[2]
    assert not any("which held" in line for line in said)


def test_a_win_does_not_hold_where_a_tuned_arm_has_no_result_on_a_seed(untuned, confirm_arms):
    confirm_arms(ROLES, aaaaaaaa=[(0.4, 0.9)] * 6, bbbbbbbb=B, cccccccc=[BETTER[0], None, *BETTER[2:]])
    said = claims(load(untuned), confirmations(untuned), "validation_accuracy")
    assert said[0].startswith("Confirmed on 5 of 6 fresh seeds (on the others one of the two has no result), each arm")
    assert not any("which held" in line for line in said)


def test_an_earlier_confirmation_says_how_its_baseline_stands_in_the_search(untuned, confirm_arms):
    confirm_arms({}, aaaaaaaa=A)
    assert claims(load(untuned), confirmations(untuned), "validation_accuracy") == [
        "The gap at the search's best configuration (optimizer.lr 0.1) is one over an untuned baseline: archetype is "
        "there 40.00 pp behind its best in the search, which is not confirmed; to confirm each arm at its best: "
        f"filter-study confirm {untuned}",
        "At this configuration alone the median gap on 6 fresh seeds is +38.00 pp in validation accuracy (95% interval "
        "from +38.00 pp to +38.00 pp, which leaves out 0); the search had found +38.00 pp.",
    ]


def test_an_earlier_confirmation_without_its_search_holds_nothing(untuned, confirm_arms, tmp_path):
    folder = confirm_arms({}, aaaaaaaa=[(0.4, 0.9)] * 6)
    said = claims(load(shutil.copytree(folder, tmp_path / "alone")), [], "validation_accuracy")
    assert "a median gap of +50.00 pp" in said[0]
    assert said[0].endswith("the search had found +38.00 pp.")
    assert said[1] == "How archetype stands there against its best in the search is not known."
