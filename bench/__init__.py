"""The benchmarks: how fast eventlog is, compared with what people would use instead.

`python -m bench` measures and prints a table; `make bench` installs the other programs first and writes
bench/results.json, docs/bench.svg and the tables of docs/benchmarks.md and docs/performance.md.
"""
