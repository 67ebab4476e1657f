"""The two questions: moving, filtering in any script, ways back, and refusing to be answered by a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.menu import prompts
from swiftshell.menu.listing import Listing
from swiftshell.menu.rows import Heading, Quit, Row
from tests.menu.conftest import CTRL_C, CTRL_D, CTRL_U, DOWN, ENTER, ESC, RUB_OUT, UP

Press = Callable[..., None]
ROWS = [Row("sft", "sft", "监督微调"), Heading(), Row("kto", "kto", "偏好对齐"),
        Row("quantize", "quantize", disabled="needs merge"), Row("dpo", "dpo", "成对对齐", note="pairs")]


def test_enter_takes_the_row_pointed_at(press: Press) -> None:
    press(ENTER)
    assert prompts.choose("?", ROWS) == "sft"


@pytest.mark.parametrize(("keys", "expected"), [
    ((DOWN,), "kto"), ((DOWN, DOWN, DOWN), "dpo"), ((UP, UP), "dpo"), ((DOWN, UP), "sft"), (("\x1b[F", UP), "dpo"),
    (("\x0e",), "kto"), (("\x1b[6~", "\x1b[5~"), "sft"),
])
def test_moving(press: Press, keys: tuple[str, ...], expected: str) -> None:
    """Headings are jumped over; the end and the beginning are neighbours, with the row Back between them."""
    press(*keys, ENTER)
    assert prompts.choose("?", ROWS) == expected


def test_the_default_is_pointed_at_first(press: Press) -> None:
    press(ENTER)
    assert prompts.choose("?", ROWS, default="dpo") == "dpo"


def test_a_row_with_a_reason_cannot_be_chosen(press: Press) -> None:
    """It can be pointed at, to read the reason; Enter there does nothing."""
    press(DOWN, DOWN, ENTER, ENTER, DOWN, ENTER)
    assert prompts.choose("?", ROWS) == "dpo"


@pytest.mark.parametrize("typed", ["对齐", "成", "\x1b[200~ 成对 \x1b[201~", "DPO", "pairs"])
def test_typing_filters_in_any_script(press: Press, typed: str) -> None:
    """Typed or pasted, by name, by detail or by note, whatever the case."""
    expected = "kto" if typed == "对齐" else "dpo"
    press(typed, ENTER)
    assert prompts.choose("?", ROWS) == expected


def test_a_name_fits_better_than_a_note(press: Press) -> None:
    rows = [Row("a", "recipes", note="run, read, check"), Row("b", "check data")]
    press("check", ENTER)
    assert prompts.choose("?", rows) == "b"


def test_rubbing_out_widens_the_filter(press: Press) -> None:
    press("dpox", ENTER, RUB_OUT, ENTER)
    assert prompts.choose("?", ROWS) == "dpo"


def test_escape_first_clears_the_filter(press: Press) -> None:
    listing = Listing(ROWS)
    listing.set_filter("kto")
    assert [ROWS[i].text for i in listing.shown] == ["kto"]
    listing.set_filter("")
    assert len(listing.shown) == len(ROWS)


@pytest.mark.parametrize("key", [ESC, CTRL_D, CTRL_C])
def test_ways_back(press: Press, key: str) -> None:
    press(key)
    assert prompts.choose("?", ROWS) is None


def test_the_row_back(press: Press) -> None:
    """Every list but the outermost ends in it."""
    press(UP, ENTER)
    assert prompts.choose("?", ROWS) is None


def test_an_arrow_whose_bytes_come_apart_is_no_escape(press: Press) -> None:
    """Over a slow connection; half a second is waited for the rest."""
    from prompt_toolkit.application import get_app

    from swiftshell.menu.listing import ESCAPE_WAIT_S, Screen

    screen = Screen("?", ROWS, hint=lambda _width: "")
    assert screen.question().application.ttimeoutlen == ESCAPE_WAIT_S >= 0.5
    assert get_app() is not None


def test_control_c_twice_quits(press: Press) -> None:
    press(CTRL_C)
    assert prompts.choose("?", ROWS) is None
    assert prompts.interrupted()
    press(CTRL_C)
    with pytest.raises(Quit) as quit_:
        prompts.choose("?", ROWS)
    assert quit_.value.exit_code == 130


def test_an_answer_between_two_control_c_forgets_the_first(press: Press) -> None:
    press(CTRL_C)
    prompts.choose("?", ROWS)
    press(ENTER)
    assert prompts.choose("?", ROWS) == "sft"
    press(CTRL_C)
    assert prompts.choose("?", ROWS) is None


# --------------------------------------------------------------------------------------------------- lines


def test_a_line_starts_with_its_default(press: Press) -> None:
    press("5", ENTER)
    assert prompts.ask_text("beta", default="0.") == "0.5"


def test_chinese_in_a_line(press: Press) -> None:
    press("数据 一.jsonl", ENTER)
    assert prompts.ask_text("data") == "数据 一.jsonl"


def test_a_wrong_line_is_asked_again_with_the_answer_kept(press: Press) -> None:
    """The person mends it instead of typing it anew."""
    seen: list[str] = []

    def check(text: str) -> str:
        seen.append(text)
        return "" if text == "abcd" else "must be abcd"

    press("abc", ENTER, "d", ENTER)
    assert prompts.ask_text("name", check=check) == "abcd"
    assert seen == ["abc", "abcd"]


@pytest.mark.parametrize("key", [ESC, CTRL_C, CTRL_D])
def test_ways_back_from_a_line(press: Press, key: str) -> None:
    press(CTRL_U, key)
    assert prompts.ask_text("name", default="kept") is None


def test_no_is_where_a_confirmation_starts(press: Press) -> None:
    press(ENTER)
    assert prompts.confirm("Kill?", "Kill") is False
    press(DOWN, ENTER)
    assert prompts.confirm("Kill?", "Kill") is True


# ------------------------------------------------------------------------------------------- no terminal


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(("stdin", "stdout"), [(False, True), (True, False), (False, False)])
def test_nothing_is_asked_without_a_terminal_at_both_ends(monkeypatch: pytest.MonkeyPatch, stdin: bool, stdout: bool) -> None:
    monkeypatch.setattr("sys.stdin", Stream(stdin))
    monkeypatch.setattr("sys.stdout", Stream(stdout))
    for question in (lambda: prompts.choose("?", ROWS), lambda: prompts.ask_text("?")):
        with pytest.raises(SwiftshellError) as refused:
            question()
        assert refused.value.exit_code == 2
        assert refused.value.problems[0].code == "menu.needs_terminal"


@pytest.mark.parametrize("name", ["CI", "SWIFTSHELL_NO_INPUT"])
def test_nothing_is_asked_where_nobody_wants_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("sys.stdin", Stream(True))
    monkeypatch.setattr("sys.stdout", Stream(True))
    assert prompts.is_terminal()
    monkeypatch.setenv(name, "1")
    assert not prompts.is_terminal()


def test_closed_streams_are_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert not prompts.is_terminal()
    closed = Stream(True)
    closed.close()
    monkeypatch.setattr("sys.stdin", closed)
    assert not prompts.is_terminal()


# ------------------------------------------------------------------------------------------------- plain


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, language: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Numbered lists, answered by typed lines."""
    monkeypatch.setattr(prompts, "is_terminal", lambda: True)
    monkeypatch.setenv("SWIFTSHELL_PLAIN", "1")
    prompts.forget_interrupts()
    yield lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))
    prompts.forget_interrupts()


def test_a_numbered_list(plain: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that cannot be chosen have no number; a wrong number is asked again; no control codes at all."""
    plain("9\n\nx\n3\n")
    assert prompts.choose("Which?", ROWS) == "dpo"
    said = capsys.readouterr().out
    assert "  -  quantize  needs merge" in said
    assert said.count("from 1 to 3") == 3
    assert "\x1b" not in said


@pytest.mark.parametrize("text", ["0\n", ""])
def test_back_from_a_numbered_list(plain: Callable[[str], None], text: str) -> None:
    """Zero, or the end of input."""
    plain(text)
    assert prompts.choose("Which?", ROWS) is None


def test_an_empty_line_keeps_the_default(plain: Callable[[str], None]) -> None:
    plain("\n")
    assert prompts.ask_text("beta", default="0.1") == "0.1"
    plain("0.3\n")
    assert prompts.ask_text("beta", default="0.1") == "0.3"
