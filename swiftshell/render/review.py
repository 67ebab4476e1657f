"""The review on the terminal: one answer a screen, one key a verdict.

`frame` makes the screen as lines; `run` shows it and reads keys. Nothing is told by colour alone, and what a data file
holds is never sent to the terminal as it is: control characters would move the cursor, or worse.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swiftshell.data.review.items import Item
from swiftshell.data.review.numbers import is_time_to_stop
from swiftshell.data.review.sitting import Sitting
from swiftshell.data.row import Turn, text_of
from swiftshell.i18n import has, t
from swiftshell.render import words
from swiftshell.render.board import cells, cut, pad
from swiftshell.render.console import has_unicode, is_plain
from swiftshell.render.wrap import wrap

Line = tuple[str, str]  # style, text
_JOINERS = "\n\u200c\u200d"  # line ends, and what joins or parts letters in several scripts and in emoji
_SHORT_SCREEN = 16  # lines; below this the help and the notes are shorter
# What a person presses → what it does; the first of each is the one shown.
KEYS = {
    "j": "desirable",
    "+": "desirable",
    "=": "desirable",
    "k": "undesirable",
    "-": "undesirable",
    "_": "undesirable",
    " ": "skip",
    "s": "skip",
    "e": "edit",
    "n": "note",
    "u": "undo",
    "q": "quit",
    "?": "help",
    "h": "help",
}


@dataclass
class View:
    """What the reviewer has done to the screen; `scroll` None: where the answer begins."""

    scroll: int | None = None
    help: bool = False
    said: str = ""


def frame(
    sitting: Sitting, view: View, width: int, height: int, name: str, *, unicode: bool = True
) -> list[Line]:
    """Return the screen: at most `height` lines of at most `width` cells each."""
    shown = sitting.here
    if shown is None:
        return [("", cut(t("review.nothing_left"), width))]
    foot = _foot(sitting, view, width, height, unicode=unicode)
    head = [("bold", cut(_status(sitting, name), width)), ("dim", ("─" if unicode else "-") * width)]
    room = max(1, height - len(head) - len(foot))
    body, answer_at = _help(width) if view.help else _body(shown.item, width)
    most = max(0, len(body) - room)
    start = max(0, answer_at - room // 3) if view.scroll is None else view.scroll
    view.scroll = start = min(most, max(0, start))
    lines = body[start : start + room]
    lines += [("", "")] * (room - len(lines))
    if start < most:
        lines[-1] = ("dim", cut(t("review.more_below", lines=most - start + 1), width))
    if start > 0:
        lines[0] = ("dim", cut(t("review.more_above", lines=start + 1), width))
    return [*head, *lines, *foot]


def _status(sitting: Sitting, name: str) -> str:
    pace = sitting.per_hour
    recent = sitting.recent
    parts = [f" {name}", sitting.by, t("review.progress", judged=sitting.judged, left=sitting.left)]
    if pace is not None and sitting.judged >= 3:
        parts.append(t("review.pace", rate=round(pace)))
    if recent.total >= 10:
        parts.append(t("review.wrong_lately", share=words.percent(recent.value or 0.0)))
    return "  ".join(parts)


def _body(item: Item, width: int) -> tuple[list[Line], int]:
    """Return all lines of prompt and answer, and where the answer begins."""
    several = len(item.prompt) > 1
    lines: list[Line] = [("dim", cut(t("review.prompt"), width))]
    for turn in item.prompt:
        lines += _turn(turn, width, name_it=several)
    lines.append(("", ""))
    answer_at = len(lines)
    lines.append(("dim", cut(t("review.answer"), width)))
    for turn in item.completion:
        lines += _turn(turn, width, name_it=len(item.completion) > 1, style="bold")
    return lines, answer_at


def _turn(turn: Turn, width: int, *, name_it: bool, style: str = "") -> list[Line]:
    text = text_of(turn.get("content"))
    if calls := turn.get("tool_calls"):
        text = f"{text}\n{calls}".strip()
    said = f"[{turn.get('role', '?')}] {text}" if name_it else text
    return [(style, f"  {line}") for line in wrap(harmless(said), width - 3)]


def harmless(text: str) -> str:
    """Return a text without characters that act on a terminal or turn the writing round; they are shown as a mark."""
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    return "".join(
        c if c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs") else "�" for c in text
    )


def _foot(sitting: Sitting, view: View, width: int, height: int, *, unicode: bool) -> list[Line]:
    assert sitting.here is not None
    item, tall = sitting.here.item, height >= _SHORT_SCREEN
    label = label_word(item, unicode=unicode)
    rows = ", ".join(map(str, item.rows[:4])) + (" …" if len(item.rows) > 4 else "")
    lines: list[Line] = [("dim", ("─" if unicode else "-") * width)]
    lines.append(("bold", cut(f" {label}   {t('review.row', rows=rows)}", width)))
    why = " " + why_words(item, sample=sitting.here.sample)
    lines += [
        ("", line if i == 0 else f" {line.strip()}")
        for i, line in enumerate(wrap(why, width - 1, 2 if tall else 1))
    ]
    if item.scores and tall:
        lines.append(
            ("dim", cut(" " + "  ".join(f"{k} {words.number(v)}" for k, v in item.scores.items()), width))
        )
    if sitting.note:
        lines.append(("", cut(f" {t('review.note_is', text=harmless(sitting.note))}", width)))
    if view.said:
        lines.append(("bold", cut(f" {view.said}", width)))
    elif is_time_to_stop(sitting.recent):
        recent = sitting.recent
        advice = t("review.may_stop", share=words.percent(recent.value or 0.0), total=recent.total)
        lines.append(("bold", cut(f" {advice}", width)))
    long = t("review.keys", up="👍" if unicode else "+", down="👎" if unicode else "-")
    keys = long if cells(long) < width else t("review.keys_short")
    lines.append(("reverse", pad(cut(f" {keys}", width), width)))
    return lines


def label_word(item: Item, *, unicode: bool = True) -> str:
    """Return the label that is questioned."""
    if item.label is None:
        return t("review.label_none")
    mark = ("👍 " if item.label else "👎 ") if unicode else ("+ " if item.label else "- ")
    return t("review.label_is", label=mark + t("render.desirable" if item.label else "render.undesirable"))


def why_words(item: Item, *, sample: bool) -> str:
    """Return why this answer is shown."""
    if sample:
        return t("review.why_sample")
    doubt = item.doubt
    if doubt is None:
        return t("review.why_next")
    reason = t(doubt.reason) if has(doubt.reason) else harmless(doubt.reason)
    told = t("review.why_doubt", reason=reason or t("review.why_audit"), share=words.percent(doubt.p_wrong))
    return told + (f" ({t('audit.sure.' + doubt.sure)})" if has(f"audit.sure.{doubt.sure}") else "")


def _help(width: int) -> tuple[list[Line], int]:
    lines: list[Line] = [("bold", cut(t("review.help_title"), width))]
    for name in ("desirable", "undesirable", "skip", "edit", "note", "undo", "scroll", "help", "quit"):
        text = t(f"review.help.{name}")
        lines += [("", f"  {line}") for line in wrap(text, width - 3)]
    lines.append(("", ""))
    lines += [("dim", f"  {line}") for line in wrap(t("review.help_end"), width - 3)]
    return lines, 0


def run(sitting: Sitting, name: str, **terminal: Any) -> None:
    """Show one answer after the other until the reviewer leaves or nothing is left; every verdict is kept at once."""
    if is_plain() and not terminal:
        _run_plain(sitting, name)
        return
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
    from swiftshell.render.review_keys import Screen

    screen = Screen(sitting, name, unicode=has_unicode(sys.stdout))
    while sitting.here is not None:
        action = screen.show(**terminal)
        if action == "edit":
            _edit(sitting, screen.view)
        elif action == "note":
            _note(sitting, screen.view)
        else:
            return


def act(sitting: Sitting, view: View, action: str) -> str:
    """Do what a key stands for; return what the caller must do itself: edit, note, quit, or nothing."""
    if view.help and action != "quit":
        view.help, view.scroll = False, None
        return ""
    view.said = ""
    if action in ("edit", "note", "quit"):
        return action
    if action == "help":
        view.help, view.scroll = True, 0
    elif action == "undo":
        view.said = t("review.undone") if sitting.undo() else t("review.nothing_to_undo")
        view.scroll = None
    elif action in ("desirable", "undesirable", "skip"):
        sitting.judge(action)  # type: ignore[arg-type]
        view.scroll = None
    return "quit" if sitting.here is None else ""


def _edit(sitting: Sitting, view: View) -> None:
    """Let the reviewer write what the answer should have been; the verdict counts only if something changed."""
    from swiftshell.render.review_keys import edited

    assert sitting.here is not None
    before = text_of(sitting.here.item.completion[-1].get("content"))
    text = edited(before)
    if text is None or not text.strip() or text.strip() == before.strip():
        view.said = t("review.not_edited")
        return
    sitting.judge("edit", text.strip())
    view.said, view.scroll = t("review.edited"), None


def _note(sitting: Sitting, view: View) -> None:
    from swiftshell.render.review_keys import line

    text = line(t("review.note_ask"), sitting.note)
    if text is not None:
        sitting.write_note(text.strip())
        view.said = t("review.noted")


def _run_plain(sitting: Sitting, name: str) -> None:
    """Ask line by line: for TERM=dumb, SWIFTSHELL_PLAIN=1 and screen readers."""
    view = View()
    while sitting.here is not None:
        item = sitting.here.item
        print(f"\n{_status(sitting, name).strip()}")
        for _, text in _body(item, 10_000)[0]:
            print(text.rstrip())
        print(label_word(item, unicode=has_unicode(sys.stdout)))
        print(why_words(item, sample=sitting.here.sample))
        answer = _read(t("review.plain_keys"))
        if answer is None:
            return
        action = KEYS.get(answer[:1] or "?", "help")
        if action == "help":
            print("\n".join(text for _, text in _help(10_000)[0]))
            continue
        todo = act(sitting, view, action)
        if todo == "quit":
            return
        if todo == "edit":
            corrected = _read(t("review.plain_edit"))
            if corrected:
                sitting.judge("edit", corrected)
        elif todo == "note":
            sitting.write_note(_read(t("review.note_ask")) or "")
        if view.said:
            print(view.said)


def _read(prompt: str) -> str | None:
    try:
        answer = input(f"{prompt} ")
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return answer if answer == " " else answer.strip()


def as_text(lines: Sequence[Line]) -> str:
    """Return a frame without its styles."""
    return "\n".join(text for _, text in lines)
