"""Reserve a GPU for a process that a front starts and ends itself (a conversation), outside of any run."""

from __future__ import annotations

from swiftshell.claims.claim import Grant, allowed_gpus, at_once
from swiftshell.claims.tickets import Want
from swiftshell.errors import EXIT_NO_RESOURCES, Problem, SwiftshellError, fail
from swiftshell.machine.gpu import gpus, unknown_names, visible


def for_conversation(name: str) -> Grant | None:
    """Return a held GPU; None where there is none, or where CUDA_VISIBLE_DEVICES asks for the CPU.

    Raises:
        SwiftshellError: all are in use, with who or what uses them (exit 5).
    """
    found = gpus()
    if found == [] or (found and not visible(found) and not unknown_names(found)):
        return None
    if found is None:
        raise _busy(Problem("gpus.wait_driver", severity="note"))
    want = Want(run=name, step="chat", stage="chat", gpus=1, allowed=allowed_gpus(found, 1), priority="interactive")
    try:
        answer = at_once(want)
    except OSError as error:
        where = str(error.filename or "")
        raise fail("gpus.claim_failed", exit_code=EXIT_NO_RESOURCES, step="chat", path=where,
                   reason=error.strerror or str(error)) from error  # fmt: skip
    if isinstance(answer, Problem):
        raise _busy(answer)
    return answer


def _busy(why: Problem) -> SwiftshellError:
    return SwiftshellError([Problem("gpus.chat_busy"), why], EXIT_NO_RESOURCES)
