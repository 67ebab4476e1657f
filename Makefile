# Short names for ./install.sh; each does what its own line says and nothing more.
.PHONY: help setup setup-serve demo test soak check lint types

help:
	@./install.sh --help

setup:
	./install.sh setup

setup-serve:
	./install.sh setup-serve

demo:
	./install.sh demo

# make test TIER=default
test:
	./install.sh test --tier $(or $(TIER),all)

# make soak TIMES=20: kill runner and worker at every named moment, that many times each
soak:
	SWIFTSHELL_SOAK=$(or $(TIMES),20) ./install.sh test --tier default -- tests/runner tests/claims

check:
	./install.sh check

lint:
	.venv/bin/ruff check . && .venv/bin/lint-imports

types:
	.venv/bin/mypy
