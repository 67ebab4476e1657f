"""Say what went wrong as facts: a code, the values found, the place. Fronts turn them into sentences.

A `Problem` never holds a finished sentence. Its `code` is a key of the message catalogue (`swiftshell/i18n`), whose
entry `<code>` is the sentence and whose entry `<code>.hint` is the one thing to do; both are formatted with `values`.
That is what lets Chinese and English, terminal and JSON, say the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

# Exit codes of the command line; documented in docs/reference and asserted by tests.
EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2  # usage, or an error in recipe, data or input found before the start
EXIT_STAGE = 3  # a stage failed, or a gate said no
EXIT_AUTH = 4  # gated model, missing or refused token
EXIT_NO_RESOURCES = 5
EXIT_RUNNING = 8
EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing, with its place.

    `row` counts data rows from 1; `line` and `column` count from 1 in `file`. `field` is the name of the column or the
    dotted path of the recipe key.
    """

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = None
    line: int | None = None
    column: int | None = None
    row: int | None = None
    field_name: str | None = None
    severity: Severity = "error"

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON form (absent places are left out)."""
        out: dict[str, Any] = {"code": self.code, "severity": self.severity, "values": dict(self.values)}
        for key in ("file", "line", "column", "row", "field_name"):
            if getattr(self, key) is not None:
                out[key] = getattr(self, key)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Problem:
        """Rebuild a problem from `as_json` output, ignoring keys of newer versions."""
        known = {k: data[k] for k in ("file", "line", "column", "row", "field_name", "severity") if k in data}
        return cls(code=str(data.get("code", "core.unknown")), values=dict(data.get("values", {})), **known)


class SwiftshellError(Exception):
    """A failure a user may see: one or more problems and the exit code they lead to.

    Engines raise it for what the user can mend; anything else that escapes an engine is a defect and is reported as
    such, with the log's path.
    """

    def __init__(self, problems: Problem | Iterable[Problem], exit_code: int = EXIT_USAGE) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.exit_code = exit_code
        super().__init__("; ".join(f"{p.code} {dict(p.values)}" for p in self.problems))

    def __str__(self) -> str:
        """Return the sentences in the current language (what a notebook shows)."""
        from swiftshell.i18n import sentence

        return "\n".join(sentence(p) for p in self.problems)


def fail(
    code: str,
    *,
    exit_code: int = EXIT_USAGE,
    file: str | None = None,
    line: int | None = None,
    column: int | None = None,
    row: int | None = None,
    field_name: str | None = None,
    **values: Any,
) -> SwiftshellError:
    """Build an error of one problem; the caller raises it, and `values` fill the sentence."""
    problem = Problem(code, values, file=file, line=line, column=column, row=row, field_name=field_name)
    return SwiftshellError(problem, exit_code)
