"""A second count of everything, from the raw lines of the log: it shares no code with the product.

    <root>/log/*/*.jsonl ── log.py ──→ events ──→ runs, calls, tools, sessions, requests, costs, metrics, health, alerts

The rules are those of docs/schema.md, docs/metrics.md and docs/cost.md, written down again with dictionaries and loops.
The modules import the standard library alone, and `library.py` the price list; `test_independence.py` sees to it. What
Codex sessions used is known from how they were written (`rollouts.py`), and not counted at all.
"""
