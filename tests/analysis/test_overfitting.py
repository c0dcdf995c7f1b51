import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.overfitting import RATIOS, ratios, summarize_ratios
from analysis.pairs import pair


def made(*comparisons, rates=(), metric="mean_loss"):
    """Pairs with these (baseline train, baseline test, treatment train, treatment test) values of one metric."""
    values = np.array(comparisons, dtype="float64").reshape(-1, 4)
    n = len(values)
    frame = {"trial_id": [f"t{place}" for place in range(n)], "number": range(n), "seed": range(n)}
    frame |= {"optimizer.lr": rates or [0.1] * n}
    for name in RATIOS:
        of = values if name == metric else np.full((n, 4), np.nan)
        frame |= {f"baseline/train_{name}": of[:, 0], f"baseline/test_{name}": of[:, 1]}
        frame |= {f"treatment/train_{name}": of[:, 2], f"treatment/test_{name}": of[:, 3]}
        frame[f"gap/test_{name}"] = of[:, 1] - of[:, 3]
    return pd.DataFrame(frame)


def row(frame, metric="mean_loss"):
    return summarize_ratios(frame).set_index("metric").loc[metric]


def test_ratios_of_a_study(study, trial):
    """In the fixture losses are 1 - accuracy on test and twice that on train, accuracies 0.02 more on train."""
    found = ratios(pair(study(trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.8]}))).frame)
    (one,) = found.to_dict("records")
    assert (one["trial_id"], one["number"]) == ("trial0", 0)
    assert one["baseline/accuracy"] == pytest.approx(0.5 / 0.52)
    assert one["treatment/accuracy"] == pytest.approx(0.8 / 0.82)
    for metric in ("mean_loss", "q90_loss", "worst_loss"):
        assert one[f"baseline/{metric}"] == one[f"treatment/{metric}"] == pytest.approx(0.5)


def test_a_ratio_needs_two_finite_values_and_a_training_value_above_0():
    found = ratios(made((0, 1, 2, 0), (math.nan, 1, 1, math.inf), (math.inf, 1, -0.0, 0)))
    assert found["baseline/mean_loss"].isna().all()
    assert found["treatment/mean_loss"].tolist() == pytest.approx([0, math.nan, math.nan], nan_ok=True)


def test_the_factor_is_a_median():
    """Ratios of 8 and 2, 2 and 2, 4 and 8: the factors are 1/4, 1 and 2."""
    found = row(made((1, 8, 1, 2), (1, 2, 2, 4), (1, 4, 1, 8)))
    assert (found["comparisons"], found["zeros"], found["units"]) == (3, 0, 3)
    assert (found["baseline"], found["treatment"]) == (4, 2)
    assert found["factor"] == pytest.approx(1)
    assert found[["factor_low", "factor_high", "p"]].isna().all()
    assert found["share"] == found["closer"] == 1.5 / 3
    assert found["closer_and_better"] == 1 / 3


def test_closer_to_1_is_not_smaller_and_no_merit_by_itself():
    """Once its ratio is 0.9 against 4, with a worse test loss; then it is 0.1 against 2, which is further from 1."""
    found = row(made((0.1, 0.4, 1, 0.9), (1, 2, 1, 0.1)))
    assert (found["share"], found["closer"], found["closer_and_better"]) == (1, 1 / 2, 0)
    assert row(made((1, 4, 1, 0.9)))["closer_and_better"] == 1


def test_a_ratio_and_its_inverse_are_equally_far_from_1():
    assert row(made((1, 4, 4, 1)))["closer"] == 0.5


def test_zeros_are_counted_and_left_out():
    found = row(made((0, 1, 1, 1), (1, 1, 1, 0), (1, 0, 1, 1), (1, 2, 1, 4), (math.nan, 0, 1, 1)))
    assert (found["comparisons"], found["zeros"]) == (1, 3)
    assert found["factor"] == pytest.approx(2)
    assert math.isnan(found["factor_low"])


def test_seeds_are_averaged():
    """Three rates; the first has three seeds, which together weigh as one of the others."""
    same = [(1, 1, 1, 8)] * 3
    found = row(made(*same, (1, 1, 1, 2), (1, 1, 1, 1), rates=[0.1, 0.1, 0.1, 0.2, 0.3]))
    assert (found["comparisons"], found["units"]) == (5, 3)
    assert found["factor"] == pytest.approx(2)


def test_six_that_agree_are_told_apart():
    found = row(made(*[(1, 4, 1, 4 / (2 + n)) for n in range(6)]))
    assert found["p"] == found["p_holm"] == pytest.approx(2 / 2**6)  # the other metrics are no tests: no values
    assert (found["factor_low"], found["factor_high"]) == (pytest.approx(1 / 7), pytest.approx(1 / 2))


def test_what_has_nothing_in_common_has_an_endless_factor():
    assert row(made((1, 1e-300, 1, 1e300)))["factor"] == math.inf


def test_nothing_measured_gives_rows_without_values(study, mixed):
    for frame in (pair(study()).frame, made(), made((math.nan,) * 4)):
        table = summarize_ratios(frame)
        assert table["metric"].tolist() == list(RATIOS)
        assert (table[["comparisons", "zeros", "units"]] == 0).all(axis=None)
        assert table.drop(columns=["metric", "comparisons", "zeros", "units"]).isna().all(axis=None)
    assert len(ratios(pair(study()).frame)) == 0
    assert summarize_ratios(pair(mixed).frame)["comparisons"].tolist() == [3] * 4


def test_one_comparison_has_a_factor_and_no_test():
    found = row(made((1, 2, 1, 1)))
    assert (found["factor"], found["share"]) == (pytest.approx(0.5), 1)
    assert found[["factor_low", "factor_high", "p", "p_holm"]].isna().all()


values = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])
comparisons = st.lists(st.tuples(values, values, values, values), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None)
@given(comparisons)
def test_swapping_the_arms_inverts_the_factor(given_values):
    swapped = [(c, d, a, b) for a, b, c, d in given_values]
    there, here = (row(made(*one)) for one in (given_values, swapped))
    logs = np.log(
        np.array(
            [
                [there["factor"], there["factor_low"], there["factor_high"]],
                [here["factor"], here["factor_high"], here["factor_low"]],
            ]
        )
    )
    np.testing.assert_allclose(logs[0], -logs[1], atol=1e-9)
    assert there["share"] == pytest.approx(1 - here["share"])
    assert there["closer"] == pytest.approx(1 - here["closer"])
    assert (there["baseline"], there["zeros"]) == (here["treatment"], here["zeros"])
    np.testing.assert_allclose(there["p"], here["p"])


@settings(max_examples=30, deadline=None)
@given(comparisons, st.randoms(use_true_random=False))
def test_the_order_of_comparisons_changes_nothing(given_values, order):
    shuffled = list(given_values)
    order.shuffle(shuffled)
    there, here = (row(made(*one)).astype(float) for one in (given_values, shuffled))
    np.testing.assert_allclose(there, here, atol=1e-9)
