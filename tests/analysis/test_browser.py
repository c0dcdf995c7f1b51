"""The report in a real browser: what is drawn, said, sorted and saved, on a screen and a phone, light and dark."""

import csv
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from landscape import made_up

from analysis.load import load
from analysis.report import write

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium")
HOSTILE = "<script>alert(1)</script>"
SCREEN, PHONE = (1280, 900), (390, 844)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]

ALL_SHOWN = """async () => {
  const drawn = async () => {
    await new Promise((resolve) => setTimeout(resolve));
    while (!("drawn" in document.documentElement.dataset)) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const wide = [];
  for (const select of document.querySelectorAll("select")) {
    for (let place = 0; place < select.options.length; place++) {
      select.selectedIndex = place;
      select.dispatchEvent(new Event("change"));
      await drawn();
      const { scrollWidth, clientWidth } = document.documentElement;
      if (scrollWidth > clientWidth) wide.push(select.options[place].text);
    }
  }
  return wide;
}"""
"""Shows every alternative of every choice once; the names of those that make the page wider than the window."""

EMPTY = """() => Array.from(document.querySelectorAll(".plot"))
  .filter((plot) => !plot.querySelector("svg [class*='mark-'][class*='role-mark'] :is(path, line, rect, text)"))
  .map((plot) => plot.dataset.chart)"""
"""The charts without a single mark."""

CONTRASTS = """() => {
  const numbers = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const below = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (numbers(color).length === 3 || numbers(color)[3] === 1) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("script, style, noscript, .skip, option") || !element.getClientRects().length) continue;
    if (!Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const drawn = element instanceof SVGElement;
    const on = below(element);
    const color = getComputedStyle(element)[drawn ? "fill" : "color"];
    if (drawn && color === on && element.closest(".plot[data-chart^='map-']")) continue;
    const [high, low] = [light(color), light(on)].sort((a, b) => b - a);
    found[`${color} on ${on}`] = (high + 0.05) / (low + 0.05);
  }
  return found;
}"""
"""The contrast of every pair of colours that text is written in, after WCAG 2.2; what stands in fields is left out."""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with something in every section, and names that mean something to a browser."""
    arms = ("archetype", "filtered", "random", f"<img src=x onerror=alert(1)>{HOSTILE}")
    study = made_up(24, 2, epochs=6, arms=arms, value=HOSTILE)
    wins = study.epochs["arm"].eq("filtered") & study.epochs["trial_id"].isin(["trial3", "trial4"])
    lost = study.epochs["arm"].eq("archetype") & study.epochs["trial_id"].isin(["trial3", "trial4"])
    accuracy = study.epochs["test_accuracy"].mask(lost, 0.1).mask(wins, 0.2)
    unlearned = replace(study, epochs=study.epochs.assign(test_accuracy=accuracy))
    return write(unlearned, tmp_path_factory.mktemp("browser"), stills=False)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The page of a study of 48 comparisons on real digits."""
    landscape = Path(__file__).parent / "data" / "landscape"
    return write(load(landscape), tmp_path_factory.mktemp("real"), stills=False)


@contextmanager
def shown(browser, report, size=SCREEN, scheme="light", **options):
    """The page with all its charts drawn; fails on anything in its console, and on any request."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, accept_downloads=True, **options
    )
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if request.url != report.as_uri() else None)
    page.goto(report.as_uri())
    if options.get("java_script_enabled", True):
        page.wait_for_selector("html[data-drawn]", timeout=60_000)
    yield page
    outside = [line for line in said if not line.startswith(("data:", "blob:"))]
    context.close()
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [SCREEN, PHONE])
def test_every_chart_is_drawn_and_fits(browser, report, size, scheme):
    with shown(browser, report, size, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        assert page.evaluate(ALL_SHOWN) == []
        assert page.evaluate(EMPTY) == []
        assert page.locator(".plot").count() > 150
        wide = "Array.from(document.querySelectorAll('.plot svg')).filter((e) => e.clientWidth > innerWidth).length"
        assert page.evaluate(wide) == 0
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) >= 4
        assert {pair: ratio for pair, ratio in contrasts.items() if ratio < 4.5} == {}
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 23, 27)"}[scheme]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [SCREEN, PHONE])
def test_a_real_study_is_drawn_and_fits(browser, real, size, scheme):
    with shown(browser, real, size, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        assert page.evaluate(ALL_SHOWN) == []
        assert page.evaluate(EMPTY) == []
        assert [ratio for ratio in page.evaluate(CONTRASTS).values() if ratio < 4.5] == []


def test_charts_follow_the_colour_scheme_and_the_width(browser, report):
    with shown(browser, report) as page:
        label = page.locator("[data-chart='clocks'] .role-axis-label text").first
        light = label.evaluate("(element) => getComputedStyle(element).fill")
        page.emulate_media(color_scheme="dark")
        dark = label.evaluate("(element) => getComputedStyle(element).fill")
        assert (light, dark) == ("rgb(85, 86, 94)", "rgb(179, 180, 189)")
        width = "document.querySelector(\"[data-chart='clocks'] svg\").getBoundingClientRect().width"
        before = page.evaluate(width)
        page.set_viewport_size({"width": 500, "height": 800})
        page.wait_for_function(f"{width} < {before}")
        assert page.evaluate("document.documentElement.scrollWidth") == 500


def texts(page, table, column):
    return page.locator(f"section#{table} tbody tr > :nth-child({column})").all_inner_texts()


def number(text):
    return float(re.sub(r"[^\d.-]", "", text.replace("−", "-")))


def test_tables_are_sorted_by_pointer_and_keyboard(browser, report):
    with shown(browser, report) as page:
        head = page.locator("section#comparisons th", has_text="Gap")
        button = head.get_by_role("button")
        before = [number(text) for text in texts(page, "comparisons", 5)]
        assert head.get_attribute("aria-sort") is None
        button.click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert [number(text) for text in texts(page, "comparisons", 5)] == sorted(before) != before
        button.focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert [number(text) for text in texts(page, "comparisons", 5)] == sorted(before, reverse=True)
        page.locator("section#comparisons th", has_text="model.name").get_by_role("button").click()
        assert head.get_attribute("aria-sort") is None
        names = texts(page, "comparisons", 8)
        assert names == sorted(names)
        assert set(names) == {HOSTILE, "LeNet"}


def test_what_is_missing_comes_last_whichever_way(browser, report):
    with shown(browser, report) as page:
        place = page.locator("section#comparisons thead th").all_inner_texts().index("optimizer.momentum") + 1
        button = page.locator("section#comparisons th", has_text="optimizer.momentum").get_by_role("button")
        for _ in range(2):
            button.click()
            values = texts(page, "comparisons", place)
            assert "not set" in values
            given = values.index("not set")
            assert set(values[given:]) == {"not set"}


def test_a_dot_says_which_comparison_it_is(browser, report):
    with shown(browser, report) as page:
        dots = page.locator("[data-chart='gaps-test_accuracy'] .mark-symbol path")
        assert dots.count() == 48
        dots.nth(3).scroll_into_view_if_needed()
        for place in range(48):
            dots.nth(place).hover(force=True)
            if HOSTILE in page.locator("#vg-tooltip-element").inner_text():
                break
        tooltip = page.locator("#vg-tooltip-element.visible")
        assert f"model.name {HOSTILE}" in tooltip.inner_text()
        assert tooltip.locator("script, img").count() == 0
        box = tooltip.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= SCREEN[0]
        keys = tooltip.locator("td.key").all_inner_texts()
        assert [key.strip(":") for key in keys] == ["trial", "settings", "baseline", "treatment", "gap (pp)"]


def test_a_curve_says_the_nearest_point(browser, report):
    with shown(browser, report) as page:
        chart = page.locator("[data-chart='best_comparison-epochs-test_accuracy']")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tooltip = page.locator("#vg-tooltip-element.visible")
        assert "epoch" in tooltip.inner_text()
        assert "test accuracy" in tooltip.inner_text()


def test_data_are_saved_as_csv(browser, report, tmp_path):
    with shown(browser, report) as page:
        with page.expect_download() as waiting:
            page.locator("a[data-csv='gaps-test_accuracy']").click()
        assert waiting.value.suggested_filename == "gaps-test_accuracy.csv"
        waiting.value.save_as(tmp_path / "saved.csv")
    with (tmp_path / "saved.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 48
    assert {"number", "settings", "baseline/test_accuracy", "gap/test_accuracy"} <= set(rows[0])
    assert any(f"model.name {HOSTILE}, optimizer.name" in row["settings"] for row in rows)
    embedded = re.search(r'id="figures">(.*?)</script>', report.read_text(), re.DOTALL).group(1)
    data = next(data for data in json.loads(embedded)["data"].values() if "gap/test_accuracy" in data)
    assert [float(row["gap/test_accuracy"]) for row in rows] == data["gap/test_accuracy"]


def test_a_choice_shows_one_alternative(browser, report):
    with shown(browser, report) as page:
        choice = page.locator("section#where .choice").first
        select = choice.get_by_role("combobox", name="Group by")
        options = select.locator("option").all_inner_texts()
        assert {"optimizer.lr", "model.name"} <= set(options)
        select.select_option("model.name")
        page.wait_for_selector("html[data-drawn]")
        assert choice.locator(".option:visible").count() == 1
        assert choice.get_by_role("region", name="Gap in test accuracy by model.name").is_visible()
        labels = choice.locator(".option:visible .role-axis-label text").all_text_contents()
        assert HOSTILE in labels


def test_the_keyboard_finds_its_way(browser, report):
    with shown(browser, report) as page:
        page.keyboard.press("Tab")
        skip = page.locator("a.skip")
        assert skip.evaluate("(element) => element === document.activeElement")
        assert skip.bounding_box()["x"] >= 0
        links = page.locator("nav a")
        assert links.count() == 9 + 6
        links.nth(2).click()
        assert page.url.endswith("#controls")
        assert page.locator("section#controls").bounding_box()["y"] < SCREEN[1]


def test_without_scripts_everything_but_charts_is_there(browser, report):
    with shown(browser, report, java_script_enabled=False) as page:
        assert page.locator("noscript").inner_text().startswith("Charts, and sorting of tables, need scripts")
        assert page.locator("select").count() == 0
        assert page.locator("th button").count() == 0
        assert page.get_by_text("Group by model.name").is_visible()
        assert page.locator("section#comparisons tbody tr").count() == 48


def test_the_page_can_be_printed(browser, report):
    with shown(browser, report) as page:
        page.set_viewport_size({"width": 760, "height": 1000})
        page.emulate_media(media="print", color_scheme="light")
        assert page.evaluate("document.documentElement.scrollWidth") == 760
        regions = page.locator(".scroll")
        tall = "(all) => all.filter((element) => element.scrollHeight > element.clientHeight + 1).length"
        assert regions.evaluate_all(tall) == 0
        assert page.pdf(format="A4").startswith(b"%PDF")
