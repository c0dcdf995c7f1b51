import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser

import pytest
from matplotlib.image import imread

from analysis.load import TableError, load
from analysis.pairs import pair
from analysis.report import extremes, flat, key_numbers, question, write

SIDES = {"archetype": [0.1, 0.6, 0.8], "filtered": [0.1, 0.7, 0.9]}
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The text, the tags and the links of a page; fails where tags do not match."""

    def __init__(self, source):
        super().__init__()
        self.open, self.links, self.images, self.tags, self.text = [], [], [], [], []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.links += [values[name] for name in ("src", "href", "srcset", "action", "data") if name in values]
        if tag == "img":
            self.images.append(values)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def page(study, folder):
    path = write(study, folder)
    assert path == folder / "report.html"
    return Page(path.read_text())


def words(parsed):
    return " ".join(" ".join(parsed.text).split())


@pytest.fixture(scope="module")
def full(mixed, tmp_path_factory):
    """A page with something in every section; its path."""
    manifest = {"git": {"revision": "abc123", "dirty": False}, "gpus": [], "command": "run <quick>"}
    study = replace(mixed, manifest=manifest, experiment="name: <b>quick</b>\nsee: https://example.org\n")
    return write(study, tmp_path_factory.mktemp("report"))


@pytest.mark.slow
def test_a_page_has_its_sections_in_order(full):
    parsed = Page(full.read_text())
    text = words(parsed)
    sections = [
        "Does filtered beat archetype",
        "Measured by test accuracy at equal epochs",
        "Key numbers",
        "Gaps at the last epoch",
        "At equal clocks",
        "Each arm at its own best hyperparameters within a cell",
        "Gap in test accuracy of all trials that reached an epoch",
        "Gaps by hyperparameter",
        "All comparisons",
        "Best comparison by validation accuracy gap",
        "Worst comparison by validation accuracy gap",
        "Trials left out",
        "RuntimeError: <script>alert(1)</script>",
        "abc123",
        "name: <b>quick</b>",
    ]
    places = [text.index(section) for section in sections]
    assert places == sorted(places)
    assert parsed.tags.count("h1") == 1
    assert "script" not in parsed.tags


@pytest.mark.slow
def test_a_page_needs_nothing_else(full):
    source = full.read_text()
    assert all(link.startswith("data:") for link in Page(source).links)
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.slow
def test_pictures_are_on_the_page_and_beside_it(full):
    images = Page(full.read_text()).images
    assert len(images) == len(list((full.parent / "figures").iterdir())) == 4
    assert all(image["src"].startswith("data:image/png;base64,iVBOR") and len(image["alt"]) > 20 for image in images)
    assert sorted(file.name for file in full.parent.iterdir()) == ["figures", "report.html"]


@pytest.mark.slow
def test_the_same_study_gives_the_same_page(mixed, full, tmp_path):
    again = write(mixed, tmp_path / "again").read_text()
    assert again == write(mixed, tmp_path / "more").read_text()
    assert again != full.read_text()  # which has a manifest


def test_a_study_without_trials(study, tmp_path):
    text = words(page(study(), tmp_path))
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
    assert "1 comparison: too few to tell which arm is better." in text
    assert "The only comparison by validation accuracy gap" in text
    assert "No hyperparameter varies" in text
    assert len(parsed.images) == 2


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
    assert "Against the other arms" in text
    assert "−5.00 pp" in text
    rows = Page((tmp_path / "report.html").read_text()).text
    assert "control" in rows


@pytest.mark.slow
def test_values_from_the_study_are_text(study, trial, tmp_path):
    configs = [{"optimizer.name": "<script>alert(1)</script>"}, {"optimizer.name": "<img src=http://example.org>"}]
    parsed = page(study(*(trial(n, SIDES, config=config) for n, config in enumerate(configs))), tmp_path)
    assert "script" not in parsed.tags
    assert "<script>alert(1)</script>" in words(parsed)
    assert all(link.startswith("data:") for link in parsed.links)


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
        ends = (0.55, 0.56, 0.57)
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
    claim = "Confirmed on 3 fresh seeds: the search's best configuration (optimizer.lr 0.1) has a mean gap of +6.00 pp"
    assert text.index(claim) < text.index("Measured by test accuracy")
    assert "the search had found +20.00 pp, 70% of which did not hold" in text
    assert "not confirmed on fresh seeds" not in text
    heads = "Configuration optimizer.lr Searched gap Seeds Confirmed gap 95% interval Leaves out 0"
    row = "aaaaaaaa 0.1 +20.00 pp 3 +6.00 pp +3.52 to +8.48 pp yes"
    for metric in ("validation accuracy", "test accuracy"):
        assert f"Gap in {metric}, searched and confirmed (top-1) {heads} {row}" in text


@pytest.mark.slow
def test_a_confirmation_has_a_report_of_its_own(searched, tmp_path):
    folder = searched[1]()
    text = words(page(load(folder), tmp_path / "one"))
    assert "This study confirms 1 configuration of search on fresh seeds." in text
    assert "aaaaaaaa 0.1 +20.00 pp 3 +6.00 pp +3.52 to +8.48 pp yes" in text
    alone = shutil.copytree(folder, tmp_path / "alone")
    text = words(page(load(alone), tmp_path / "two"))
    assert "the search's best configuration (aaaaaaaa) has a mean gap of +6.00 pp" in text
    assert "aaaaaaaa +20.00 pp 3 +6.00 pp +3.52 to +8.48 pp yes" in text


@pytest.mark.slow
def test_a_damaged_confirmation_does_not_cost_the_report(searched, tmp_path):
    folder = searched[0]
    (folder / "confirmations" / "cut").mkdir(parents=True)
    (folder / "confirmations" / "cut" / "study.sqlite").write_bytes(b"SQLite format 3")
    text = words(page(load(folder), tmp_path))
    assert "confirmation cut: " in text
    assert "not confirmed on fresh seeds" in text


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


CHROMIUM = shutil.which("chromium")


def chromium(profile, *arguments):
    """What headless Chromium prints; no network, no state but in ``profile``."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_a_browser_shows_the_page_in_light_and_dark(full, tmp_path):
    shown = chromium(tmp_path / "profile", "--dump-dom", full.as_uri())
    assert "filtered beats archetype in 1 of 3 comparisons" in unescape(shown)
    assert all(link.startswith("data:") for link in Page(shown).links)
    corners = {}
    for scheme, setting in (("dark", 0), ("light", 1)):
        picture = tmp_path / f"{scheme}.png"
        settings = [f"--blink-settings=preferredColorScheme={setting}", "--window-size=1200,900"]
        chromium(tmp_path / "profile", *settings, f"--screenshot={picture}", full.as_uri())
        corners[scheme] = float(imread(picture)[2, 2, :3].mean())
    assert corners["light"] == 1
    assert corners["dark"] < 0.2


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_the_page_fits_a_phone(full, tmp_path):
    # A headless window is at least 500 pixels wide; a frame may be narrower.
    measure = "document.body.dataset.widths = [this.contentDocument.documentElement.scrollWidth, this.clientWidth]"
    frame = f'<iframe width="390" height="800" style="border:0" onload="{measure}" srcdoc="{escape(full.read_text())}">'
    wrapper = tmp_path / "phone.html"
    wrapper.write_text(f"<!doctype html><body>{frame}</iframe></body>", encoding="utf-8")
    shown = chromium(tmp_path / "profile", "--dump-dom", wrapper.as_uri())
    assert re.search(r'data-widths="([\d,]+)"', shown).group(1) == "390,390"
