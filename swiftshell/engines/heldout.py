"""Turn held-out rows into what evaluation measures: prompts to answer and completions to score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.rules import check_rules
from swiftshell.engines.generate import completion_ids, prompt_ids
from swiftshell.errors import EXIT_USAGE, Problem, SwiftshellError, fail

_LISTED = 20  # problems shown one by one; the rest is counted


@dataclass(frozen=True)
class HeldoutRow:
    """One row to measure.

    Attributes:
        number, line, file: its place in the source; rows count from 1.
        prompt: list of messages, or a string.
        reference: the text that exact match compares with and whose perplexity is measured.
        good, bad: desirable and undesirable completions (chosen and rejected, or labelled ones).
        paired: both belong to one comparison (chosen against rejected).
        rules: what a generated answer must meet.
    """

    number: int
    line: int | None
    file: str
    prompt: Any
    tools: Any = None
    reference: str | None = None
    good: tuple[Any, ...] = ()
    bad: tuple[Any, ...] = ()
    paired: bool = False
    rules: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TokenRow:
    """A row in one tokenizer's ids; `pairs` maps what is scored to (prompt ids, completion ids)."""

    prompt: list[int]
    pairs: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)


def heldout_row(number: int, line: int | None, data: Mapping[str, Any], file: str = "") -> HeldoutRow:
    """Sort one loaded row's columns by what they are good for.

    Raises:
        SwiftshellError: the row's rules are wrong.
    """
    rules = data.get("rules")
    if rules is not None:
        try:
            check_rules(rules)
        except ValueError as error:
            raise fail("evaluate.bad_rules", file=file, row=number, line=line, reason=str(error)) from None
    chosen, rejected = data.get("chosen"), data.get("rejected")
    completion, label = data.get("completion"), data.get("label")
    good, bad = _given(chosen), _given(rejected)
    if completion is not None and label is True:
        good += (completion,)
    elif completion is not None and label is False:
        bad += (completion,)
    reference = data.get("reference")
    if reference is None and completion is not None and label is not False:
        reference = text_of(completion)
    return HeldoutRow(number=number, line=line, file=file, prompt=data["prompt"], tools=data.get("tools"), reference=reference,
                      good=good, bad=bad, paired=chosen is not None and rejected is not None, rules=rules)


def text_of(completion: Any) -> str:
    """Return a completion's text, whether a string or messages."""
    return completion if isinstance(completion, str) else "\n".join(str(m["content"]) for m in completion)


def _given(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def measurable(rows: Sequence[HeldoutRow]) -> dict[str, list[int]]:
    """Return, for every metric, the indices of the rows that have its columns."""
    both = any(r.good for r in rows) and any(r.bad for r in rows)
    return {
        "desirable_share": [i for i, r in enumerate(rows) if r.rules is not None],
        "exact_match": [i for i, r in enumerate(rows) if r.reference is not None],
        "perplexity": [i for i, r in enumerate(rows) if r.reference is not None],
        "preference_accuracy": [i for i, r in enumerate(rows) if r.paired],
        "preference_auc": [i for i, r in enumerate(rows) if r.good or r.bad] if both else [],
    }


def tokens_of(tokenizer: Any, row: HeldoutRow, kinds: Iterable[str]) -> TokenRow:
    """Render and tokenize a row; `kinds` says what will be scored: reference, preference or both."""
    wanted = set(kinds)
    found: dict[str, tuple[list[int], list[int]]] = {}
    if "reference" in wanted and row.reference is not None:
        found["reference"] = completion_ids(tokenizer, row.prompt, row.reference, row.tools)
    if "preference" in wanted:
        for side, completions in (("good", row.good), ("bad", row.bad)):
            for number, completion in enumerate(completions):
                found[f"{side}{number}"] = completion_ids(tokenizer, row.prompt, completion, row.tools)
    return TokenRow(prompt_ids(tokenizer, row.prompt, row.tools), found)


def refuse_long_rows(rows: Sequence[HeldoutRow], tokens: Sequence[TokenRow], limit: int, model: str,
                     limit_source: str) -> None:
    """Refuse rows that do not fit, all of them at once: a row cut or dropped would change what is measured.

    Raises:
        SwiftshellError: rows are longer than `limit` tokens.
    """
    problems = []
    for row, ids in zip(rows, tokens, strict=True):
        longest = max([len(ids.prompt) + 1, *(len(p) + len(c) for p, c in ids.pairs.values())])
        if longest > limit:
            problems.append(Problem("evaluate.row_too_long",
                                    {"tokens": longest, "limit": limit, "model": model, "source": limit_source},
                                    file=row.file, line=row.line, row=row.number))
    if problems:
        more = len(problems) - _LISTED
        tail = [Problem("evaluate.rows_too_long_more", {"more": more, "rows": len(problems)})] if more > 0 else []
        raise SwiftshellError([*problems[:_LISTED], *tail], EXIT_USAGE)
