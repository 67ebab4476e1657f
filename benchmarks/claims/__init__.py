"""Experiments behind the claims in docs/claims.md: one command each, on a CPU, over three seeds.

    python -m benchmarks.claims.kto_lifts [--seeds 3] [--quick] [--work DIR] [--out FILE]

Each script trains with the product's own worker (in this process, because importing the engines costs seconds), judges on
held-out rows, and writes one JSON file. `python -m benchmarks.claims.tables` makes the documentation's tables of them.
"""
