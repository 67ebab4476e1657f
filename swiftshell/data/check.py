"""Check a data set in one pass and say everything that is wrong with it, with rows, before any model loads.

The same pass feeds training (`swiftshell.data.load`), so what was checked is what is trained on. Rows are counted in
stretches (`swiftshell.data.stretch`), which several processes may do at once (`swiftshell.data.scan`).
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swiftshell.data.compact import Numbers, Places
from swiftshell.data.deep import DeepTask, DeepTotals
from swiftshell.data.detect import Layout, detect, present_columns
from swiftshell.data.images import Pictures
from swiftshell.data.judge import Judge, Task
from swiftshell.data.labels import Rule, parse_rule
from swiftshell.data.leaks import LeakIndex
from swiftshell.data.lengths import describe
from swiftshell.data.pairs import Desirable, Pairing
from swiftshell.data.read import is_json_lines, read_rows
from swiftshell.data.report import DataReport
from swiftshell.data.row import Purpose, Row
from swiftshell.data.scan import Progress, count_pieces, pieces_of, usual_processes
from swiftshell.data.sources import data_files
from swiftshell.data.stretch import Stretch
from swiftshell.data.tally import Labels, Lengths, Thumbs, report_copies
from swiftshell.errors import Problem, SwiftshellError

_DETECT_ROWS = 200
_STRETCH_ROWS = 1 << 13
_LANGUAGE_BYTES = 64 << 20  # of larger files a sample of rows has its language told
# Rows that the reader counts and never yields.
_NOT_EVEN_ROWS = ("data.bad_json", "data.row_not_object", "data.csv_cells", "scan.key_twice")


class Check:
    """One pass over a data set: let `rows()` or `look()` run to the end, call `finish()`, then read `report`."""

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
        tokenizer: Path | None = None,
        max_length: int = 0,
        deep: bool = False,
        against: LeakIndex | None = None,
        on_problem: Callable[[Problem], None] | None = None,
    ) -> None:
        self.report = DataReport(str(path), purpose)
        self.report.on_problem = on_problem
        self._path = path
        self._purpose: Purpose = purpose
        self._columns = columns
        self._format = format
        self._label_rule = label_rule
        self._limit = limit
        self._split = split
        self._places = Places()
        self._labels = Labels(self.report, self._places)
        self._keys = Numbers("Q")
        self._lengths = {"prompt": Lengths(), "answer": Lengths()}
        self._pictures = Pictures(None, purpose)
        self._tokenizer, self._max_length = tokenizer, max_length
        self._tokens: Counter[int] = Counter()
        self._looks_deep, self._against = deep, against
        self._deep: DeepTotals | None = None
        self._judge: Judge | None = None
        self._rest: Iterator[Row] = iter(())
        self._early: list[Row | Problem] = []  # what came while the layout was not decided, in the order of the file
        self._is_early = True
        self._over = False  # all rows were counted
        self._pairing: Pairing | None = None  # thumbs that are read for DPO
        self._desirable: Desirable | None = None  # thumbs that are read for SFT

    # ------------------------------------------------------------------------------------------- the pass

    def rows(self) -> Iterator[Row]:
        """Yield every usable row; KTO labels are raw until `finish` has run over the rows that were kept."""
        if not self._begin():
            return
        assert self._judge is not None
        for row in self._source():
            yield from self._judge.take(row)
            self._end_stretch(_STRETCH_ROWS)
        self._end_stretch()

    def look(self, processes: int = 0, progress: Progress | None = None) -> None:
        """Count every row and keep none.

        Args:
            processes: how many processes count; 0: as many as it pays.
            progress: called with bytes done and bytes in all, for files that can be counted piece by piece.
        """
        if not self._begin():
            return
        assert self._judge is not None
        files = self._piecewise()
        if files:
            self._early.clear()  # it comes again with the pieces
            self._count(files, processes, progress)
            return
        for row in self._source():
            self._judge.look(row)
            self._end_stretch(_STRETCH_ROWS)
        self._end_stretch()

    def _begin(self) -> bool:
        """Decide rule and layout by the first rows, and prepare to judge; False if there is nothing to judge."""
        try:
            rule = parse_rule(self._label_rule)
        except SwiftshellError as error:
            for problem in error.problems:
                self.report.add(problem)
            return False
        self._labels.rule = rule
        self._rest = read_rows(self._path, self._reader_says, split=self._split)
        if self._limit:
            self._rest = itertools.islice(self._rest, self._limit)
        head = []
        for row in itertools.islice(self._rest, _DETECT_ROWS):
            head.append(row)
            self._early.append(row)
        layout = self._detect(head, rule)
        if layout is None:
            self.report.rows = sum(1 for _ in self._source())
            return False
        self._thumbs_for_others(layout, rule)
        deep = self._deep_task() if self._looks_deep or self._against is not None else None
        task = Task(self._path, self._purpose, layout, head[0].data, self._tokenizer, self._max_length, deep)
        self._deep = DeepTotals(deep) if deep is not None else None
        self._judge = Judge(task, pairing=self._pairing, desirable=self._desirable)
        return True

    def _deep_task(self) -> DeepTask:
        files = data_files(self._path, lambda problem: None, split=self._split)
        every = 1 + sum(file.stat().st_size for file in files) // _LANGUAGE_BYTES
        return DeepTask(self._looks_deep, every, self._purpose in ("kto", "dpo"), self._against)

    def _source(self) -> Iterator[Row]:
        """Yield all rows, and tell what their reader said of those between them."""
        early, self._early, self._is_early = self._early, [], False
        for item in early:
            if isinstance(item, Problem):
                self._complain(item)
            else:
                yield item
        yield from self._rest

    def _piecewise(self) -> list[Path]:
        """Return the files if all of them can be counted piece by piece, each piece for itself."""
        if self._limit or self._pairing is not None or self._desirable is not None:
            return []
        files = data_files(self._path, lambda problem: None, split=self._split)
        return files if all(is_json_lines(file) for file in files) else []

    def _count(self, files: list[Path], processes: int, progress: Progress | None) -> None:
        assert self._judge is not None
        pieces = pieces_of(files)
        processes = processes or usual_processes(sum(piece.end - piece.start for piece in pieces))
        file, rows, lines = None, 0, 0
        for piece, stretch in count_pieces(self._judge.task, pieces, processes, progress):
            if piece.file != file:
                file, rows, lines = piece.file, 0, 0
            self.join(stretch, rows, lines)
            rows, lines = rows + stretch.row_numbers, lines + stretch.lines

    def _end_stretch(self, rows: int = 0) -> None:
        """Add up the present stretch if it has so many rows."""
        assert self._judge is not None
        if self._judge.stretch.rows >= rows:
            self.join(self._judge.end())

    def join(self, stretch: Stretch, rows_before: int = 0, lines_before: int = 0) -> None:
        """Add what was counted of a stretch; one counted for itself begins after so many rows and lines of its file."""
        report = self.report
        if self._deep is not None and stretch.deep is not None:
            self._deep.join(stretch.deep, len(self._keys))
        report.rows += stretch.rows
        report.usable += stretch.usable
        report.bad_rows += stretch.bad
        for problem in stretch.problems:
            row = None if problem.row is None else problem.row + rows_before
            line = None if problem.line is None else problem.line + lines_before
            report.add(replace(problem, row=row, line=line) if rows_before or lines_before else problem)
            stretch.counts[problem.code] -= 1
        for code, times in stretch.counts.items():
            report.more(code, times)
        keys = array("Q")
        keys.frombytes(bytes(stretch.keys))
        self._keys.extend(keys)
        self._places.join(stretch.places, rows_before, lines_before)
        self._labels.join(stretch)
        self._lengths["prompt"].add_all(stretch.prompt_chars)
        self._lengths["answer"].add_all(stretch.answer_chars)
        self._tokens.update(stretch.tokens)
        self._pictures.rows += stretch.picture_rows
        self._pictures.files.update(stretch.pictures)

    def finish(self, kept: list[Row] | None = None) -> list[Row]:
        """Decide the label rule, apply it to the rows kept, complete the report; call it after `rows()`."""
        report = self.report
        self._over = True
        bad_before = report.bad_rows
        left_out = self._labels.finish(self._complain, collect=kept is not None or self._pairing is not None)
        report.usable -= report.bad_rows - bad_before
        report_copies(report, self._keys, self._labels, self._places)
        if self._deep is not None:
            self._deep.finish(report, self._keys, self._places)
        if self._tokens:
            report.tokens = describe(self._tokens, str(self._tokenizer), self._max_length)
        report.rows += sum(report.counts.get(code, 0) for code in _NOT_EVEN_ROWS)
        report.scores = self._labels.scores()
        report.characters = {
            part: lengths.as_json() for part, lengths in self._lengths.items() if lengths.number
        }
        if self._pictures.rows:
            report.images = {"rows": self._pictures.rows, "files": len(self._pictures.files)}
            report.images_mark = self._pictures.mark()
        bad_labels = set(left_out)
        if self._desirable is not None:
            left_out |= self._desirable.finish(report, self._complain, collect=kept is not None)
            report.usable -= self._desirable.out
        good = [row for row in kept or [] if (row.file, row.number) not in left_out]
        for row in good:
            if "label" in row.data:
                row.data["label"] = self._labels.read(row.data)
        if self._pairing is not None:
            pairs = self._pairing.finish(self._labels.read, bad_labels, keep=kept is not None)
            pairs.tell(report)
            report.usable, good = pairs.pairs, pairs.rows_of(good)
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

    def _complain(self, problem: Problem) -> None:
        """Count what a reader, or a rule over the whole column, found; one with a row makes the row unusable."""
        if self._judge is not None and not self._over:
            self._judge.complain(problem)
            return
        self.report.add(problem)
        if problem.row is not None:
            self.report.bad_rows += 1

    def _reader_says(self, problem: Problem) -> None:
        if self._is_early:
            self._early.append(problem)
        else:
            self._complain(problem)


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
