"""What the GPUs do and who waits for them."""

from __future__ import annotations

from swiftshell.api.gpus import gpus_facts, queue_facts
from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.session import Session
from swiftshell.render.gpus import print_gpus, print_queue


def show(session: Session) -> None:
    """Look, tell, and wait until it was read."""
    print()
    print_gpus(gpus_facts())
    print()
    print_queue(queue_facts())
    prompts.pause(t("menu.gpus"))
