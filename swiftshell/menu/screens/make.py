"""Make rows of other rows: thumbs of a feedback log or of pairs, pairs of thumbs, and scores for answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.session import Session

_GO = "\0go"


def show(session: Session, path: Path) -> None:
    """Stay with a file until the person goes back."""
    default = "kto"
    while True:
        rows = [Row(name, t(f"logs.menu_{name}"), note=t(f"logs.menu_{name}.note")) for name in ("kto", "dpo", "score")]
        answer = prompts.choose(t("logs.menu_what", path=path.name), rows, default=default)
        if answer is None:
            return
        default = answer
        try:
            {"kto": _kto, "dpo": _dpo, "score": _score}[answer](session, path)
        except SwiftshellError as error:
            from swiftshell.render.problems import print_problems

            print_problems(error.problems)
            prompts.pause(t("menu.went_wrong"))


def _kto(session: Session, path: Path) -> None:
    """Ask for rules, proposing those that the columns suggest; pairs need none."""
    from swiftshell.api.feedback import make_kto, signals, suggestions
    from swiftshell.data.logs import LogOptions
    from swiftshell.render.feedback import print_made

    proposed = suggestions(path)
    options = LogOptions()
    if proposed is not None:
        good = _rules(session, "for", [s for s, desirable in proposed if desirable])
        bad = None if good is None else _rules(session, "against", [s for s, desirable in proposed if not desirable])
        if good is None or bad is None:
            return
        options = LogOptions(signals(good, bad))
    out = _out(path, "kto")
    if out is None:
        return
    found = make_kto(path, out, options)
    print()
    print_made(found)
    prompts.pause(str(out))


def _rules(session: Session, side: str, proposed: list[str]) -> list[str] | None:
    """Ask for the rules of one side, separated by semicolons; None for going back."""
    default = session.typed.get(f"rules_{side}", "; ".join(proposed))
    typed = prompts.ask_text(t(f"logs.menu_rules_{side}"), default=default, note=t("logs.language"), check=_unreadable)
    if typed is None:
        return None
    session.typed[f"rules_{side}"] = typed
    return _parts(typed)


def _parts(typed: str) -> list[str]:
    return [part.strip() for part in typed.split(";") if part.strip()]


def _unreadable(typed: str) -> str:
    from swiftshell.api.feedback import signals
    from swiftshell.i18n import what

    try:
        signals(_parts(typed))
    except SwiftshellError as error:
        return what(error.problems[0])
    return ""


def _dpo(session: Session, path: Path) -> None:
    from swiftshell.api.feedback import make_dpo
    from swiftshell.render.feedback import print_made

    out = _out(path, "dpo")
    if out is None:
        return
    found = make_dpo(path, out)
    print()
    print_made(found)
    prompts.pause(str(out))


def _score(session: Session, path: Path) -> None:
    """Ask which scorers, whether and how to combine them, then score."""
    from swiftshell.api.scoring import ScoreOptions, Scoring, available
    from swiftshell.render.scores import print_scores

    can, labelled = available(path)
    chosen = _chosen(session, can)
    if not chosen:
        return
    combine, thresholds = _combine(session, chosen, labelled)
    out = _out(path, "scored")
    if out is None:
        return
    plans: list[Any] = []
    options = ScoreOptions(chosen, combine=combine, thresholds=thresholds)
    scoring = Scoring(path, out, options, lambda names: plans.append(_plan(session, path, names)))
    found = scoring.run(lambda _: _run(plans[0]), lambda *_: None)
    print()
    print_scores(found)
    prompts.pause(str(out))


def _chosen(session: Session, can: dict[str, str]) -> list[str]:
    """Let the person put scorers together; an empty list for going back."""
    chosen: list[str] = [name for name in session.typed.get("scorers", []) if not can.get(name, "-")]
    at = _GO if chosen else None
    while True:
        rows = [Row(_GO, t("score.menu_go", scorers=", ".join(chosen)), disabled="" if chosen else t("score.menu_none"),
                    style="next")]  # fmt: skip
        rows += [Row(name, f"{'✔' if name in chosen else ' '} {name}", note=t(f"score.about_{name}"), disabled=why,
                     style="done" if name in chosen else "") for name, why in can.items()]  # fmt: skip
        answer = prompts.choose(t("score.menu_which"), rows, default=at)
        if answer is None:
            return []
        if answer == _GO:
            session.typed["scorers"] = chosen
            return chosen
        at = answer
        chosen = [n for n in chosen if n != answer] if answer in chosen else [*chosen, answer]


def _combine(session: Session, chosen: list[str], labelled: bool) -> tuple[Any, list[str]]:
    rows = [Row("no", t("score.menu_columns_only")),
            Row("labels", t("score.menu_by_labels"), disabled="" if labelled else t("score.menu_few_labels")),
            Row("thresholds", t("score.menu_by_thresholds"), note=t("score.menu_by_thresholds.note"))]  # fmt: skip
    answer = prompts.choose(t("score.group_combine"), rows)
    if answer != "thresholds":
        return (answer if answer == "labels" else None), []
    default = session.typed.get("thresholds", f"{chosen[0]}=0.5")
    typed = prompts.ask_text(t("score.menu_thresholds"), default=default)
    if not typed:
        return None, []
    session.typed["thresholds"] = typed
    return "thresholds", _parts(typed.replace(",", ";"))


def _plan(session: Session, path: Path, names: list[str]) -> Any:
    from swiftshell.api.plans import plan_stage
    from swiftshell.plan.quick import Options
    from swiftshell.run.workspace import open_workspace

    session.workspace = open_workspace(session.flag)
    options = Options(data=str(path), lineage=session.lineage_flag(session.board()), params={"scorers": names})
    return plan_stage(session.workspace, "score", options)


def _run(plan: Any) -> Path:
    """Run the stage `score` and return its output's folder.

    Raises:
        SwiftshellError: it did not succeed, or the person left it running.
    """
    from swiftshell.api.runs import outputs_of, run_facts, submit
    from swiftshell.errors import Problem, fail
    from swiftshell.render.keys import quiet_keys
    from swiftshell.render.live import follow

    handle = submit(plan)
    try:
        with quiet_keys(escape_interrupts=True):
            follow(handle)
    except KeyboardInterrupt:
        prompts.forget_interrupts()
        raise fail("score.left_running", run=handle.id) from None
    folder = outputs_of(handle, "scored")
    if folder is None:
        facts = run_facts(handle)
        problems = [Problem.from_json(p) for step in facts["steps"] for p in step.get("problems") or []]
        raise SwiftshellError(problems or [Problem("run.not_succeeded", {"run": handle.id, "result": facts["result"]})])
    return folder


def _out(path: Path, kind: str) -> Path | None:
    """Ask for the file to write; one that is there is refused."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    proposed = Path.cwd() / f"{Path(name).stem}.{kind}.jsonl"

    def taken(text: str) -> str:
        return t("logs.out_exists", path=text) if text and Path(text).expanduser().exists() else ""

    typed = prompts.ask_text(t("logs.menu_out"), default=str(proposed), paths=True, check=taken)
    return Path(typed).expanduser() if typed else None
