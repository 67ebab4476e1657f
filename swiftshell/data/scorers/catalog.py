"""Find scorers by name, with their options: `rouge`, `length:min=10,max=400`, `rules:file=rules.yaml`.

Those that need a model of ours (`likelihood`, `implicit_reward`) are run by the stage `score`; here they only have names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from swiftshell.data.scorers.base import Scorer
from swiftshell.data.scorers.judge import Judge, JudgeOptions
from swiftshell.data.scorers.overlap import ROUGES, Bleu, Chrf, Rouge
from swiftshell.data.scorers.plain import Exact, Length, Number, Repetition, Rules
from swiftshell.errors import Problem, SwiftshellError, fail

BY_MODEL = ("likelihood", "implicit_reward")
JUDGE = "judge"
# Well known, and not to be had here: what each would need, and what comes nearest.
_ELSEWHERE = {
    "factscore": "score.no_factscore", "bertscore": "score.no_bertscore", "bleurt": "score.no_bertscore",
    "comet": "score.no_bertscore", "meteor": "score.no_meteor",
}  # fmt: skip
_OPTIONS = {"length": ("min", "max"), "rules": ("file",)}
_PLAIN: Mapping[str, Callable[[Mapping[str, str]], Scorer]] = {
    **{name: (lambda _, name=name: Rouge(name)) for name in ROUGES},  # type: ignore[misc]
    "bleu": lambda _: Bleu(),
    "chrf": lambda _: Chrf(),
    "exact": lambda _: Exact(),
    "number": lambda _: Number(),
    "length": lambda o: Length(_whole(o, "min"), _whole(o, "max")),
    "repetition": lambda _: Repetition(),
    "rules": lambda o: Rules(o.get("file")),
}
NAMES = (*_PLAIN, *BY_MODEL, JUDGE)


def chain(specs: Sequence[str], judge: JudgeOptions) -> tuple[list[Scorer], list[str]]:
    """Return the scorers asked for, and the names of those that the stage `score` runs.

    Raises:
        SwiftshellError: everything that is wrong with them.
    """
    made: list[Scorer] = []
    by_model: list[str] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for spec in specs:
        try:
            name, options = _read(spec)
            if name in seen:
                raise fail("score.twice", scorer=name)
            seen.add(name)
            if name in BY_MODEL:
                by_model.append(name)
            else:
                made.append(Judge(judge) if name == JUDGE else _PLAIN[name](options))
        except SwiftshellError as error:
            problems += error.problems
    if problems:
        raise SwiftshellError(problems)
    return made, by_model


def _read(spec: str) -> tuple[str, dict[str, str]]:
    name, _, rest = spec.partition(":")
    name = name.strip().lower().replace("-", "_")
    name = {"rougel": "rouge", "rouge_l": "rouge", "exact_match": "exact", "llm_judge": "judge"}.get(
        name, name
    )
    if name in _ELSEWHERE:
        raise fail(_ELSEWHERE[name], scorer=name)
    if name not in NAMES:
        near = get_close_matches(name, NAMES, n=1, cutoff=0.5)
        raise fail("score.unknown", scorer=name, near=near[0] if near else NAMES[0], known=", ".join(NAMES))
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        if not equals or option.strip() not in _OPTIONS.get(name, ()):
            known = ", ".join(f"{o}=…" for o in _OPTIONS.get(name, ())) or "-"
            raise fail("score.bad_option", scorer=name, option=part.strip(), known=known)
        options[option.strip()] = value.strip()
    return name, options


def _whole(options: Mapping[str, str], name: str) -> int | None:
    value = options.get(name)
    if value is None:
        return None
    if not value.isdigit():
        raise fail("score.bad_option", scorer="length", option=f"{name}={value}", known="min=10, max=400")
    return int(value)
