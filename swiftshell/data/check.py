"""Check a data set in one pass and say everything that is wrong with it, with rows, before any model loads.

The same pass feeds training (`swiftshell.data.load`), so what was checked is what is trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swiftshell.data.convert import Converter
from swiftshell.data.detect import Layout, detect, present_columns
from swiftshell.data.images import Pictures
from swiftshell.data.labels import Rule, parse_rule
from swiftshell.data.pairs import Desirable, Pairing
from swiftshell.data.read import read_rows
from swiftshell.data.report import DataReport
from swiftshell.data.row import BadRow, Purpose, Row
from swiftshell.data.tally import Copies, Labels, Lengths, Thumbs, characters
from swiftshell.errors import Problem, Severity, SwiftshellError

_DETECT_ROWS = 200
# Rows that the reader counts and never yields.
_NOT_EVEN_ROWS = ("data.bad_json", "data.row_not_object", "data.csv_cells")


class Check:
    """One pass over a data set: iterate `rows()` to the end, then read `report`."""

    def __init__(
        self,
        path: Path,
        purpose: Purpose,
        *,
        columns: Mapping[str, str] | None = None,
        format: str | None = None,  # noqa: A002
        label_rule: Mapping[str, Any] | None = None,
        limit: int = 0,
        split: str | None = None,
    ) -> None:
        self.report = DataReport(str(path), purpose)
        self._path = path
        self._purpose: Purpose = purpose
        self._columns = columns
        self._format = format
        self._label_rule = label_rule
        self._limit = limit
        self._split = split
        self._labels = Labels(self.report)
        self._copies = Copies(self.report)
        self._lengths = {"prompt": Lengths(), "answer": Lengths()}
        self._bad: set[tuple[str, int]] = set()
        self._pictures = Pictures(None, purpose)
        self._pairing: Pairing | None = None  # thumbs that are read for DPO
        self._desirable: Desirable | None = None  # thumbs that are read for SFT

    def rows(self) -> Iterator[Row]:
        """Yield every usable row; KTO labels are raw until `finish` has run over the rows that were kept."""
        try:
            rule = parse_rule(self._label_rule)
        except SwiftshellError as error:
            for problem in error.problems:
                self.report.add(problem)
            return
        self._labels.rule = rule
        source = read_rows(self._path, self._complain, split=self._split)
        if self._limit:
            source = itertools.islice(source, self._limit)
        head = list(itertools.islice(source, _DETECT_ROWS))
        layout = self._detect(head, rule)
        if layout is None:
            self.report.rows = len(head) + sum(1 for _ in source)
            return
        converter = Converter(layout, self._purpose, self._warn)
        self._thumbs_for_others(layout, rule)
        self._pictures = Pictures(layout.get("images"), self._purpose)
        for row in itertools.chain(head, source):
            self.report.rows += 1
            yield from self._converted(row, converter)

    def finish(self, kept: list[Row] | None = None) -> list[Row]:
        """Decide the label rule, apply it to the rows kept, complete the report; call it after `rows()`."""
        report = self.report
        bad_labels = self._labels.finish(self._complain)
        self._copies.finish(self._labels)
        report.bad_rows = len(self._bad)
        report.rows += sum(report.counts.get(code, 0) for code in _NOT_EVEN_ROWS)
        report.characters = {
            part: lengths.as_json() for part, lengths in self._lengths.items() if lengths.number
        }
        if self._pictures.rows:
            report.images = {"rows": self._pictures.rows, "files": len(self._pictures.files)}
            report.images_mark = self._pictures.mark()
        left_out = set(bad_labels)
        if self._desirable is not None:
            left_out |= self._desirable.finish(report, self._complain)
            report.bad_rows = len(self._bad)
        good = [row for row in kept or [] if (row.file, row.number) not in left_out]
        for row in good:
            if "label" in row.data:
                row.data["label"] = self._labels.read(row.data)
        report.usable -= len(left_out)
        if self._pairing is not None:
            pairs = self._pairing.finish(self._labels.read, bad_labels)
            pairs.tell(report)
            report.usable, good = len(pairs.partner), pairs.rows_of(good)
        self._check_classes()
        if report.rows == 0 and not report.problems:
            report.add(Problem("data.empty", {"path": report.path}, file=report.path))
        report.close()
        return good

    def _detect(self, head: list[Row], rule: Rule | None) -> Layout | None:
        if not head:
            return None
        present = present_columns(row.data for row in head)
        layout, problems = detect(
            present, self._purpose, columns=self._columns, format=self._format, rule=rule.kind if rule else None,
            head=[row.data for row in head],
        )
        for p in problems:
            self.report.add(Problem(p.code, p.values, file=str(self._path), field_name=p.field_name))
        if layout is None:
            return None
        self.report.format = layout.format
        self.report.columns = dict(layout.columns)
        self.report.unused = [name for name in present if name not in layout.columns.values()]
        self._note_leftovers(layout)
        return layout

    def _note_leftovers(self, layout: Layout) -> None:
        """Say what a reader might not expect: pairs read for SFT, labels that SFT does not look at."""
        file = str(self._path)
        if self._purpose == "sft" and "rejected" in layout.columns:
            self.report.add(Problem("data.pairs_for_sft", {}, file=file, severity="note"))

    def _thumbs_for_others(self, layout: Layout, rule: Rule | None) -> None:
        """Prepare to pair thumbs for DPO, or to leave the undesirable ones out of SFT."""
        judged = {layout.get("label"), layout.get("probability")} - {None}
        if self._purpose == "dpo" and "rejected" not in layout.columns:
            self._pairing = Pairing()
        elif self._purpose == "sft" and judged:
            named = bool(judged & set((self._columns or {}).values()))
            self._desirable = Desirable(rule, named=named)

    def _converted(self, row: Row, converter: Converter) -> Iterator[Row]:
        self._row = row
        try:
            folder = Path(row.file).parent if row.file else self._path.parent
            made = [self._pictures.place(data, folder) for data in converter.rows(row.data)]
            if self._desirable is not None:
                self._desirable.take(row, made)
            for data in made:
                self._copies.add(row, data)
        except BadRow as bad:
            self._complain(self._placed(bad.code, bad.field_name, dict(bad.values)))
            return
        except UnicodeEncodeError as error:
            found = ascii(error.object[error.start])
            self._complain(self._placed("data.bad_character", None, {"text": found}))
            return
        extra = converter.extra(row.data)
        for data in made:
            self.report.usable += 1
            self._labels.add(row, data)
            if self._pairing is not None:
                self._pairing.add(row, data)
            self._measure(data)
            yield Row(row.number, row.line, data, row.file, extra)

    def _measure(self, data: Mapping[str, Any]) -> None:
        prompt = data.get("prompt") or data.get("messages", [])[:-1]
        if prompt:
            self._lengths["prompt"].add(characters(prompt))
        for part in ("completion", "chosen", "rejected"):
            if part in data:
                self._lengths["answer"].add(characters(data[part]))
        if "messages" in data:
            self._lengths["answer"].add(characters(data["messages"][-1:]))
        for part in ("text", "reference"):
            if isinstance(data.get(part), str):
                self._lengths["answer"].add(len(data[part]))

    def _check_classes(self) -> None:
        report = self.report
        if self._purpose != "kto" or not report.usable:
            return
        yes, no = self._labels.totals()
        report.classes = {"desirable": yes, "undesirable": no}
        thumbs = self._labels.thumbs
        report.thumbs = thumbs.as_json()
        if report.ok and (problem := _nothing_to_learn(thumbs, yes, no)) is not None:
            columns = {part: report.columns.get(part, "") for part in ("label", "weight", "probability")}
            report.add(Problem(problem.code, {**columns, **problem.values}, file=report.path))

    def _placed(
        self, code: str, field_name: str | None, values: dict[str, Any], severity: Severity = "error"
    ) -> Problem:
        row = self._row
        return Problem(
            code,
            values,
            file=row.file,
            line=row.line,
            row=row.number,
            field_name=field_name,
            severity=severity,
        )

    def _warn(self, code: str, field_name: str | None, **values: Any) -> None:
        self.report.add(self._placed(code, field_name, values, "warning"))

    def _complain(self, problem: Problem) -> None:
        self.report.add(problem)
        if problem.row is not None:
            self._bad.add((problem.file or "", problem.row))


def _nothing_to_learn(thumbs: Thumbs, yes: int, no: int) -> Problem | None:
    """Return why KTO would have nothing to tell apart, if so."""
    good, bad = thumbs.classes()
    if thumbs.weightless == thumbs.rows:
        return Problem("data.weights_all_zero", {"count": thumbs.rows})
    same = next(iter(thumbs.probabilities)) if len(thumbs.probabilities) == 1 else None
    if same is not None and 0.0 < same < 1.0:
        return Problem("data.probability_all_same", {"count": thumbs.rows, "value": same})
    if good and bad:
        return None
    found = "desirable" if good else "undesirable"
    if yes and no:
        lacking = {"lacking": "false" if good else "true", "count": no if good else yes}
        return Problem("data.class_weightless", lacking)
    return Problem(f"data.one_class_{found}", {"count": yes or no})
