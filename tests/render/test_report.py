"""A run's report: one page that fetches nothing, says what happened, and survives any text and any gap in the facts."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.report import next_commands, report_facts, series_of
from swiftshell.i18n import set_language
from swiftshell.render.charts import Line, interval, line_chart, ticks
from swiftshell.render.report import page, write_report
from swiftshell.run.files import write_json
from swiftshell.run.paths import RunPaths

HEALTHY = {
    "code": "verdict.healthy_held_out",
    "severity": "note",
    "values": {"margin": 0.5, "chosen": -0.05, "auc": 0.9},
}
ILL = {
    "code": "verdict.both_fall",
    "severity": "warning",
    "values": {"chosen": -0.3, "rejected": -0.6, "learning_rate": 0.01},
}


def metric(name: str, value: float, step: int) -> dict[str, Any]:
    return {"t": 0, "kind": "metric", "name": name, "value": value, "step": step}


def trained(step: Path) -> list[dict[str, Any]]:
    """Return what a training of 60 steps writes, the guard having gone back from 30 to 20."""
    events = [
        metric(name, 0.5 - i / 100, i)
        for i in range(1, 61)
        for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "kl/unclamped", "kl")
    ]
    trip = {
        "t": 0,
        "kind": "warning",
        "code": "guard.chosen_fell",
        "values": {"step": 30, "found": -0.2, "limit": -0.15},
    }
    held = [metric("eval_preference_auc", value, at) for value, at in ((0.5, 0), (0.8, 30), (0.9, 60))]
    return [
        *events,
        *held,
        trip,
        {
            "t": 0,
            "kind": "note",
            "code": "train.rows_dropped",
            "values": {"count": 1, "total": 9, "limit": 8, "rows": "<b>3</b>"},
        },
    ]


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """A finished KTO run as files."""
    found = RunPaths(tmp_path / "runs" / "2026-11-25-kto-aaaa")
    step = found.step_root(1, "kto")
    params = {"learning_rate": 3e-4, "beta": 0.1, "lora": {"r": 16}, "guard": {"enabled": True}}
    inputs = {
        "policy": [{"slot": "policy", "name": "sft.adapter", "kind": "adapter"}],
        "train_data": [{"slot": "train_data", "name": "<img src=x onerror=alert(1)>", "kind": "dataset"}],
    }
    write_json(
        found.plan,
        {
            "v": 1,
            "name": "kto",
            "seed": 42,
            "command": "swiftshell run kto --yes",
            "steps": [
                {
                    "id": "kto",
                    "stage": "kto",
                    "params": params,
                    "param_sources": {"learning_rate": "flag"},
                    "inputs": inputs,
                }
            ],
        },
    )
    write_json(step / "request.json", {"stage": "kto"})
    legs = [
        {
            "number": 0,
            "start_step": 0,
            "learning_rate": 3e-4,
            "beta": 0.1,
            "trip": {"code": "guard.chosen_fell", "step": 30, "found": -0.2, "limit": -0.15},
            "back_to": 20,
        },
        {"number": 1, "start_step": 20, "learning_rate": 1.5e-4, "beta": 0.15, "trip": None, "back_to": None},
    ]
    heldout = {
        "answers": 400,
        "prompts": 200,
        "pairs": 200,
        "start": {"preference_auc": 0.5},
        "end": {"preference_auc": 0.9, "length_ratio": 1.1},
        "intervals": {"preference_auc": [0.9, 0.87, 0.93]},
        "change": {"preference_auc": [0.4, 0.37, 0.43]},
    }
    summary = {
        "rows": 1200,
        "desirable": 730,
        "undesirable": 470,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.35,
        "reference": "sft.adapter",
        "reference_difference": 4e-7,
        "verdicts": [HEALTHY, ILL],
        "heldout": heldout,
        "rounds": {
            "number": 2,
            "previous": "r/kto/adapter",
            "difference": {"preference_auc": [0.011, -0.002, 0.024]},
        },
        "guard": {"legs": legs, "gave_up": None},
        "replay": {"rows": 5, "available": 9, "relabelled": 1},
    }
    write_json(
        step / "result.json",
        {
            "v": 1,
            "result": "succeeded",
            "exit_code": 0,
            "attempt": 1,
            "duration_s": 41.0,
            "started": "2026-11-25T07:00:00+00:00",
            "summary": summary,
            "metrics": {},
            "outputs": {},
        },
    )
    write_json(
        found.state,
        {
            "v": 1,
            "status": "over",
            "result": "succeeded",
            "steps": [{"id": "kto", "status": "over", "result": "succeeded"}],
        },
    )
    (step / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in trained(step)), encoding="utf-8")
    return found


class Checked(HTMLParser):
    """Holds a page to what a browser needs: tags that close, nothing that runs, nothing that is fetched."""

    void = frozenset(("meta", "link", "img", "br", "hr", "input", "line", "circle", "polyline"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onerror"}
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + " "


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_says_everything_and_fetches_nothing(run: RunPaths, lang: str) -> None:
    set_language(lang)
    try:
        text = page(report_facts(run))
    finally:
        set_language("auto")
    found = Checked(text)
    assert not {"script", "img", "link", "iframe"} & set(found.seen)
    assert "http" not in text.replace("http-equiv", "")
    assert found.seen.count("svg") >= 5  # four charts and an interval
    for word in (
        "0.87",
        "+0.400",
        "1.35",
        "learning_rate",
        "guard.enabled",
        "0.00015",
        "+0.011 [-0.002, +0.024]",
        "4e-07",
        "r/kto/adapter",
        "swiftshell run kto --continue",
    ):
        assert word in found.words, word
    assert "report." not in found.words  # no key without its sentence
    assert '<line class="mark"' in text  # where the guard stepped in
    assert f'lang="{lang}"' in text


def test_what_stands_in_the_data_cannot_become_markup(run: RunPaths) -> None:
    text = page(report_facts(run))
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "&lt;b&gt;3&lt;/b&gt;" in text


def test_settings_that_somebody_chose_come_first(run: RunPaths) -> None:
    settings = report_facts(run)["steps"][0]["settings"]
    assert settings[0] == {"name": "learning_rate", "value": 3e-4, "source": "flag", "stage": "kto"}
    assert {"lora.r", "guard.enabled"} <= {s["name"] for s in settings}


def test_a_run_that_is_not_over_or_lost_its_files_has_a_report_too(tmp_path: Path) -> None:
    bare = RunPaths(tmp_path / "runs" / "2026-11-25-kto-bbbb")
    (bare.step_root(1, "kto")).mkdir(parents=True)
    Checked(page(report_facts(bare)))


def test_what_was_taken_back_is_not_drawn() -> None:
    events = [metric("loss", v, s) for s, v in [(1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0)]]
    assert series_of(events)["loss"] == [(1.0, 1.0), (2.0, 20.0)]
    long = series_of([metric("loss", float(i), i) for i in range(5000)])["loss"]
    assert len(long) <= 601
    assert long[-1] == (4999.0, 4999.0)


def test_a_failed_run_is_told_how_to_go_on(run: RunPaths) -> None:
    facts = report_facts(run)
    facts |= {
        "result": "failed",
        "problems": [
            {
                "code": "rounds.worse",
                "values": {
                    "number": 2,
                    "previous": "r/kto/adapter",
                    "metric": "preference_auc",
                    "difference": "-0.100",
                    "low": "-0.150",
                    "high": "-0.050",
                    "answers": 400,
                },
            }
        ],
    }
    words = Checked(page(facts)).words
    assert "round 2 is worse than r/kto/adapter" in words
    assert "swiftshell resume" in words


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("sft", "run kto"),
        ("dpo", "run merge"),
        ("merge", "run quantize"),
        ("evaluate", "chat"),
        ("download", "run sft"),
    ],
)
def test_the_next_command_follows_the_pipeline(stage: str, command: str) -> None:
    assert any(command in c for c in next_commands([{"stage": stage, "result": "succeeded"}]))
    assert next_commands([{"stage": stage, "result": "failed"}]) == []


def test_charts_of_odd_numbers() -> None:
    nan, inf = float("nan"), float("inf")
    assert line_chart("x", [Line("a", [(1, nan), (2, inf)], "c1")]) == ""
    Checked(
        line_chart(
            "x",
            [Line("a", [(1, 0.0)], "c1"), Line("b", [(1, 0.0), (2, 0.0)], "c2")],
            level=0.5,
            marks=[1, 99],
        )
    )
    Checked(interval(0.5, -1.0, 2.0, 0.0, 1.0, 0.5))
    assert ticks(0, 1) == [0.0, 0.5, 1.0]
    assert ticks(-0.013, 0.0171) == [-0.01, 0.0, 0.01]
    assert ticks(5, 5) == [5]


def test_a_page_is_written_whole_or_not_at_all(
    run: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(report_facts(run), path)
    before = path.read_text(encoding="utf-8")
    monkeypatch.setattr("swiftshell.render.report.page", lambda facts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report({}, path)
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def command(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swiftshell.cli.main", *arguments],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_writes_it_and_says_where(run: RunPaths, tmp_path: Path) -> None:
    done = command(tmp_path, "report", "aaaa", "-w", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert str(run.root / "report.html") in done.stdout
    (tmp_path / "out").mkdir()
    done = command(tmp_path, "report", "-o", "out", "--json", "-w", str(tmp_path))
    assert json.loads(done.stdout)["data"]["path"] == str(tmp_path / "out" / f"{run.id}.html")
    assert (tmp_path / "out" / f"{run.id}.html").is_file()


def test_the_command_names_what_it_cannot_do(run: RunPaths, tmp_path: Path) -> None:
    assert "cli.run_unknown" in command(tmp_path, "report", "nothing", "-w", str(tmp_path)).stderr
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = command(tmp_path, "report", "-o", "file/report.html", "-w", str(tmp_path))
    assert done.returncode == 2
    assert "cli.not_written" in done.stderr
    assert "Traceback" not in done.stderr
