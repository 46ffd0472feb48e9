"""The benchmarks: how fast eventlog is, beside what one would take instead.

`python -m bench` measures and prints a table; `make bench` installs the peers first and writes
bench/results.json, docs/bench.svg and the tables of docs/benchmarks.md and docs/performance.md.
"""
