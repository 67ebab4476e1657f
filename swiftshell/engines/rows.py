"""Turn a data file into the rows a TRL trainer takes, with every row's length checked before any weights load.

Token counts come from the same calls of the tokenizer that TRL makes; `agrees` holds the trainer to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from swiftshell.data.row import text_of
from swiftshell.engines import templates, vision
from swiftshell.errors import Problem, SwiftshellError, fail
from swiftshell.stages.base import Context, InputRef, Stopped

SHOWN = 20  # offending rows told one by one; the rest are counted
_TRL_KEYS = (
    "messages",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "label",
    "probability",
    "weight",
    "text",
    "tools",
    "chat_template_kwargs",
    "images",
)


@dataclass(frozen=True)
class Example:
    """One row, ready to train on, and its tokens.

    Attributes:
        number, line, file: its place in the source.
        data: what the trainer gets.
        prompt_ids: tokens that are only read.
        answers: tokens that are learned from: one list, or chosen and rejected.
    """

    number: int
    line: int | None
    file: str
    data: dict[str, Any]
    prompt_ids: tuple[int, ...] = ()
    answers: tuple[tuple[int, ...], ...] = ()

    @property
    def asked(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Return what tells prompts apart: the tokens, and the images (of one size all have the same tokens)."""
        return self.prompt_ids, tuple(self.data.get("images") or ())

    @property
    def length_tokens(self) -> int:
        return len(self.prompt_ids) + max(len(a) for a in self.answers)


@dataclass(frozen=True)
class Prepared:
    """The rows of one data input.

    Attributes:
        examples: rows that are trained on, in the order of the source.
        read: rows in the source; `dropped`: numbers of those left out by `drop_budget`.
        chat: rows go through the chat template.
        assistant_only_loss: TRL masks everything but the assistant's turns.
    """

    examples: list[Example]
    read: int
    dropped: list[int]
    chat: bool
    assistant_only_loss: bool
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def pictures(self) -> bool:
        """Tell whether rows have images; then every row has `images`, perhaps an empty list."""
        return any("images" in e.data for e in self.examples)


@dataclass(frozen=True)
class Reading:
    """How rows are read: for what purpose, with which tokenizer, up to which length.

    Attributes:
        eyes: the processor of a model that takes images, None for a text model.
        pictures: whether the rows these go with have images: True reads every row as one with images, False refuses
            images, None lets the rows decide.
    """

    purpose: str
    tokenizer: Any
    limit_tokens: int
    context_tokens: int | None
    drop_budget: int
    assistant_only_loss: bool | str = False
    packing: bool = False
    eyes: vision.Eyes | None = None
    pictures: bool | None = None

    def processing_class(self, data: Prepared) -> Any:
        """Return what a trainer turns these rows into tokens with: the processor where there are images."""
        return self.eyes.processor if self.eyes is not None and data.pictures else self.tokenizer

    def beside(self, data: Prepared) -> Reading:
        """Return how rows are read that the same trainer takes, held-out ones."""
        return replace(self, pictures=data.pictures)


def prepare(ref: InputRef, how: Reading, ctx: Context) -> Prepared:
    """Read, convert, tokenize and check the rows of an input.

    Raises:
        SwiftshellError: rows that cannot be trained on, all of them counted, the first `SHOWN` with their places.
    """
    examples, bad = _read(ref, how, ctx)
    read, how = len(examples) + bad, replace(how, drop_budget=how.drop_budget - bad)
    examples = _seen(examples, how)
    chat = how.tokenizer.chat_template is not None and "text" not in examples[0].data
    examples = _as_plain(examples, how, ctx) if not chat else examples
    examples, masked = _assistant_loss(examples, how, chat, ctx)
    template = templates.training_template(how.tokenizer) if masked else None
    tokenized = _tokenize(examples, how, ctx, masked=masked, template=template)
    kept, dropped = _checked(tokenized, how, ctx)
    return Prepared(kept, read, dropped, chat, masked, {**dataset_facts(ref, read), **_about_images(kept, ctx)})


def _read(ref: InputRef, how: Reading, ctx: Context) -> tuple[list[Example], int]:
    """Return the good rows of an input and how many rows were left out as bad (no more than `drop_budget`)."""
    from swiftshell.data.load import load_input

    rows, report = load_input(ref, how.purpose, drop_budget=how.drop_budget)
    _tell_warnings(report.problems, ctx)
    if report.bad_rows:
        ctx.note("train.bad_rows_dropped", count=report.bad_rows, total=report.rows)
    return [
        Example(
            r.number,
            r.line,
            r.file or str(ref.path),
            {k: r.data[k] for k in _TRL_KEYS if r.data.get(k) is not None},
        )
        for r in rows
    ], report.bad_rows


def _seen(examples: list[Example], how: Reading) -> list[Example]:
    """Return the rows in the form a model that takes images reads, and refuse images for any other.

    Raises:
        SwiftshellError: rows have images, and the model reads text only, or the rows they go with have none.
    """
    pictured = [e for e in examples if e.data.get("images")]
    if pictured and how.eyes is not None and how.pictures is False:
        raise fail("images.heldout_only", file=pictured[0].file, line=pictured[0].line, row=pictured[0].number,
                   rows=len(pictured))
    if how.eyes is None:
        if pictured:
            raise fail("images.text_model", file=pictured[0].file, line=pictured[0].line, row=pictured[0].number,
                       rows=len(pictured), model=how.tokenizer.name_or_path, model_type="-")
        return examples
    examples = [vision.parted(e) for e in examples]
    if not pictured and not how.pictures:
        return examples
    return [replace(e, data={**e.data, "images": e.data.get("images") or []}) for e in examples]


def _about_images(examples: list[Example], ctx: Context) -> dict[str, Any]:
    """Note how many images there are; return it as facts of the data set."""
    paths = {path for e in examples for path in e.data.get("images") or []}
    if not paths:
        return {}
    rows = sum(1 for e in examples if e.data.get("images"))
    ctx.note("images.rows", rows=rows, files=len(paths), longest=max(e.length_tokens for e in examples))
    return {"images": {"rows": rows, "files": len(paths)}}


def _tell_warnings(problems: Sequence[Problem], ctx: Context) -> None:
    """Pass on the first warning of each kind; the plan has listed them all."""
    told: set[str] = set()
    for problem in problems:
        if problem.severity == "warning" and problem.code not in told and "code" not in problem.values:
            told.add(problem.code)
            ctx.warn(problem.code, **{"row": problem.row, "file": problem.file, **problem.values})
        elif problem.code.startswith("pairs."):  # what was made of thumbs; rows of an earlier step had no plan to say it
            ctx.note(problem.code, **problem.values)


def _as_plain(examples: list[Example], how: Reading, ctx: Context) -> list[Example]:
    """Convert chat rows to plain text for a model without a chat template.

    Raises:
        SwiftshellError: rows that are conversations; those that are too long as well are told in the same breath.
    """
    plain = [(e, templates.plain_row(e.data)) for e in examples]
    chats = [e for e, data in plain if data is None]
    good = [replace(e, data=data) for e, data in plain if data is not None]
    if chats:
        first = chats[0]
        problem = Problem(
            "train.chat_needs_template",
            {"count": len(chats), "total": len(examples)},
            file=first.file,
            line=first.line,
            row=first.number,
        )
        raise SwiftshellError([problem, *_too_long(_tokenize(good, how, ctx), how)])
    joins = [
        e
        for e in good
        if "prompt" in e.data
        and e.data["prompt"].rstrip() == e.data["prompt"]
        and not any(str(e.data[k])[:1].isspace() for k in ("completion", "chosen", "rejected") if k in e.data)
    ]
    ctx.note("train.plain_text", rows=len(good), tight=len(joins))
    return good


def _assistant_loss(
    examples: list[Example], how: Reading, chat: bool, ctx: Context
) -> tuple[list[Example], bool]:
    """Decide what an SFT loss looks at; rows of messages are split where only the last answer can be told apart."""
    asked = how.assistant_only_loss
    messages = [e for e in examples if "messages" in e.data]
    if how.purpose != "sft" or not chat or not messages or asked is False:
        if asked is True:
            raise fail("train.assistant_only_needs_chat", file=examples[0].file)
        return examples, False
    pictures = any("images" in e.data for e in messages)
    if pictures and asked is True:
        raise fail("images.assistant_only", file=examples[0].file)
    training = None if pictures else templates.training_template(how.tokenizer)
    fault: str | None = "none"
    if training or (templates.has_markers(how.tokenizer.chat_template) and not pictures):
        fault = templates.mask_fault(how.tokenizer, training, [e.data for e in messages])
    if fault is None:
        return examples, True
    if asked is True:
        raise fail("train.no_generation_markers" if fault == "none" else f"templates.{fault}", file=examples[0].file)
    if fault != "none":
        ctx.warn(f"templates.{fault}")
    several = sum(1 for e in messages if sum(t["role"] == "assistant" for t in e.data["messages"]) > 1)
    if several:
        ctx.note("train.last_turn_only", rows=several)
    return [
        replace(e, data=templates.last_turn(e.data)) if "messages" in e.data else e for e in examples
    ], False


def _tokenize(
    examples: list[Example], how: Reading, ctx: Context, *, masked: bool = False, template: str | None = None
) -> list[Example]:
    """Tokenize every row, with progress in rows."""
    total, out = len(examples), []
    for done, example in enumerate(examples, 1):
        out.append(
            vision.with_tokens(example, how.eyes)
            if how.eyes is not None and "images" in example.data
            else _with_tokens(example, how.tokenizer, masked, template)
        )
        if done % 50 == 0 or done == total:
            ctx.progress(done, total, "rows")
            if ctx.stop_requested():
                raise Stopped
    return out


def _with_tokens(example: Example, tokenizer: Any, masked: bool, template: str | None) -> Example:
    data = example.data
    options = _template_options(data, template)
    if "text" in data:
        return replace(example, answers=(tuple(_ids(tokenizer, _ended(data["text"], tokenizer), {})),))
    if "messages" in data:
        encoded = tokenizer.apply_chat_template(
            data["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=masked, **options
        )
        ids = encoded["input_ids"]
        mask = encoded.get("assistant_masks") or [1] * len(ids)
        first = mask.index(1) if 1 in mask else len(ids)
        return replace(example, prompt_ids=tuple(ids[:first]), answers=(tuple(ids[first:]),))
    answers = [data[k] for k in ("completion", "chosen", "rejected") if k in data]
    if isinstance(data["prompt"], str):
        prompt = _ids(tokenizer, data["prompt"], {})
        whole = [_ids(tokenizer, data["prompt"] + _ended(a, tokenizer), {}) for a in answers]
    else:
        prompt = _ids(tokenizer, data["prompt"], {**options, "add_generation_prompt": True})
        whole = [_ids(tokenizer, [*data["prompt"], *a], options) for a in answers]
    cut = min(_common(prompt, ids) for ids in whole)
    return replace(example, prompt_ids=tuple(prompt[:cut]), answers=tuple(tuple(ids[cut:]) for ids in whole))


def _template_options(data: Mapping[str, Any], template: str | None) -> dict[str, Any]:
    tools = data.get("tools")
    return {
        "chat_template": template,
        "tools": json.loads(tools) if isinstance(tools, str) else tools,
        **data.get("chat_template_kwargs", {}),
    }


def _ids(tokenizer: Any, value: Any, options: Mapping[str, Any]) -> list[int]:
    if isinstance(value, str):
        found: list[int] = tokenizer(text=value)["input_ids"]
        return found
    ids: list[int] = tokenizer.apply_chat_template(value, tokenize=True, return_dict=True, **options)[
        "input_ids"
    ]
    return ids


def _ended(text: str, tokenizer: Any) -> str:
    """End plain text with the end-of-text token, as TRL does; a chat template brings its own end of turn."""
    return text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count


def _checked(examples: list[Example], how: Reading, ctx: Context) -> tuple[list[Example], list[int]]:
    """Refuse rows that would be cut or teach nothing, or drop them if there are no more than `drop_budget`."""
    empty = [e for e in examples if _teaches_nothing(e)]
    long = [] if how.packing else [e for e in examples if e.length_tokens > how.limit_tokens]
    bad = {id(e) for e in (*empty, *long)}
    if not bad:
        return examples, []
    if len(bad) > how.drop_budget or len(bad) == len(examples):
        raise SwiftshellError([*_empty(empty, len(examples)), *_too_long(examples, how)])
    dropped = [e.number for e in examples if id(e) in bad]
    ctx.note(
        "train.rows_dropped",
        count=len(dropped),
        total=len(examples),
        limit=how.limit_tokens,
        rows=", ".join(map(str, dropped[:SHOWN])) + (" …" if len(dropped) > SHOWN else ""),
    )
    return [e for e in examples if id(e) not in bad], dropped


def _teaches_nothing(example: Example) -> bool:
    """Tell whether a row has an answer without text: TRL would train on the end of turn alone."""
    data = example.data
    if any(not a for a in example.answers):
        return True
    texts: list[Any] = [data[k] for k in ("completion", "chosen", "rejected", "text") if k in data]
    texts += [[t] for t in data.get("messages", []) if t.get("role") == "assistant"]
    return any(not _text(t).strip() for t in texts)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "".join(text_of(t.get("content")) or str(t.get("tool_calls") or "") for t in value)


def _empty(examples: list[Example], total: int) -> list[Problem]:
    if not examples:
        return []
    places = [
        Problem("train.row_empty", {}, file=e.file, line=e.line, row=e.number) for e in examples[:SHOWN]
    ]
    return [
        *places,
        Problem(
            "train.rows_empty", {"count": len(examples), "total": total, "rows": [e.number for e in examples]}
        ),
    ]


def _too_long(examples: list[Example], how: Reading) -> list[Problem]:
    """Return a problem for each of the first rows over the limit, and one that counts them all."""
    long = [e for e in examples if e.length_tokens > how.limit_tokens]
    if not long:
        return []
    code = "train.row_beyond_context" if how.context_tokens else "train.row_too_long"
    places = [
        Problem(
            code,
            {"tokens": e.length_tokens, "prompt_tokens": len(e.prompt_ids), "limit": how.limit_tokens},
            file=e.file,
            line=e.line,
            row=e.number,
        )
        for e in long[:SHOWN]
    ]
    total = "train.rows_beyond_context" if how.context_tokens else "train.rows_too_long"
    counted = Problem(
        total,
        {
            "count": len(long),
            "total": len(examples),
            "limit": how.limit_tokens,
            "drop_budget": how.drop_budget,
            "longest": max(e.length_tokens for e in long),
            "no_answer": sum(len(e.prompt_ids) >= how.limit_tokens for e in long),
            "rows": [[e.number, e.length_tokens] for e in long],
        },
        file=long[0].file,
    )
    return [*places, counted]


def dataset_facts(ref: InputRef, rows: int) -> dict[str, Any]:
    """Return what the artifact records of its data: path, digest (as the plan computes it), rows."""
    from swiftshell.data.load import fingerprint

    return {"path": str(ref.path), "sha256": fingerprint(ref.path), "rows": rows}


def check_agreement(
    prepared: Sequence[Example], trained: Any, of: Callable[[Mapping[str, Any]], list[int]]
) -> None:
    """Hold the trainer's own tokens to those that were checked.

    `trained` is the trainer's tokenized data set, `of` returns a row's whole token list as the trainer has it. Rows with
    images become tokens batch by batch: `vision.check_agreement` looks at these.

    Raises:
        SwiftshellError: rows are missing or differ; training on something unchecked is refused.
    """
    if vision.is_lazy(trained):
        return
    if len(trained) != len(prepared):
        raise fail("train.rows_disagree", exit_code=3, checked=len(prepared), trained=len(trained))
    for example, row in zip(prepared, trained, strict=True):
        whole = [i for a in example.answers for i in a]
        if of(row) != [*example.prompt_ids, *whole]:
            raise fail(
                "train.tokens_disagree", exit_code=3, file=example.file, line=example.line, row=example.number
            )
