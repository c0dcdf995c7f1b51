"""Every number that docs/published.md tells is computed here and looked for in its text."""

from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from analysis.gaps import amount
from analysis.pairs import pair
from analysis.published import APPENDIX, FIGURES, FOLDER, tables, thesis

CONFIGURED = (
    "dataset model batch_size optimizer lr gamma momentum lr_scheduler epochs weight_decay augmentation milestone"
)


@pytest.fixture(scope="module")
def printed():
    """Appendix II as it is printed: text, but for the figures."""
    frame = pd.read_csv(FOLDER / APPENDIX, dtype="string", keep_default_na=False).set_index("row", drop=False)
    return frame.astype(dict.fromkeys(FIGURES, "float64"))


@pytest.fixture(scope="module")
def gaps():
    return pair(thesis()).frame.set_index("trial_id", drop=False)


def flags(frame):
    return frame["batch_filtering"] + frame["epoch_filtering"]


@pytest.fixture(scope="module")
def page():
    text = (Path(__file__).parents[2] / "docs" / "published.md").read_text(encoding="utf-8")
    return " ".join(text.split())


def points(gap):
    return amount("test_accuracy", gap)


def test_page_tells_the_summary(page, gaps):
    assert f"{len(gaps)} of these have one archetype and one batchwise row" in page
    assert f"the others are {len(thesis().trials)} configurations" in page
    for name in ("accuracy", "mean loss", "q90 loss", "worst loss"):
        metric = f"test_{name.replace(' ', '_')}"
        gap = gaps[f"gap/{metric}"]
        ties = int((gap == 0).sum())
        tied = f" ({ties} tied)" if ties else ""
        assert f"| {name} | {(gap > 0).sum()} of 68{tied} | {amount(metric, gap.median())} |" in page
    won = gaps["gap/test_accuracy"] > 0

    def share(key, value):
        return f"{won[gaps[key] == value].sum()} of {(gaps[key] == value).sum()}"

    assert (
        f"wins {share('dataset.name', 'cifar10')} on CIFAR-10, {share('dataset.name', 'cifar100')} on CIFAR-100 and "
        f"{share('dataset.name', 'mnist')} on MNIST; {share('schedule.name', 'exponential')} with the exponential "
        f"schedule, {share('schedule.name', 'multistep')} with multistep, {share('schedule.name', 'none')} without a "
        "schedule"
    ) in page
    free = gaps[gaps["optimizer.weight_decay"] == 0]
    worst = free["gap/test_worst_loss"]
    assert f"grows to {free['baseline/test_worst_loss'].max():.3f} nats" in page
    median = amount("test_worst_loss", worst.median())
    assert f"{(worst > 0).sum()} of {len(free)} won there, with a median of {median}" in page


def test_page_tells_the_wins(page, gaps, printed):
    won = gaps[gaps["gap/test_accuracy"] > 0].sort_values("gap/test_accuracy", ascending=False)
    assert page.count("epochs | 0.") == len(won)
    for row in won.itertuples():
        one = gaps.loc[row.Index]
        baseline = int(row.Index.removeprefix("row"))
        alike = (printed[CONFIGURED.split()] == printed.loc[str(baseline), CONFIGURED.split()]).all(axis="columns")
        treatment = printed.loc[alike & (flags(printed) == "truefalse"), "row"].item()
        assert (
            f"| {baseline}, {treatment} | {one['dataset.name']}, {one['optimizer.name']}, batch size "
            f"{one['batch_size']}, {one['epochs']} epochs | "
            f"{one['baseline/train_accuracy']:.3f} | {one['baseline/test_accuracy']:.3f} | "
            f"{one['treatment/test_accuracy']:.3f} | {points(one['gap/test_accuracy'])} |"
        ) in page
    assert set(won["model.name"]) == {"ResNet18"}
    assert set(won["schedule.name"]) == {"none"}
    assert set(won["optimizer.weight_decay"]) == {0.001}
    assert set(won["optimizer.momentum"].dropna()) == {0.9}


def test_page_tells_what_the_wins_share(page, gaps, printed):
    dense = gaps["model.name"].str.startswith("FCNet")
    unfit = ~dense & (gaps["baseline/train_accuracy"] < 0.81)
    won = gaps["gap/test_accuracy"] > 0
    assert (
        f"Of the {(~dense).sum()} pairs of convolutional networks, {unfit.sum()} have an archetype with a training "
        f"accuracy below 0.81, and filtering wins {won[unfit].sum()} of them; it wins {won[~dense & ~unfit].sum()} of "
        f"the other {(~dense & ~unfit).sum()}."
    ) in page
    on_cifar = dense & gaps["dataset.name"].str.startswith("cifar")
    assert f"filtering wins {won[on_cifar].sum()} of their {on_cifar.sum()} pairs there" in page
    for data in ("cifar10", "cifar100"):
        fits = gaps.loc[gaps["dataset.name"] == data, "baseline/train_accuracy"]
        assert fits[dense].max() < fits[won].min()
    scheduled = {"row178": "row168", "row162": "row152", "row39": "row9"}
    keys = ["dataset.name", "model.name", "batch_size", "epochs", "optimizer.name", "optimizer.lr"]
    keys.append("optimizer.weight_decay")
    for plain, better in scheduled.items():
        assert gaps.loc[plain, keys].equals(gaps.loc[better, keys])
        reaches, instead = (gaps.loc[name, "baseline/test_accuracy"] for name in (better, plain))
        assert f"{reaches:.3f} (row {better[3:]}) instead of {instead:.3f}" in page
        assert reaches > gaps.loc[plain, "treatment/test_accuracy"]
        assert reaches > gaps.loc[better, "treatment/test_accuracy"]
    filtered = [f"{gaps.loc[name, 'treatment/test_accuracy']:.3f}" for name in scheduled.values()]
    assert f"({', '.join(filtered)})" in page
    others = gaps[won & ~gaps.index.isin(list(scheduled))]
    sizes = gaps[(gaps["dataset.name"] == "cifar100") & gaps["batch_size"].isin(others["batch_size"])]
    assert set(sizes.loc[sizes["model.name"] == "ResNet18", "schedule.name"]) == {"none"}
    large = printed[
        (printed["dataset"] == "CIFAR100") & (printed["batch_size"] == "1024") & (printed["optimizer"] == "SGD")
    ]
    large = large[(flags(large) == "falsefalse") & (large["lr_scheduler"] != "none")]
    augmented = large.loc[large["augmentation"] == "true", "test_accuracy"]
    plain = large[large["augmentation"] == "false"]
    assert (
        f"with SGD, a schedule and augmentation reaches {augmented.min():.3f} to {augmented.max():.3f} on CIFAR-100 "
        f"({len(augmented)} rows), and {plain['test_accuracy'].item():.3f} without augmentation "
        f"(row {plain['row'].item()})"
    ) in page


def test_page_tells_of_the_tables(page, gaps):
    frame = pair(tables()).frame
    small, large = (frame[frame["table"] == table] for table in ("4.6", "4.8"))
    assert set(small["schedule.name"]) == {"exponential"}
    assert set(large["schedule.name"]) == {"none"}
    assert f"the {(large['gap/test_accuracy'] > 0).sum()} wins of {len(large)} in Table 4.8" in page
    assert f"Table 4.6 has {(small['gap/test_accuracy'] > 0).sum()} of {len(small)}" in page
    plain = gaps[(gaps["model.name"] == "ResNet18") & (gaps["schedule.name"] == "none") & (gaps["epochs"] == 300)]
    plain = plain[plain["optimizer.name"] == "SGD"].sort_values("batch_size")
    for data, text in (("cifar10", "CIFAR-10 has {}, {} and {} pp"), ("cifar100", "CIFAR-100 {}, {} and {} pp")):
        of = plain[plain["dataset.name"] == data]
        assert list(of["batch_size"]) == [16, 128, 512]
        assert text.format(*(points(gap).removesuffix(" pp") for gap in of["gap/test_accuracy"])) in page
    lenient = frame.set_index("trial_id").loc["table4.4-ResNet18-1024"]
    assert f"({points(lenient['gap/test_accuracy'])}) is over {lenient['baseline/test_accuracy']:.3f}" in page


def test_page_tells_of_what_is_left_out(page, printed):
    accuracy = printed["test_accuracy"]
    assert points(accuracy["108"] - accuracy["106"]) in page
    again = points(accuracy["109"] - accuracy["107"])
    assert (
        f"the other two rows of that configuration are {accuracy['107']:.3f} and {accuracy['109']:.3f}, {again}" in page
    )
    for one, others in ((106, (107, 108, 109)), (141, (142, 144))):  # the same printed configuration
        for other in others:
            assert (printed.loc[str(one), CONFIGURED.split()] == printed.loc[str(other), CONFIGURED.split()]).all()
    assert f"another row of the archetype has {accuracy['142']:.3f}" in page
    arms = thesis().epochs.groupby("trial_id")["arm"].value_counts().unstack(fill_value=0)
    single = arms[(arms <= 1).all(axis="columns")]
    no_archetype, no_batchwise = (single[arm] == 0 for arm in ("archetype", "batchwise"))
    assert not (no_archetype & no_batchwise).any()
    assert f"no archetype in {no_archetype.sum()}, no batchwise row in {no_batchwise.sum()}" in page
    unset = printed[printed["unlabelled_flag"] == "false"]
    assert list(unset["row"]) == [str(row) for row in range(184, 191)]
    across = [("185", "32"), ("186", "33"), ("187", "93"), ("110", "189"), ("190", "123")]
    for baseline, treatment in across:
        both = printed.loc[[baseline, treatment]]
        assert (both[CONFIGURED.split()].nunique() == 1).all()
        assert list(flags(both)) == ["falsefalse", "truefalse"]
    told = [points(accuracy[treatment] - accuracy[baseline]).removesuffix(" pp") for baseline, treatment in across]
    assert f"the gaps are {', '.join(told[:-1])} and {told[-1]} pp" in page
    assert f"{accuracy['189']:.3f} against {accuracy['110']:.3f}" in page
    assert f"(rows {', '.join(printed.loc[printed['lr'] == '0.000', 'row'])})" in page


def test_page_tells_which_rows_are_near_the_figures_of_section_4_4_7(page, printed):
    cifar = printed[printed["dataset"] == "CIFAR100"]
    near = {
        figure: cifar[(flags(cifar) == arm) & ((cifar["test_accuracy"] - figure).abs() < 0.0051)]
        for figure, arm in ((0.755, "falsefalse"), (0.755 - 0.053, "truefalse"))
    }
    found = [
        (baseline, treatment)
        for baseline, treatment in product(*(rows.itertuples() for rows in near.values()))
        if baseline.lr_scheduler == treatment.lr_scheduler
    ]
    assert [(one.row, other.row) for one, other in found] == [("107", "189"), ("119", "189")]
    assert "rows 107 and 189 (ResNet18) and rows 119 and 189 (SimpleDLA and ResNet18)" in page
    assert [one.model for one, _ in found] == ["ResNet18", "SimpleDLA"]
    assert {one.lr_scheduler for one, _ in found} == {"none"}
    assert {(one.epochs, other.epochs) for one, other in found} == {("300", "1000")}
    assert "Row 189 has 1000 epochs and the others 300" in page
