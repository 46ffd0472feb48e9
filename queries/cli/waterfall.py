"""A tree as lines for a terminal: what, when and for how long (as a bar), tokens, cost.

The bars share one scale, from the first beginning to the last end. A line never is wider than it may be:
where the terminal is narrow, first the calls inside a step go, then the bar, then the cost, then the tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal

from eventlog.cli.text import counted, printable
from eventlog.queries.runs.lookup import Run
from eventlog.queries.runs.nodes import Node
from eventlog.queries.runs.tree import Tree
from eventlog.queries.text import bars, cells
from eventlog.queries.text.units import duration

#: More lines than anybody reads; programs ask for JSON.
LINES_MAX = 2_000
WIDTH_MIN = 24
_DEPTH_MAX = 12
_BAR_MIN, _BAR_MAX = 10, 60
#: The calls inside a step are shown where the bar keeps this width.
_BAR_BESIDE_CALLS = 36
_LABEL_MIN = 24
_ARGUMENT_CHARS = 30
_MARKS = {"llm_call": "◆", "tool_call": "▸", "error": "✗", "message": "“", "step": ""}
#: They say what the head of the page says already, or only that time went by.
_UNSEEN = ("run_started", "run_finished", "heartbeat")

#: Colours a line that tells of a node.
Style = Callable[[str, Node], str]


def lines(tree: Tree, width: int, *, style: Style, usd: Callable[[Decimal], str], with_bars: bool = True) -> list[str]:
    """Return the lines of a tree, at most `width` columns wide."""
    shown = [node for node in tree.nodes if node.event_type not in _UNSEEN]
    drawn = shown[:LINES_MAX]
    labels = [_guide(prefix) + _label(node) for prefix, node in _prefixed(drawn)]
    layout = _Layout(max(width, WIDTH_MIN), labels, tree, usd, with_bars=with_bars)
    found = [style(layout.line(label, node), node) for label, node in zip(labels, drawn, strict=True)]
    return found + [cells.cut(each, layout.width) for each in _left_out(tree, len(shown) - len(drawn))]


def _left_out(tree: Tree, undrawn: int) -> Iterator[str]:
    if undrawn:
        yield f"… {counted(undrawn, 'more line')}; --json has them"
    if tree.left_out:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in tree.left_out.items())
        yield f"… not in this tree: {printable(kinds)}"
    unseen = sum(node.event_type == "heartbeat" for node in tree.nodes)
    if unseen:
        yield f"… {counted(unseen, 'heartbeat')}"


class _Layout:
    """Which columns there are, and how wide."""

    def __init__(
        self, width: int, labels: list[str], tree: Tree, usd: Callable[[Decimal], str], *, with_bars: bool
    ) -> None:
        self.width = width
        self._usd = usd
        begun = tree.started, tree.run.started if tree.run else None
        over = tree.finished, tree.run.finished if tree.run else None
        self._start = min((each for each in begun if each), default=None)
        end = max((each for each in over if each), default=None)
        self._span_s = (end - self._start).total_seconds() if self._start and end else 0.0
        calls = [node for node in tree.nodes if node.input_tokens or node.output_tokens]
        tokens = max((len(_tokens(node)) for node in calls), default=0)
        costs = max((len(usd(node.cost_usd)) for node in tree.nodes if node.cost_usd is not None), default=0)
        widest = max(_LABEL_MIN, width * 2 // 5) if with_bars else width
        wanted = min(max(map(cells.width, labels), default=0), widest)
        self._duration = max((len(duration(node.duration_ms)) for node in tree.nodes), default=0)
        fixed = min(wanted, _LABEL_MIN)
        left = width - _taken(self._duration)
        self._tokens = tokens if left - _taken(tokens) >= fixed else 0
        left -= _taken(self._tokens)
        self._costs = costs if left - _taken(costs) >= fixed else 0
        left -= _taken(self._costs)
        has_bar = with_bars and self._span_s > 0 and left - _taken(_BAR_MIN) >= fixed
        inside = max((len(_inside(node)) for node in tree.nodes), default=0)
        self._inside = inside if left - _taken(inside) - _taken(_BAR_BESIDE_CALLS) >= wanted else 0
        left -= _taken(self._inside)
        self._bar = min(max(left - 2 - wanted, _BAR_MIN), _BAR_MAX) if has_bar else 0
        self._label = min(wanted, left - _taken(self._bar))

    def line(self, label: str, node: Node) -> str:
        parts = [cells.left(label, self._label)]
        if self._bar:
            parts.append(self._bar_of(node))
        parts.append(cells.right(duration(node.duration_ms), self._duration))
        if self._inside:
            parts.append(cells.left(_inside(node), self._inside))
        if self._tokens:
            parts.append(cells.right(_tokens(node), self._tokens))
        if self._costs:
            parts.append(cells.right("" if node.cost_usd is None else self._usd(node.cost_usd), self._costs))
        return "  ".join(parts).rstrip()

    def _bar_of(self, node: Node) -> str:
        assert self._start is not None
        return bars.between(
            _part(node.started, self._start, self._span_s), _part(node.finished, self._start, self._span_s), self._bar
        )


def _taken(columns: int) -> int:
    """Return the place of a column: two spaces stand before it."""
    return columns + 2 if columns else 0


def _part(moment: datetime, start: datetime, span_s: float) -> float:
    return min(max((moment - start).total_seconds() / span_s, 0.0), 1.0)


# -- labels ----------------------------------------------------------------------------------


def _prefixed(nodes: list[Node]) -> Iterator[tuple[list[bool], Node]]:
    """Yield each node with, for each level above it, whether a sibling follows there."""
    follows: list[bool] = []
    last_at: dict[int, int] = {}
    has_next = [False] * len(nodes)
    for place in range(len(nodes) - 1, -1, -1):
        depth = nodes[place].depth
        has_next[place] = depth in last_at
        last_at[depth] = place
        for deeper in [each for each in last_at if each > depth]:
            del last_at[deeper]
    for place, node in enumerate(nodes):
        del follows[node.depth :]
        follows += [False] * (node.depth - len(follows))
        follows.append(has_next[place])
        yield follows[1:], node


def _guide(follows: list[bool]) -> str:
    if not follows:
        return ""
    deep = f"{len(follows) - _DEPTH_MAX}… " if len(follows) > _DEPTH_MAX else ""
    above = follows[-_DEPTH_MAX:-1]
    return deep + "".join("│ " if each else "  " for each in above) + ("├ " if follows[-1] else "└ ")


def _label(node: Node) -> str:
    mark = _MARKS.get(node.event_type, "·")
    name = node.name if node.name == node.event_type or node.event_type in _MARKS else f"{node.event_type} {node.name}"
    if node.is_group:
        return node.name
    kind = f" ({node.kind})" if node.kind and node.kind != "action" else ""
    more = {True: "", None: " (no result)"}.get(node.ok, f" ✗ {node.error or 'failed'}")
    if node.event_type == "tool_call" and node.text:
        more = f" {_brief(node.text)}{more}"
    if node.event_type in ("message", "debug_event", "decision_trace", "score", "artifact") and node.text:
        more += f" {node.text}"
    if node.event_type == "error":
        more = f" {node.error}" if node.error and node.error != node.name else ""
    return printable(f"{mark} {name}{kind}{more}".strip())


def _brief(argument: str) -> str:
    """Of a path, its end tells more than its beginning."""
    if len(argument) <= _ARGUMENT_CHARS:
        return argument
    is_path = "/" in argument and not any(each.isspace() for each in argument)
    return f"…{argument[1 - _ARGUMENT_CHARS :]}" if is_path else f"{argument[: _ARGUMENT_CHARS - 1]}…"


def _inside(node: Node) -> str:
    """Return the calls inside a step, a turn or a cycle, and how many of them failed: `3◆ 12▸ 1✗`."""
    if node.event_type == "llm_call":
        return ""
    counts = ((node.llm_calls, "◆"), (node.tool_calls, "▸"), (node.failures, "✗"))
    return " ".join(f"{count:,}{mark}" for count, mark in counts if count)


def _tokens(node: Node) -> str:
    return f"{node.input_tokens:,} → {node.output_tokens:,}" if node.input_tokens or node.output_tokens else ""


# -- around the tree -------------------------------------------------------------------------


def head(run: Run, shown: Callable[[datetime | None], str]) -> list[tuple[str, str]]:
    """Return what stands above the tree of a run, as names and values."""
    took = f" ({duration(run.duration_ms)})" if run.duration_ms is not None else ""
    began = f"{shown(run.started)} → {shown(run.finished) or 'not over'}{took}"
    error = ": ".join(each for each in (run.error_type, run.error_message) if each)
    entries = [
        ("run", " ".join(each for each in (run.run_id, run.name) if each)),
        ("note", f"this id was used by {run.starts:,} runs" if run.starts is not None and run.starts > 1 else ""),
        ("note", _clock(run)),
        ("status", status(run) + (f": {error}" if error else "")),
        ("when", began),
        ("task", run.task or ""),
        ("agent", run.agent or ""),
        ("workspace", run.workspace or ""),
        ("session", run.session_id or ""),
        ("part of", run.parent_run_id or ""),
    ]
    return [(name, printable(value)) for name, value in entries if value]


def status(run: Run) -> str:
    """Return the status of a run for people; a finished run that says "running" of itself is not under way."""
    has_own_word = run.finished is not None and run.status in ("running", "abandoned")
    return f'{run.outcome} ("{run.status}")' if has_own_word else run.status


def _clock(run: Run) -> str:
    if run.started is None or run.finished is None or run.finished >= run.started:
        return ""
    ahead = duration((run.started - run.finished).total_seconds() * 1000)
    return f"its end is stamped {ahead} before its start: a clock was set back, or two clocks differ"


def totals(tree: Tree, usd: Callable[[Decimal], str]) -> str:
    """Return the line below the tree."""
    kinds = {"step": "step", "llm_call": "model call", "tool_call": "tool call"}
    parts = []
    for kind, noun in kinds.items():
        count = sum(node.event_type == kind for node in tree.nodes) + tree.left_out.get(kind, 0)
        ends = Counter(node.ok for node in tree.nodes if node.event_type == kind)
        named = {"failed": ends[False], "without a result": ends[None]}
        notes = ", ".join(f"{number:,} {word}" for word, number in named.items() if number)
        if count:
            parts.append(counted(count, noun) + (f" ({notes})" if notes else ""))
    parts.append(f"{tree.input_tokens:,} → {tree.output_tokens:,} tokens")
    if tree.cost_usd is not None:
        parts.append(usd(tree.cost_usd) + (f" ({tree.unpriced:,} calls without a price)" if tree.unpriced else ""))
    return ", ".join(parts)
