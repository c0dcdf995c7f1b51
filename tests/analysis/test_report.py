import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from comparisons import frame_of
from landscape import made_up

from analysis import findings
from analysis.load import TableError, load
from analysis.pairs import pair
from analysis.report import extremes, flat, key_numbers, question, stands, write
from analysis.sources import combine

SIDES = {"archetype": [0.1, 0.6, 0.8], "filtered": [0.1, 0.7, 0.9]}
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The text, the tags, the links, the identifiers and the charts of a page; fails where tags do not match."""

    def __init__(self, source):
        super().__init__()
        self.open, self.links, self.tags, self.text, self.ids, self.plots = [], [], [], [], [], {}
        self.data = ""
        self.feed(source)
        assert self.open == []
        assert max(Counter(self.ids).values()) == 1
        assert set(self.plots) == set(json.loads(self.data)["charts"])

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("src", "href", "srcset", "action", "data") if name in values]
        if "data-chart" in values:
            assert values["role"] == "img"
            self.plots[values["data-chart"]] = values["aria-label"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)
        if self.ids and self.ids[-1] == "figures" and self.open[-1] == "script":
            self.data = self.data or data


def page(study, folder):
    path = write(study, folder, stills=False)
    assert path == folder / "report.html"
    return Page(path.read_text())


def words(parsed):
    return " ".join(" ".join(parsed.text).split())


@pytest.fixture(scope="module")
def full(mixed, tmp_path_factory):
    """A page with something in every section; its path."""
    manifest = {"git": {"revision": "abc123", "dirty": False}, "gpus": [], "command": "run <quick>"}
    study = replace(mixed, manifest=manifest, experiment="name: <b>quick</b>\nsee: https://example.org\n")
    return write(study, tmp_path_factory.mktemp("report"), stills=False)


SECTIONS = (
    "Does filtered win, and where?",
    "How sure is that?",
    "Is it the method, or just fewer samples?",
    "The same configuration, or each at its best?",
    "Which settings drive the gap?",
    "Which is faster?",
    "Does it overfit less?",
    "How does the filter behave?",
    "What are the trade-offs?",
)


@pytest.mark.slow
def test_a_page_has_its_sections_in_order(full):
    parsed = Page(full.read_text())
    text = words(parsed)
    expected = [
        "Does filtered beat archetype",
        "Measured by test accuracy after equally many passes over the data",
        "The answers at a glance",
        *SECTIONS,
        "Key numbers",
        "1. Does filtered win, and where?",
        "Gaps at the last epoch",
        "Gaps at each arm's best epoch",
        "At equal clocks",
        "Gap in test accuracy of all trials that reached an epoch",
        "Gap in test accuracy by optimizer.lr",
        *(f"{place}. {section}" for place, section in enumerate(SECTIONS[1:], 2)),
        "All comparisons",
        "Best comparison by validation accuracy gap",
        "Worst comparison by validation accuracy gap",
        "Trials left out",
        "RuntimeError: <script>alert(1)</script>",
        "abc123",
        "name: <b>quick</b>",
    ]
    places = [0]
    for section in expected:
        assert section in text[places[-1] :], section
        places.append(text.index(section, places[-1]))
    assert parsed.tags.count("h1") == 1
    assert parsed.tags.count("script") == 3


@pytest.mark.slow
def test_what_is_linked_on_a_page_is_there(full):
    parsed = Page(full.read_text())
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    sections = re.findall(r'<section (?:class="[a-z -]+" )?id="([a-z-]+)"', full.read_text())
    assert sections[:3] == ["verdict", "numbers", "where"]
    assert sections[-5:] == ["comparisons", "best-comparison", "worst-comparison", "health", "provenance"]
    assert len(sections) == 2 + 9 + 5


@pytest.mark.slow
def test_a_page_needs_nothing_else(full):
    source = full.read_text()
    assert all(link.startswith(("data:", "#")) for link in Page(source).links)
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in source


@pytest.mark.slow
def test_charts_say_in_words_what_they_show(full):
    plots = Page(full.read_text()).plots
    assert len(plots) > 60
    assert plots["gaps-test_accuracy"] == (
        "Gaps of 3 comparisons in test accuracy, a dot each, from −5.00 pp to +10.00 pp; the median is 0.00 pp. Right "
        "of 0 the treatment is better."
    )
    assert all(any(digit in text for digit in "0123456789") for text in plots.values())


@pytest.mark.slow
def test_figures_and_tables_for_print_lie_beside_the_page(mixed, tmp_path):
    write(mixed, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures", "report.html"]
    names = {file.name for file in (tmp_path / "figures").iterdir()}
    pictures = {"gaps.png", "gaps-by-hyperparameter.png", "trial-0-epochs.png", "trial-1-epochs.png"}
    assert pictures | {name.replace("png", "pdf") for name in pictures} <= names
    assert {"table-gaps.tex", "table-gaps.md", "table-thesis.tex", "table-thesis.md"} <= names
    assert "test accuracy" in (tmp_path / "figures" / "table-gaps.tex").read_text()


@pytest.mark.slow
def test_the_same_study_gives_the_same_page(mixed, full, tmp_path):
    again = write(mixed, tmp_path / "again", stills=False).read_text()
    assert again == write(mixed, tmp_path / "more", stills=False).read_text()
    assert again != full.read_text()  # which has a manifest


@pytest.mark.slow
def test_every_way_to_pair_is_worked_out_once(monkeypatch, tmp_path):
    asked = []

    def counting(study, **ways):
        asked.append(tuple(ways.items()))
        return pair(study, **ways)

    monkeypatch.setattr(findings, "pair", counting)
    write(made_up(4, 1, epochs=3), tmp_path, stills=False)
    assert len(asked) == len(set(asked)) == 8  # final, best, four clocks, and the control on either side


def test_a_study_without_trials(study, tmp_path):
    text = words(page(study(), tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert "No comparison can be judged by test accuracy, so there is no verdict." in text
    assert "The study has no trials yet." in text
    assert "There is no manifest beside the tables." in text


def test_a_study_with_no_finished_comparison(study, trial, tmp_path):
    loaded = study(
        trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}, status="stopped"),
        trial(1, {}, status="failed", error="out of memory"),
    )
    text = words(page(loaded, tmp_path))
    assert "2 trials could not be counted" in text
    assert "No comparison has finished with both arms, so there are no final gaps." in text
    assert "+10.00 pp" in text  # at epoch 1, where the stopped trial counts
    assert "out of memory" in text


@pytest.mark.slow
def test_a_study_with_one_comparison(study, trial, tmp_path):
    parsed = page(study(trial(0, SIDES)), tmp_path)
    text = words(parsed)
    assert "1 comparison: too few to tell which arm is better; a 95% interval of the median takes 6." in text
    assert "The only comparison by validation accuracy gap" in text
    assert "No hyperparameter varies" in text
    assert {"gaps-test_accuracy", "the_only_comparison-epochs-test_accuracy"} <= set(parsed.plots)


@pytest.mark.slow
def test_a_study_without_validation(study, trial, tmp_path):
    changes = {(arm, epoch): {"validation_accuracy": None} for arm in SIDES for epoch in range(3)}
    rates = [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}]
    trials = [trial(n, SIDES, changes=changes, config=config) for n, config in enumerate(rates)]
    text = words(page(study(*trials), tmp_path))
    assert "Best comparison by test accuracy gap" in text
    assert "chosen on training accuracy, as nothing is held out" in text
    assert "best of 2 configurations" in text
    assert "validation accuracy" not in text


@pytest.mark.slow
def test_more_arms_than_two(study, trial, tmp_path):
    loaded = study(trial(0, SIDES | {"control": [0.1, 0.5, 0.95]}))
    text = words(page(loaded, tmp_path))
    assert "Not known: none of the arms picks its samples at random. filtered wins against control in 0%" in text
    assert "add to the experiment: arms.random: {selector: {name: random, like: filtered}}" in text
    assert "−5.00 pp" in text
    rows = Page((tmp_path / "report.html").read_text()).text
    assert "control" in rows


@pytest.mark.slow
def test_values_from_the_study_are_text(study, trial, tmp_path):
    configs = [{"optimizer.name": "<script>alert(1)</script>"}, {"optimizer.name": "<img src=http://example.org>"}]
    parsed = page(study(*(trial(n, SIDES, config=config) for n, config in enumerate(configs))), tmp_path)
    assert parsed.tags.count("script") == 3
    assert "img" not in parsed.tags
    assert "<script>alert(1)</script>" in words(parsed)
    assert all(link.startswith(("data:", "#")) for link in parsed.links)


@pytest.mark.slow
def test_what_is_damaged_is_said(mixed, tmp_path):
    damaged = replace(mixed, damage=("study.sqlite: 14 rows of table epochs cannot be read",))
    text = words(page(damaged, tmp_path / "damaged"))
    assert "Part of the record is damaged and left out; see Run health." in text
    assert text.index("Run health Part of the record is damaged") < text.index("14 rows of table epochs cannot be read")
    assert "damaged" not in words(page(mixed, tmp_path / "sound"))


def test_why_trials_were_stopped_is_no_error(study, trial, tmp_path):
    reasons = ["dead: after epoch 1", "dead: after epoch 1", "asha, rung 3", None]
    trials = [trial(n, SIDES, status="stopped", error=reason) for n, reason in enumerate(reasons)]
    text = words(page(study(*trials), tmp_path))
    assert "No trial left an error." in text
    assert "Why trials were stopped Reason Trials dead: after epoch 1 2 asha, rung 3 1" in text


@pytest.fixture
def searched(trial, database, tmp_path):
    """The folder of a search with gaps of +20 and +10 pp, and a function that confirms the first on fresh seeds."""
    winner = trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.7]}, configuration="aaaaaaaa")
    second = trial(1, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}, config={"optimizer.lr": 0.2})
    folder = database(tmp_path / "search", [winner, second])
    (folder / "experiment.yaml").write_text("search: {name: optuna}")

    def confirm():
        ends = (0.54, 0.55, 0.56, 0.56, 0.57, 0.58)
        trials = [
            trial(
                n,
                {"archetype": [0.1, 0.5], "filtered": [0.1, end]},
                config={"seed": 100 + n},
                configuration="aaaaaaaa",
            )
            for n, end in enumerate(ends)
        ]
        origin = {"aaaaaaaa": {"searched": 0.2, "trials": ["trial0"]}}
        confirms = {"study": "search", "configurations": origin, "metric": "gap/validation_accuracy"}
        to = database(folder / "confirmations" / "top-1", trials)
        (to / "manifest.json").write_text(json.dumps({"confirms": confirms}))
        return to

    return folder, confirm


@pytest.mark.slow
def test_a_search_is_unconfirmed_until_it_is_confirmed(searched, tmp_path):
    folder, confirm = searched
    text = words(page(load(folder), tmp_path / "before"))
    assert f"not confirmed on fresh seeds; to do so: filter-study confirm {folder}" in text
    assert "Confirmation" not in text
    confirm()
    text = words(page(load(folder), tmp_path / "after"))
    claim = (
        "Confirmed on 6 fresh seeds: the search's best configuration (optimizer.lr 0.1) has a median gap of +6.00 pp"
    )
    assert text.index(claim) < text.index("Measured by test accuracy")
    assert "the search had found +20.00 pp, 70% of which did not hold" in text
    assert "not confirmed on fresh seeds" not in text
    heads = (
        "Configuration optimizer.lr Role Searched gap Seeds Confirmed median gap 95% interval of the median "
        "Leaves out 0 Its baseline, against the best Tuned median gap of its problem "
        "95% interval of the tuned median gap"
    )
    roles = "winner, best baseline, best treatment"  # which the search says, for an earlier version confirmed it
    row = f"aaaaaaaa 0.1 {roles} +20.00 pp 6 +6.00 pp +4.00 to +8.00 pp yes 0.00 pp – –"
    for metric in ("validation accuracy", "test accuracy"):
        assert f"Gap in {metric}, searched and confirmed (top-1) {heads} {row}" in text


@pytest.mark.slow
def test_a_confirmation_has_a_report_of_its_own(searched, tmp_path):
    folder = searched[1]()
    text = words(page(load(folder), tmp_path / "one"))
    assert "This study confirms 1 configuration of search on fresh seeds." in text
    assert "best treatment +20.00 pp 6 +6.00 pp +4.00 to +8.00 pp yes 0.00 pp" in text
    alone = shutil.copytree(folder, tmp_path / "alone")
    text = words(page(load(alone), tmp_path / "two"))
    assert "the search's best configuration (aaaaaaaa) has a median gap of +6.00 pp" in text
    assert "aaaaaaaa winner +20.00 pp 6 +6.00 pp +4.00 to +8.00 pp yes – – –" in text


@pytest.mark.slow
def test_a_damaged_confirmation_does_not_cost_the_report(searched, tmp_path):
    folder = searched[0]
    (folder / "confirmations" / "cut").mkdir(parents=True)
    (folder / "confirmations" / "cut" / "study.sqlite").write_bytes(b"SQLite format 3")
    text = words(page(load(folder), tmp_path))
    assert "confirmation cut: " in text
    assert "not confirmed on fresh seeds" in text


@pytest.mark.slow
def test_every_question_has_an_answer(tmp_path):
    parsed = page(made_up(), tmp_path)
    text = words(parsed)
    glance = text[text.index("The answers at a glance") : text.index("Key numbers")]
    answers = (
        "filtered beats archetype in",
        "the median gap's 95% interval is",
        "filtered wins against random in",
        "Each at its own best, filtered is ahead of archetype in",
        "Most of all optimizer.lr (",
        "test accuracy, filtered takes",
        "Test over train, the ratio of filtered is",
        "of what it probes in epoch 1 and",
        "of 24 configurations filtered gains accuracy and worst loss and saves compute at once",
    )
    assert [answer for answer in answers if answer not in glance] == []
    drawn = ("clocks", "improvement", "controls", "plane-random", "standings", "importance-fanova", "ratios")
    drawn += ("best-of-n-0", "behaviour-acceptance", "updates-overflow", "tradeoff-loss", "tradeoff-compute")
    assert [name for name in drawn if name not in parsed.plots] == []
    assert {name.partition("-")[0] for name in parsed.plots} >= {"gaps", "map", "reached", "ratio", "best_comparison"}


@pytest.mark.slow
def test_what_was_not_recorded_is_said_with_its_remedy(tmp_path):
    study = made_up(12, 1, epochs=4, arms=("archetype", "filtered"), traced=False)
    unmeasured = ("acceptance", "raw_batches", "samples_probed", "cumulative_compute", "cumulative_seconds")
    epochs = study.epochs.assign(**{name: study.epochs[name].mask(study.epochs["epoch"] >= 0) for name in unmeasured})
    text = words(page(replace(study, epochs=epochs), tmp_path))
    assert "Not known: no control arm was run. No control arm was run, so it is not known" in text
    assert "add to the experiment: arms.random: {selector: {name: random, like: filtered}}" in text
    assert "Importances need at least 20 configurations" in text
    assert "Not recorded: no arm probes. No arm probes its samples" in text
    assert "Compute was not recorded" in text
    text = words(page(made_up(12, 1, epochs=4, traced=False), tmp_path))
    assert "run the experiment with trace: true" in text


@pytest.mark.slow
def test_several_studies_are_told_apart(tmp_path):
    studies = [replace(made_up(6, 1, epochs=3), name=name) for name in ("first", "second")]
    other = made_up(8, 1, epochs=3)
    studies[1] = replace(other, name="second", trials=other.trials.assign(**{"optimizer.lr": 0.5}))
    parsed = page(combine(studies), tmp_path)
    text = words(parsed)
    assert "at the same configuration, and where? 2 studies, read together." in text
    assert text.index("Gap in test accuracy by study") < text.index("Gap in test accuracy by dataset")
    assert "Trial Status Baseline Treatment Gap study" in text
    assert "gaps-test_accuracy-study" in parsed.plots


@pytest.mark.slow
def test_ten_thousand_comparisons_make_a_page_of_a_few_megabytes(tmp_path):
    path = write(made_up(5000, 2, epochs=6, traced=False), tmp_path, stills=False)
    assert path.stat().st_size < 6e6
    parsed = Page(path.read_text())
    text = words(parsed)
    assert "1,000 of 10,000 rows shown, at even distances; all are in the exported tables." in text
    assert "1,000 of 10,000 comparisons shown, drawn at random." in text
    assert "Gaps of 10,000 comparisons in test accuracy" in parsed.plots["gaps-test_accuracy"]
    lengths = [len(column) for data in json.loads(parsed.data)["data"].values() for column in data.values()]
    assert max(lengths) <= 1000


@pytest.mark.slow
def test_many_errors_are_told_in_part(study, trial, tmp_path):
    trials = [trial(n, {}, status="failed", error=f"error {n} " + "x" * 5000) for n in range(150)]
    path = write(study(*trials), tmp_path, stills=False)
    text = words(Page(path.read_text()))
    assert "100 of 150 rows shown" in text
    assert text.count("error 149 ") == 1


def test_an_unwritable_folder_is_named(mixed, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match=r"cannot write the report to .*file.*can be written to"):
        write(mixed, tmp_path / "file")


def test_the_best_comparison_has_a_baseline_that_learned(study, trial):
    loaded = study(
        trial(0, {"archetype": [0.1, 0.1], "filtered": [0.1, 0.9]}),
        trial(1, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}),
        trial(2, {"archetype": [0.1, 0.6], "filtered": [0.1, 0.5]}),
    )
    frame = pair(loaded).frame
    assert extremes(frame) == {
        "Best comparison": ("trial1", "validation_accuracy"),
        "Worst comparison": ("trial2", "validation_accuracy"),
    }
    assert extremes(frame.iloc[:1]) == {"The only comparison": ("trial0", "validation_accuracy")}
    assert extremes(frame.iloc[:0]) == {}


def test_key_numbers(mixed):
    assert key_numbers(mixed) == {
        "comparisons": "9",
        "running": "1",
        "finished": "4",
        "stopped": "1",
        "diverged": "1",
        "failed": "1",
        "interrupted": "1",
        "epochs trained, every arm": "10",  # 4 of 2, the stopped and the diverged of 1
        "epochs saved by early stopping": "9",  # 10 were due, 1 was trained
        "time of all trials": "9 min 0 s",
        "from first start to last end": "14 min 20 s",
    }


def test_a_manifest_is_flattened():
    manifest = {"git": {"dirty": False}, "gpus": ["a", "b"], "none": None, "empty": {}}
    assert dict(flat(manifest)) == {"git.dirty": "False", "gpus": "a, b", "none": "none", "empty": "none"}


def test_the_question_names_the_arms(mixed, study):
    assert question(mixed.trials) == "Does filtered beat archetype at the same configuration, and where?"
    assert question(study().trials) == "Does the treatment beat the baseline at the same configuration, and where?"


def test_an_example_says_how_it_stands_and_where_its_baseline_is_at_its_best():
    frame = frame_of((0.9, 0.8), (0.5, 0.6), configs=[{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}])
    assert stands(frame, "trial1", "test_accuracy") == (
        "in test accuracy won over an untuned baseline; its baseline is at its best in trial 0"
    )
    assert stands(frame, "trial0", "test_accuracy").startswith("in test accuracy lost; ")


def test_among_many_arms_those_that_select_at_random_say_whether_it_is_the_method(trial, study, tmp_path):
    names = ("archetype", "filtered", "a", "b", "c", "d", "e", "uniform")
    arms = {name: [0.1, 0.5 + place / 100] for place, name in enumerate(names)}
    trials = [
        trial(number, arms, config={"arms.uniform.selector.name": "random", "seed": number}) for number in range(3)
    ]
    loaded = study(*trials)
    assert [*findings.find(loaded, 0).others] == ["uniform", "a", "b", "c"]
    text = words(page(loaded, tmp_path))
    assert "filtered wins against uniform in 0% of 3 comparisons" in text
    assert "none of the arms picks its samples at random" not in text
    assert "wins against a in" not in text
