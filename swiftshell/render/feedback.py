"""Print what became of a feedback log, of pairs and of thumbs: what each rule contributed, who was capped, what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swiftshell.i18n import t
from swiftshell.render import words

_USERS_SHOWN = 5
_TELLING = 0.3  # correlation of dwell and length from which the raw time misleads


def print_made(found: Mapping[str, Any]) -> None:
    """Print what `api.feedback.make_kto` or `make_dpo` returns."""
    if found["kind"] == "log":
        _print_log(found)
    else:
        numbers = {k: words.number(v) for k, v in found.items() if isinstance(v, int)}
        print(t(f"logs.made_{found['kind']}", **numbers))
    print(t("logs.written", rows=words.number(found["written"]), path=found["out"]))
    if found["kind"] != "pairs" and not (found["desirable"] and found["undesirable"]):
        print(t("logs.one_class"))
    purpose = "dpo" if found["kind"] == "pairs" else "kto"
    print(t("logs.then", path=found["out"], purpose=purpose))


def _print_log(found: Mapping[str, Any]) -> None:
    if found["suggested"]:
        print(t("logs.suggested"))
    for rule in found["rules"]:
        numbers = {k: words.number(v) for k, v in rule.items()}
        numbers["side"] = t("render.desirable" if rule["desirable"] else "render.undesirable")
        numbers["kind"] = t("logs.explicit" if rule["explicit"] else "logs.implicit")
        print(t("logs.rule_line", sign="+" if rule["desirable"] else "-", rule=rule["rule"]))
        print("    " + t("logs.rule_numbers", **numbers))
        if rule["compared"]:
            print("    " + t("logs.rule_agrees", **numbers))
    numbers = {k: words.number(v) for k, v in found.items() if isinstance(v, int) and not isinstance(v, bool)}
    print(t("logs.rows_line", **numbers))
    print(t("logs.answers_line", **numbers))
    for name in ("outside", "edits", "replaced", "anonymous", "bad_rows"):
        if found[name]:
            print(t(f"logs.{name}_line", number=words.number(found[name])))
    _print_users(found)
    _print_dwell(found)


def _print_users(found: Mapping[str, Any]) -> None:
    if "user" not in found["columns"]:
        print(t("logs.no_users"))
    elif found["capped"]:
        shown = ", ".join(
            f"{u['user']} ({words.number(u['verdicts'])})" for u in found["capped"][:_USERS_SHOWN]
        )
        print(t("logs.capped", number=len(found["capped"]), cap=words.number(found["cap"]), users=shown))


def _print_dwell(found: Mapping[str, Any]) -> None:
    dwell = found["dwell"]
    if not dwell:
        return
    print(t("logs.dwell_line", **{k: words.number(v) for k, v in dwell.items()}))
    raw = [r["rule"] for r in found["rules"] if found["columns"]["dwell"] in r["test"] and "dwell_z" not in r["test"]
           and "dwell_adjusted_s" not in r["test"]]  # fmt: skip
    if raw and dwell["correlation"] >= _TELLING:
        print(t("logs.dwell_raw", rule=raw[0], correlation=f"{dwell['correlation']:.2f}"))
