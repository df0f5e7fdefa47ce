"""The Analyse and Benchmark tabs: their handlers by call, and both tabs in a real browser."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from script_core.evaluation import Job
from script_core.evaluation.methods import parse_list
from script_core.evaluation.results import write_json
from tests.evaluated import Answering, finished, truths
from ui import benchmark as tables
from ui import benchmark_check
from ui.analyse import AnalyseHandlers
from ui.analyse_charts import grid_axes, panels, stacked, styled
from ui.analyse_layout import CHARTS
from ui.benchmark_check import BenchmarkHandlers, Visit
from ui.examples import examples
from ui.state import DEFAULTS, NAMES


@pytest.fixture(scope="module", autouse=True)
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A results file in which the outcome is known: uniform knows a third of the questions, script all."""
    known = truths(60)
    third = set(list(known)[::3])

    def rule(pruner: Any, budget: int, question: str) -> str:
        return known[question] if pruner.name != "uniform" or (question in third and budget == 64) else "wrong"

    _, results = finished(Answering(rule), Job(parse_list("script,uniform"), (64, 16), questions=60))
    folder = tmp_path_factory.mktemp("results")
    write_json(folder / "embedded.json", results)
    (folder / "broken.json").write_text("{")
    held, tables.FOLDER = tables.FOLDER, folder
    yield
    tables.FOLDER = held


def values(**changes: Any) -> list[Any]:
    settings = DEFAULTS.but(question=examples()[0].question, **changes)
    return [getattr(settings, name) for name in NAMES]


def decoded(link: str) -> list[dict[str, str]]:
    text = base64.b64decode(link.split("base64,")[1].split('"')[0]).decode()
    return list(csv.DictReader(io.StringIO(text)))


# ---- handlers ----------------------------------------------------------------------------------------------------


def test_filters_let_through_what_they_say() -> None:
    held = tables.shipped()
    assert [r["source"] for r in held] == ["measured: embedded"]
    assert tables.methods(held) == ["full", "script", "uniform"] and tables.budgets(held) == [64, 16]
    handlers = BenchmarkHandlers(SimpleNamespace())  # type: ignore[arg-type]
    whole = handlers.filtered(
        False, None, ["measured: embedded"], ["full", "script", "uniform"], ["64", "16"], "all questions"
    )
    assert [(row[0], row[1], row[2]) for row in whole["table"]][:3] == [
        ("full", 576, 100),
        ("script", 64, 100),
        ("script", 16, 100),
    ]
    assert "64 tokens: script (100.0 %); 16 tokens: script (100.0 %)" in whole["reading"]
    assert [row[:3] for row in whole["tests"]] == [
        [a, b, k] for k in (64, 16) for a, b in (("script", "full"), ("script", "uniform"))
    ]
    some = handlers.filtered(True, None, ["measured: embedded"], ["uniform"], ["64"], "count")
    assert [row[:2] for row in some["table"]] == [["uniform", 64]] and some["table"][0][3] is None
    assert [line["method"] for line in decoded(some["reading"])] == ["uniform"]
    none = handlers.filtered(False, None, [], ["uniform"], ["64"], "count")
    assert none["table"] == [] and "No row passes" in none["reading"]


def test_other_sources_bring_their_own_filters() -> None:
    mine = dict(tables.shipped()[0], source=tables.MINE, rows=tables.shipped()[0]["rows"][:2])
    handlers = BenchmarkHandlers(SimpleNamespace())  # type: ignore[arg-type]
    view = handlers.sourced(False, Visit(results=mine))
    assert view["sources"] == {"choices": ["measured: embedded", "this visit"], "value": ["this visit"]}
    assert view["names"]["value"] == ["full", "script"] and len(view["table"]) == 2
    both = handlers.sourced(False, Visit(results=mine), ["measured: embedded", "this visit"])
    assert both["names"]["value"] == ["full", "script", "uniform"] and len(both["table"]) == 7
    assert handlers.sourced(False, None, [])["table"] == []


def test_without_results_the_tab_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    view = BenchmarkHandlers(SimpleNamespace()).filtered(False, None, [], [], [], "all questions")  # type: ignore[arg-type]
    assert "No measured results come with this version" in view["reading"]


@pytest.mark.parametrize(("count", "across", "columns"), [(9, 5, 3), (4, 4, 2), (3, 3, 1)])
def test_on_a_phone_drawings_are_stacked_under_their_titles(count: int, across: int, columns: int) -> None:
    figure = panels([str(number) for number in range(count)], across)
    plane = SimpleNamespace(cols=24, rows=24)
    grid_axes(figure, plane)  # type: ignore[arg-type]
    stacked(styled(figure, dark=False), columns, 150)
    rows = -(-count // columns)
    assert figure.layout.height == 150 * rows + figure.layout.margin.t + figure.layout.margin.b
    boxes = [(x.domain, y.domain) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)][:count]
    for (x, y), title in zip(boxes, figure.layout.annotations, strict=True):
        assert 0 <= x[0] < title.x < x[1] <= 1 and title.y == y[1] and -1e-9 <= y[0] < y[1] <= 1
        over = [o for o in boxes if o[0] == x and o[1][0] > y[1]]
        assert all((o[1][0] - y[1]) * 150 * rows >= 25 for o in over), "a title fits between two"
    assert len(set(boxes)) == count


def test_the_papers_rows_stand_apart_and_carry_their_remarks(monkeypatch: pytest.MonkeyPatch) -> None:
    from ui.assets import ASSETS

    monkeypatch.setattr(tables, "FOLDER", ASSETS / "results")
    rows = {(row[0], row[2], row[3], row[4]): row for row in tables.paper_rows()}
    assert rows["Table 2", "VisionZip", 192, "Relative (%)"][5:7] == [93.4, 97.5]
    assert rows["Table 3", "Script", 640, "Relative (%)"][8]
    assert not any("paper" in results["source"] for results in tables.shipped())


@pytest.mark.parametrize(
    ("methods", "budgets", "questions", "said"),
    [
        ("skript", "64", 2, "no method"),
        ("script", "many", 2, "whole numbers"),
        ("script", "", 2, "whole numbers"),
        ("script", "64", 9999, "Ask 1 to"),
        ("random,script,uniform,qcsp,gsp", "64,32,16,8", 200, "answers; here at most"),
    ],
)
def test_a_check_that_cannot_be_run_says_why(methods: str, budgets: str, questions: int, said: str) -> None:
    handlers = BenchmarkHandlers(SimpleNamespace())  # type: ignore[arg-type]
    views = list(handlers.check(False, None, methods, budgets, questions))
    assert len(views) == 1 and said in views[0]["bar"]


def test_a_stopped_check_goes_on_with_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_check, "REDRAW", -1.0)
    known = truths(8)
    engine = Answering(lambda pruner, budget, question: known[question])
    engine.info.device, engine.info.source = "cpu", "rule"
    handlers = BenchmarkHandlers(SimpleNamespace(engine=lambda: engine))  # type: ignore[arg-type]
    held: Visit | None = None
    running = handlers.check(False, None, "uniform", "16", 8)
    for view in running:
        held = view.get("visit", held)
        if engine.asked == 6:
            running.close()
            break
    stopped = handlers.stopped(False, held)
    assert "Stopped" in stopped["bar"] and "this visit" in stopped["sources"]["value"]
    assert "3 of 8 questions" in stopped["bar"]
    *_, last = handlers.check(False, held, "uniform", "16", 8)
    assert "Done: 8 of 8" in last["bar"] and engine.asked == 16


def test_analysis_refuses_what_the_ask_tab_refuses(served: Any) -> None:
    handlers = AnalyseHandlers(served.host)
    told = [view["about"] for view in handlers.fill("", "", "", None, *values()) if "about" in view]
    assert "Choose a picture" in told[-1]
    told = [
        view["about"] for view in handlers.fill("", "", "", str(examples()[0].path), *values(tau=7)) if "about" in view
    ]
    assert "tau must lie between" in told[-1]
    path = str(examples()[0].path)
    for way, region, numbers, said in (
        ("in", "no region", "", "Choose a region"),
        ("in", "no region", "7-x", "not a token number"),
        ("in", "no region", "9999", "no token 9999"),
        ("in", "middle", "", ""),
    ):
        *_, last = handlers.edit("", way, region, numbers, "", path, *values(budget=4 if not said else 64))
        assert (said or "cannot be forced") in last["edit_note"] and "edit" not in last


# ---- in the browser ----------------------------------------------------------------------------------------------


def test_analyse_fills_every_chart_and_asks_what_if(visit: Any) -> None:
    see = visit(look="dark")
    page = see.open("?__theme=dark")
    page.get_by_role("tab", name="Analyse", exact=True).click()
    for name, _, _ in CHARTS:
        page.wait_for_selector(f"#analyse-{name} .main-svg", timeout=60_000)
        page.wait_for_selector(f"#analyse-{name}-note .reading", timeout=60_000)
        link = page.get_attribute(f"#analyse-{name}-note a", "href")
        assert len(decoded(link + '"')) >= 1, f"{name} has no data"
    assert "64 of 576 visual tokens" in page.inner_text("#analyse-about")
    assert "smallest budget that keeps" in page.inner_text("#analyse-budgets-note")
    bright = "getComputedStyle(document.querySelector('#analyse-budgets .xtick text')).fill"
    assert page.evaluate(bright) == "rgb(226, 232, 240)"
    page.fill("#analyse-numbers input, #analyse-numbers textarea", "0, 24-26")
    page.click("#analyse-ask")
    page.wait_for_selector("#analyse-edit .main-svg", timeout=60_000)
    assert "tokens forced out the answer" in page.inner_text("#analyse-edit-note")


def test_benchmark_filters_sorts_downloads_and_checks(visit: Any) -> None:
    see = visit()
    page = see.open()
    page.get_by_role("tab", name="Benchmark", exact=True).click()
    rows = "document.querySelectorAll('#bench-table [role=row][data-index]').length"
    see.until(f"{rows} === 5")
    page.wait_for_selector("#bench-curves .main-svg", timeout=60_000)

    top = "document.querySelector('#bench-table [role=row][data-index=\"0\"]')"
    accuracy = f"Number({top}.querySelectorAll('[role=gridcell]')[2].innerText)"
    assert page.evaluate(accuracy) == 100
    page.hover("#bench-table [data-testid=header-2]")
    page.click("#bench-table [data-testid=header-2] button")
    page.click("text=Sort ascending")
    see.until(f"{accuracy} < 50")

    page.get_by_label("uniform", exact=True).uncheck()
    see.until(f"{rows} === 3")
    with page.expect_download() as taken:
        page.click("#bench-reading a")
    lines = list(csv.DictReader(io.StringIO(Path(taken.value.path()).read_text())))
    assert taken.value.suggested_filename == "script-benchmark.csv"
    assert [line["method"] for line in lines] == ["full", "script", "script"]

    page.click("#bench-quick button:has-text('Run a quick check here')")
    page.fill("#bench-methods textarea, #bench-methods input", "uniform")
    page.fill("#bench-budgets textarea, #bench-budgets input", "8")
    page.fill("#bench-questions input[type=number]", "1")
    page.press("#bench-questions input[type=number]", "Tab")
    page.click("#bench-run")
    see.until("document.querySelector('#bench-progress').innerText.includes('Done: 1 of 1')", timeout=60_000)
    see.until("document.querySelector('#bench-sources').innerText.includes('this visit')")
    assert "1 of 576" not in page.inner_text("#bench-table") and "Stickers" in page.inner_text("#bench-table")


@pytest.mark.parametrize("tab", ["Ask", "Compare", "Video", "Analyse", "Benchmark", "About"])
def test_a_link_opens_every_tab(visit: Any, tab: str) -> None:
    see = visit()
    see.page.goto(f"{see.address}?tab={tab.lower()}")
    see.page.wait_for_selector(f'button[role="tab"][aria-selected="true"]:has-text("{tab}")')
