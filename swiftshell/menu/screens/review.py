"""Question the labels of a data set: an audit without a person, a review by people, and the data corrected by both."""

from __future__ import annotations

from pathlib import Path

from swiftshell.api import reviews
from swiftshell.data.review.log import log_path
from swiftshell.errors import SwiftshellError
from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.session import Session

_ORDERS = ("informative", "random", "file")


def show(session: Session, path: Path) -> None:
    """Stay with a file until the person goes back."""
    default = "review"
    while True:
        said = log_path(path).exists()
        rows = [Row("review", t("review.menu_start"), note=t("review.menu_start.note"), style="next")]
        rows.append(Row("audit", t("review.menu_audit"), note=t("review.menu_audit.note")))
        why_not = "" if said else t("review.menu_nothing_yet")
        rows.append(Row("report", t("review.menu_report"), disabled=why_not))
        rows.append(Row("apply", t("review.menu_apply"), disabled=why_not))
        answer = prompts.choose(t("review.menu_what", path=path.name), rows, default=default)
        if answer is None:
            return
        default = answer
        try:
            {"review": _review, "audit": _audit, "report": _report, "apply": _apply}[answer](session, path)
        except SwiftshellError as error:
            from swiftshell.render.problems import print_problems

            print_problems(error.problems)
            prompts.pause(t("menu.went_wrong"))


def _review(session: Session, path: Path) -> None:
    from swiftshell.render.review import run
    from swiftshell.render.review_report import print_sitting

    rows = [Row(name, t(f"review.order.{name}")) for name in _ORDERS]
    order = prompts.choose(t("review.menu_order"), rows, default=session.typed.get("review_order"))
    if order is None:
        return
    session.typed["review_order"] = order
    by = prompts.ask_text(t("review.menu_by"), default=session.typed.get("reviewer", reviews.own_name()))
    if not by:
        return
    session.typed["reviewer"] = by
    sitting = reviews.open_review(session.workspace, path, by=by, order=order)
    run(sitting, path.name)
    print_sitting(sitting, path)
    prompts.pause(t("review.menu_kept"))


def _audit(session: Session, path: Path) -> None:
    """Run the stage `audit` on the file, as every stage is run."""
    from swiftshell.api.plans import plan_target
    from swiftshell.menu.screens.start import plan_and_start
    from swiftshell.plan.quick import Options

    options = Options(data=str(path), lineage=session.lineage_flag(session.board()))
    started = plan_and_start(
        session, lambda workspace, fresh: plan_target(workspace, "audit", options, fresh=fresh)
    )
    found = reviews.newest_audit_report(session.workspace, path) if started else None
    if found is not None:
        from swiftshell.render.audit import print_audit

        print_audit(found.facts, data=str(path), cleaned=found.cleaned)
        prompts.pause(t("review.menu_audited"))


def _report(session: Session, path: Path) -> None:
    from swiftshell.render.review_report import print_review_report

    print()
    print_review_report(reviews.review_report(session.workspace, path))
    prompts.pause(str(path))


def _apply(session: Session, path: Path) -> None:
    from swiftshell.render.review_report import print_applied

    proposed = str(path.with_name(f"{path.stem}.reviewed.jsonl"))
    out = prompts.ask_text(t("review.menu_out"), default=proposed, paths=True)
    if not out:
        return
    applied = reviews.apply_review(path, Path(out).expanduser())
    print()
    print_applied(applied.as_json(), Path(out))
    prompts.pause(out)
