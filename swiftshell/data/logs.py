"""Make KTO rows of a feedback log: one line for every time somebody was shown an answer, and what they did then.

Three passes, none of which holds the log in memory: look (columns, how dwell time grows with length, the newest entry),
listen (every rule on every row), write (each answer once, with what all verdicts on it come to).

Dwell time grows with the length of an answer. `dwell_z` says how unusual it is for one of that length (residual of
log dwell over log length, in standard deviations), `dwell_adjusted_s` what it would have been for an answer of usual
length; dwell below `dwell_min_s` (gone at once) or above `dwell_max_s` (gone for coffee) says nothing and counts as missing.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from swiftshell.data.convert import Converter
from swiftshell.data.detect import Layout, detect, present_columns
from swiftshell.data.dwell import Dwell
from swiftshell.data.events import Events
from swiftshell.data.evidence import Caps, Decision, Ledger, Verdict
from swiftshell.data.expression import names_in, value_of
from swiftshell.data.jury import Jury, Opinion
from swiftshell.data.log_report import LogReport
from swiftshell.data.read import Report, read_rows
from swiftshell.data.row import BadRow, Row, text_of
from swiftshell.data.signals import DWELL_ADJUSTED, DWELL_Z, EXPLICIT_WEIGHT, Signal, suggested
from swiftshell.data.users import edge, moment
from swiftshell.errors import Problem, SwiftshellError, fail

# What a log has beside prompt and answer, and the column names that are taken for it.
PARTS: dict[str, tuple[str, ...]] = {
    "user": ("user_id", "user", "userid", "account_id", "account", "member_id", "rater", "用户", "用户id"),
    "time": ("time", "timestamp", "ts", "created_at", "created", "date", "datetime", "event_time", "时间"),
    "dwell": ("dwell_s", "dwell_ms", "dwell", "dwell_time_s", "dwell_time", "reading_time_s", "停留秒数"),
    "edited": ("edited_answer", "edited_response", "edited_completion", "edited_text", "edit", "edited", "corrected",
               "correction"),
    "propensity": ("propensity", "exposure_probability"),
}  # fmt: skip
_JUDGED = ("label", "probability", "weight")  # of a log these are signals like any other
_DERIVED = (DWELL_Z, DWELL_ADJUSTED)
_LISTED = 20
_EXPOSURE_LIMIT = 5.0
_SAMPLE = 200
_KEPT = 200  # faults remembered one by one; the rest is counted


@dataclass(frozen=True)
class LogOptions:
    """How a log is read.

    Attributes:
        signals: the rules; none: those that the columns suggest.
        columns: our names (prompt, completion, messages, user, time, dwell, edited, propensity …) to the log's.
        since, until: window, times or spans before the newest entry.
        user_share: the most of all evidence that one user may count for.
        dwell_min_s, dwell_max_s: dwell times outside say nothing.
        join: column by which lines of events belong to the line that shows the answer (see `swiftshell.data.events`).
        drop_budget: leave out up to this many rows that cannot be used instead of refusing the log.
    """

    signals: Sequence[Signal] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    since: str | None = None
    until: str | None = None
    user_share: float = 0.05
    dwell_min_s: float = 2.0
    dwell_max_s: float = 600.0
    drop_budget: int = 0
    join: str | None = None


@dataclass(frozen=True)
class _Impression:
    """One usable row: what was asked and answered, its digest, and the row with what rules may ask of it."""

    row: Row
    data: dict[str, Any]
    key: bytes
    seen: Mapping[str, Any]
    user: str | None
    at: float
    edited: str
    exposure: float


class FeedbackLog:
    """Read one log; `rows()` yields what it comes to, and `report` says how."""

    def __init__(self, path: Path, options: LogOptions, *, lenient: bool = False) -> None:
        """Look at the log and read the rules; `lenient`: one that suggests no rule is no error.

        Raises:
            SwiftshellError: there are no prompts and answers in it, or a rule names what is not there.
        """
        self._path, self._options, self._lenient = path, options, lenient
        self.report = LogReport(str(path))
        self._events = Events(path, options.join) if options.join else None
        self._bad: list[Problem] = []
        self._dwell = Dwell()
        self._newest = 0.0
        self._parts: dict[str, str] = {}
        self._layout, self._names, self._values = self._look()
        self._jury = Jury(self._rules())
        self._window = (
            edge(options.since, self._newest, "--since"),
            edge(options.until, self._newest, "--until"),
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one KTO row for every answer with a verdict, in the order of the log.

        Raises:
            SwiftshellError: rows that cannot be used, beyond the drop budget; nothing was yielded then.
        """
        ledger, said = self._listen()
        decided, caps = ledger.decide(self._options.user_share)
        self._tell(ledger, decided, caps)
        left = {key: d for key, d in decided.items() if d is not None}
        for seen in self._impressions(counting=False):
            for key, data in self._answers(seen):
                decision = left.pop(key, None)
                if decision is not None:
                    yield _output(seen.row, data, decision, self._jury.names(said[key]))

    @property
    def signals(self) -> list[Signal]:
        """Return the rules."""
        return self._jury.signals

    # --- the three passes ---

    def _look(self) -> tuple[Layout, dict[str, None], dict[str, list[Any]]]:
        """Find the columns; measure dwell over length and the newest entry.

        Raises:
            SwiftshellError: there are no prompts and answers in it.
        """
        faults: list[Problem] = []
        head = list(itertools.islice(self._read(faults.append), _SAMPLE))
        if not head:
            empty = Problem("data.empty", {"path": str(self._path)}, file=str(self._path))
            raise SwiftshellError(faults or [empty])
        present = present_columns(row.data for row in head)
        layout = self._find(present)
        names, values = self._survey(layout)
        if late := [n for n in values if n not in present and "." not in n and self._is_part(n)]:
            layout = self._find(
                [*present, *late]
            )  # edits and the like are rare: the first rows may have none
            names, values = self._survey(layout)
        return layout, names, values

    def _is_part(self, name: str) -> bool:
        return any(name in known and part not in self._parts for part, known in PARTS.items())

    def _survey(self, layout: Layout) -> tuple[dict[str, None], dict[str, list[Any]]]:
        """Go through the whole log: names of columns with some of their values, dwell over length, the newest entry."""
        self._converter = Converter(layout, "kto", lambda *_, **__: None)
        self._dwell = Dwell()
        names: dict[str, None] = {}
        values: dict[str, list[Any]] = {}
        for row in self._read(lambda _: None):
            for name in names_in(row.data):
                held = values.get(name)
                if held is None or len(held) < _SAMPLE:
                    names[name] = None
                    if (value := value_of(row.data, name)) is not None:
                        values.setdefault(name, []).append(value)
            self._measure(row)
        return names, values

    def _find(self, present: list[str]) -> Layout:
        own = {part: name for part, name in self._options.columns.items() if part in PARTS}
        for part, name in own.items():
            if name not in present:
                near = next(iter(difflib.get_close_matches(name, present, n=1, cutoff=0.5)), "")
                code = "data.column_absent_near" if near else "data.column_absent"
                values = {"part": part, "column": name, "near": near, "columns": ", ".join(present)}
                raise SwiftshellError(
                    Problem(code, values, file=str(self._path), field_name=f"columns.{part}")
                )
        for part, known in PARTS.items():
            found = own.get(part) or next((n for n in known if n in present), None)
            if found is not None:
                self._parts[part] = found
        others = {part: name for part, name in self._options.columns.items() if part not in PARTS}
        free = [n for n in present if n not in self._parts.values()]
        layout, problems = detect(free, "sft", columns=others)
        if layout is None:
            raise SwiftshellError(
                [Problem(p.code, p.values, file=str(self._path), field_name=p.field_name) for p in problems]
            )
        columns = {part: name for part, name in layout.columns.items() if part not in _JUDGED}
        if not ({"completion", "messages"} & columns.keys() and {"prompt", "messages"} & columns.keys()):
            values = {"purpose": "kto", "columns": ", ".join(present), "format": layout.format}
            raise SwiftshellError(
                Problem("data.no_answer_column", values, file=str(self._path), field_name="columns")
            )
        self.report.columns = {**columns, **self._parts}
        return Layout(layout.format, columns)

    def _measure(self, row: Row) -> None:
        try:
            at = moment(value_of(row.data, self._parts["time"]), "time") if "time" in self._parts else None
            self._newest = max(self._newest, at or 0.0)
            seconds = self._seconds(row.data)
            if seconds is None:
                return
            if seconds < self._options.dwell_min_s:
                self._dwell.bounces += 1
            elif seconds > self._options.dwell_max_s:
                self._dwell.idle += 1
            else:
                self._dwell.add(seconds, _length(self._converter.rows(row.data)[0]))
        except BadRow:
            return  # the second pass says so

    def _seconds(self, data: Mapping[str, Any]) -> float | None:
        name = self._parts.get("dwell")
        value = value_of(data, name) if name else None
        if name is None or value is None or value == "":
            return None
        try:
            seconds = float(value) / (1000.0 if name.endswith("_ms") else 1.0)
        except (TypeError, ValueError):
            raise BadRow(
                "logs.not_number", name, text=name, value=str(value)[:60], type=type(value).__name__
            ) from None
        return seconds if math.isfinite(seconds) else None

    def _rules(self) -> list[Signal]:
        """Return the rules, every column of which is there.

        Raises:
            SwiftshellError: a rule names a column that no row has, or there is no rule and nothing suggests one.
        """
        if not self._options.signals:
            found = suggested(
                self._names, dwell="dwell" in self._parts and self._dwell.rows > 2, values=self._values
            )
            if not found and "edited" not in self._parts and not self._lenient:
                raise fail("logs.no_rules", path=str(self._path), columns=", ".join(self._names))
            self.report.suggested = True
            return found
        known = [*self._names, *(_DERIVED if self._dwell.rows > 2 else ())]
        problems = []
        for signal in self._options.signals:
            for name in signal.test.names:
                if name not in known:
                    near = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), "")
                    values = {
                        "text": signal.test.text,
                        "column": name,
                        "near": near,
                        "columns": ", ".join(known),
                    }
                    problems.append(Problem("logs.rule_column_near" if near else "logs.rule_column", values))
        if problems:
            raise SwiftshellError(problems)
        return list(self._options.signals)

    def _listen(self) -> tuple[Ledger, dict[bytes, int]]:
        """Return all verdicts, and the bits of the rules behind those on each answer."""
        ledger, said = Ledger(), dict[bytes, int]()
        for seen in self._impressions(counting=True):
            try:
                own = self._jury.hear(seen.seen)
            except BadRow as bad:
                self._complain(seen.row, bad)
                continue
            opinions = list(self._opinions(seen, own))
            for answer, opinion in opinions:
                ledger.add(
                    Verdict(
                        answer,
                        seen.user,
                        opinion.desirable,
                        opinion.weight,
                        opinion.explicit,
                        seen.at,
                        seen.exposure,
                    )
                )
                said[answer] = said.get(answer, 0) | opinion.rules
            self.report.no_verdict += not opinions
        self.report.problems = [*self._bad, *(self._events.warnings() if self._events is not None else ())]
        if self.report.bad_rows > self._options.drop_budget:
            raise SwiftshellError(_first(self._bad, self.report.bad_rows))
        return ledger, said

    def _opinions(self, seen: _Impression, own: Opinion | None) -> Iterator[tuple[bytes, Opinion]]:
        """Yield what an impression says: of its answer, and of the edited one if it was edited."""
        if not seen.edited:
            if own is not None:
                yield seen.key, own
            return
        self.report.edits += 1
        yield self._edited(seen)[0], Opinion(True, EXPLICIT_WEIGHT, True, 1)
        if (original := self._jury.of_edit(own, _text(seen.data), seen.edited)) is not None:
            yield seen.key, original

    # --- rows ---

    def _read(self, report: Report) -> Iterator[Row]:
        return read_rows(self._path, report) if self._events is None else self._events.rows(report)

    def _impressions(self, *, counting: bool) -> Iterator[_Impression]:
        report = self._fault if counting else lambda _: None
        since, until = self._window
        for row in self._read(report):
            if counting:
                self.report.rows += 1
            try:
                seen = self._impression(row)
            except BadRow as bad:
                if counting:
                    self._complain(row, bad)
                continue
            except UnicodeEncodeError as error:
                if counting:
                    self._complain(
                        row, BadRow("data.bad_character", None, text=ascii(error.object[error.start]))
                    )
                continue
            if (since is not None and seen.at < since) or (until is not None and seen.at >= until):
                self.report.outside += counting
                continue
            yield seen

    def _impression(self, row: Row) -> _Impression:
        made = self._converter.rows(row.data)[0]
        data = {k: v for k, v in made.items() if k not in _JUDGED}
        parts = {part: value_of(row.data, name) for part, name in self._parts.items()}
        at = moment(parts.get("time"), self._parts.get("time", "time"))
        if at is None and (self._window[0] is not None or self._window[1] is not None):
            raise BadRow("logs.time_missing", self._parts.get("time"), column=self._parts.get("time", "time"))
        user = parts.get("user")
        shown: dict[str, Any] = row.data
        seconds = self._seconds(row.data)
        if seconds is not None:
            useful = self._options.dwell_min_s <= seconds <= self._options.dwell_max_s
            extra = self._dwell.derived(seconds, _length(data)) if useful and self._dwell.rows > 2 else {}
            shown = {**row.data, **extra}
            if not useful:
                shown[self._parts["dwell"]] = None
        edited = parts.get("edited")
        text = edited.strip() if isinstance(edited, str) and len(edited.strip()) > 5 else ""
        if text == _text(data).strip():
            text = ""
        return _Impression(row, data, _digest(data), shown, None if user in (None, "") else str(user), at or 0.0, text,
                           _exposure(parts.get("propensity"), self._parts.get("propensity")))  # fmt: skip

    def _edited(self, seen: _Impression) -> tuple[bytes, dict[str, Any]]:
        last = {"role": "assistant", "content": seen.edited}
        data = {**seen.data, "completion": [*seen.data["completion"][:-1], last]}
        return _digest(data), data

    def _answers(self, seen: _Impression) -> Iterator[tuple[bytes, dict[str, Any]]]:
        yield seen.key, seen.data
        if seen.edited:
            yield self._edited(seen)

    def _complain(self, row: Row, bad: BadRow) -> None:
        self.report.bad_rows += 1
        if len(self._bad) >= _KEPT:
            return
        self._bad.append(
            Problem(bad.code, dict(bad.values), row.file, row.line, None, row.number, bad.field_name)
        )

    def _fault(self, problem: Problem) -> None:
        self.report.rows += problem.row is not None
        self.report.bad_rows += 1
        if len(self._bad) < _KEPT:
            self._bad.append(problem)

    def _tell(self, ledger: Ledger, decided: Mapping[bytes, Decision | None], caps: Caps) -> None:
        report = self.report
        report.verdicts, report.replaced, report.anonymous = len(ledger), ledger.replaced, ledger.anonymous
        report.users, report.answers = ledger.users, len(decided)
        report.ties = sum(d is None for d in decided.values())
        report.desirable = sum(d is not None and d.label for d in decided.values())
        report.undesirable = report.answers - report.ties - report.desirable
        report.cap = None if math.isinf(caps.cap) else round(caps.cap, 3)
        report.capped = [{"user": user, "weight": round(weight, 3), "verdicts": number}
                         for user, (weight, number) in sorted(caps.users.items(), key=lambda e: -e[1][0])]  # fmt: skip
        report.rules = self._jury.as_json()
        if "dwell" in self._parts:
            report.dwell = {"rows": self._dwell.rows, "bounces": self._dwell.bounces, "idle": self._dwell.idle,
                            "slope": round(self._dwell.slope, 3), "correlation": round(self._dwell.correlation, 3)}  # fmt: skip


def _output(row: Row, data: Mapping[str, Any], decision: Decision, said: list[str]) -> dict[str, Any]:
    found = {**data, "label": decision.label, "probability": decision.probability, "weight": decision.weight,
             "verdicts": decision.verdicts, "users": decision.users, "explicit": decision.explicit,
             "signals": said, "source_row": row.number, "source_file": Path(row.file).name}  # fmt: skip
    if decision.last:
        found |= {"first_seen": _iso(decision.first), "last_seen": _iso(decision.last)}
    return found


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _exposure(value: Any, column: str | None) -> float:
    """Return how much a rarely shown answer's verdict weighs more than one that everybody was shown."""
    if value is None:
        return 1.0
    try:
        probability = float(value)
    except (TypeError, ValueError):
        probability = 0.0
    if not 0.0 < probability <= 1.0:
        raise BadRow("logs.bad_propensity", column, value=str(value)[:60])
    return min(_EXPOSURE_LIMIT, 1.0 / probability)


def _text(data: Mapping[str, Any]) -> str:
    return text_of(data["completion"][-1]["content"])


def _length(data: Mapping[str, Any]) -> int:
    return sum(len(text_of(turn["content"])) for turn in data["completion"])


def _digest(data: Mapping[str, Any]) -> bytes:
    content = {k: v for k, v in data.items() if k != "id"}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def _first(problems: Sequence[Problem], total: int) -> list[Problem]:
    more = total - min(_LISTED, len(problems))
    tail = [Problem("logs.more_bad_rows", {"more": more}, file=problems[0].file)] if more > 0 else []
    return [*problems[:_LISTED], *tail]
