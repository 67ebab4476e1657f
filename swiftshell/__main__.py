"""Run `python -m swiftshell` as the `swiftshell` command."""

from swiftshell.cli.main import entry

entry()
