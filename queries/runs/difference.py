"""Where two runs differ: what they say of themselves, their steps, their tool calls, their prompts.

Steps and tool calls are aligned as a text's lines are: what both have in the same order belongs together.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from eventlog.queries.identity import Named
from eventlog.queries.runs import call_costs, lookup, payloads
from eventlog.queries.runs.lookup import Run

#: Per run. Aligning takes time that grows with the square of it.
ALIGNED_MAX = 2_000
_SHOWN_CHARS = 200
_AROUND_CHARS = 60
_FIELDS = (
    "name", "task", "agent", "workspace", "status", "error_type", "error_message", "duration_ms", "steps", "llm_calls",
    "llm_failures", "tool_calls", "tool_failures", "errors", "uncached_input_tokens", "cache_read_tokens",
    "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip

State = Literal["same", "changed", "only_a", "only_b"]


class Change(msgspec.Struct, frozen=True):
    """A property that differs."""

    field: str
    a: Any
    b: Any


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A step, or a tool call, of one run. `detail` is what is compared besides its name."""

    event_id: str
    name: str
    detail: str
    duration_ms: float | None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at the same place of both runs, or in one of them only."""

    state: State
    a: Item | None
    b: Item | None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The first of the model calls whose prompts differ: the `call`th (from 1), at a character of the prompt.

    `a` and `b` are what stands around it; "" where the run has no such call, or no more text.
    """

    call: int
    at: int
    a: str
    b: str
    a_event_id: str | None
    b_event_id: str | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where run `b` differs from run `a`. `cut` says that a run had more than ALIGNED_MAX steps or calls."""

    a: Run
    b: Run
    changes: list[Change]
    steps: list[Pair]
    tool_calls: list[Pair]
    prompt: Prompt | None
    cut: bool

    @property
    def same(self) -> bool:
        """Whether nothing but times and durations differs."""
        return (
            all(change.field == "duration_ms" for change in self.changes)
            and all(pair.state == "same" for pair in (*self.steps, *self.tool_calls))
            and self.prompt is None
        )


def difference(connection: duckdb.DuckDBPyConnection, root: Path, a: Run, b: Run) -> Difference:
    """Compare two runs."""
    changes = [
        Change(field, getattr(a, field), getattr(b, field))
        for field in _FIELDS
        if getattr(a, field) != getattr(b, field)
    ]
    for field, of in (("models", _models), ("cost_usd", _cost)):
        ours, theirs = of(connection, _named(a)), of(connection, _named(b))
        if ours != theirs:
            changes.append(Change(field, ours, theirs))
    steps = [_items(connection, _STEPS, _named(run)) for run in (a, b)]
    calls = [_items(connection, _TOOL_CALLS, _named(run)) for run in (a, b)]
    return Difference(
        a=a,
        b=b,
        changes=changes,
        steps=aligned(*(each[:ALIGNED_MAX] for each in steps)),
        tool_calls=aligned(*(each[:ALIGNED_MAX] for each in calls)),
        prompt=_first_prompt(connection, root, _named(a), _named(b)),
        cut=any(len(each) > ALIGNED_MAX for each in (*steps, *calls)),
    )


def _named(run: Run) -> Named:
    return Named("run_id", run.run_id, run.workspace)


def _models(connection: duckdb.DuckDBPyConnection, run: Named) -> dict[str, int]:
    """Return how many calls there were of each model."""
    rows = connection.execute(
        f"SELECT coalesce(model, 'unknown'), count(*) FROM llm_calls WHERE {run.condition} GROUP BY 1 ORDER BY 1",
        run.params,
    ).fetchall()
    return dict(rows)


def _cost(connection: duckdb.DuckDBPyConnection, run: Named) -> Any:
    known = call_costs.costs(connection, run).values()
    return sum(known) if known else None


# -- what is aligned -------------------------------------------------------------------------

_STEPS = f"""
    SELECT event_id::VARCHAR, coalesce(name, 'step'),
           kind || CASE WHEN ok THEN '' ELSE ', failed: ' || coalesce(error_type, '') END, duration_ms
    FROM steps WHERE {{condition}} ORDER BY started, event_id LIMIT {ALIGNED_MAX + 1}
"""
_TOOL_CALLS = f"""
    SELECT event_id::VARCHAR, coalesce(tool, 'tool_call'),
           coalesce(input::VARCHAR, '') || CASE WHEN ok THEN '' ELSE ' failed' END, duration_ms
    FROM tool_calls WHERE {{condition}} ORDER BY timestamp, event_id LIMIT {ALIGNED_MAX + 1}
"""


def _items(connection: duckdb.DuckDBPyConnection, query: str, run: Named) -> list[Item]:
    rows = connection.execute(query.format(condition=run.condition), run.params).fetchall()
    return [Item(event_id=row[0], name=row[1], detail=row[2], duration_ms=row[3]) for row in rows]


def aligned(a: Sequence[Item], b: Sequence[Item]) -> list[Pair]:
    """Pair what has the same name in the same order; what is equal in detail as well goes first."""
    return [
        _short(pair)
        for block_a, block_b in _blocks(a, b, [(x.name, x.detail) for x in a], [(x.name, x.detail) for x in b])
        for pair in _paired(block_a, block_b)
    ]


def _blocks(
    a: Sequence[Item], b: Sequence[Item], keys_a: Sequence[object], keys_b: Sequence[object]
) -> Iterable[tuple[Sequence[Item], Sequence[Item]]]:
    matcher = difflib.SequenceMatcher(None, keys_a, keys_b, autojunk=False)
    for _, a_from, a_to, b_from, b_to in matcher.get_opcodes():
        yield a[a_from:a_to], b[b_from:b_to]


def _paired(a: Sequence[Item], b: Sequence[Item]) -> Iterable[Pair]:
    for block_a, block_b in _blocks(a, b, [x.name for x in a], [x.name for x in b]):
        if [x.name for x in block_a] == [x.name for x in block_b]:
            for one, other in zip(block_a, block_b, strict=True):
                yield Pair(state="same" if one.detail == other.detail else "changed", a=one, b=other)
            continue
        yield from (Pair(state="only_a", a=each, b=None) for each in block_a)
        yield from (Pair(state="only_b", a=None, b=each) for each in block_b)


def _short(pair: Pair) -> Pair:
    """Shorten the details, for a pair that differs to what is around the first difference."""
    a, b = pair.a, pair.b
    at = first_difference(a.detail, b.detail) if a and b and pair.state == "changed" else 0
    return Pair(state=pair.state, a=_cut(a, at), b=_cut(b, at))


def _cut(item: Item | None, at: int) -> Item | None:
    return None if item is None else msgspec.structs.replace(item, detail=around(item.detail, at))


def first_difference(a: str, b: str) -> int:
    """Return at which character two texts begin to differ."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # by halves: prompts may have megabytes
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def around(text: str, at: int) -> str:
    """Return what stands around a character, with ellipses where there is more."""
    start = max(at - _AROUND_CHARS, 0)
    end = start + _SHOWN_CHARS
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


# -- prompts ---------------------------------------------------------------------------------

#: Of recorded calls: imported lines hold what was added, not what was sent. Of a prompt that is kept apart
#: (eventlog.log.blobs) the hashes are compared.
_PROMPTS = f"""
    SELECT event_id::VARCHAR, md5(concat_ws(chr(10), payload ->> 'system_instructions', payload ->> 'input_messages'))
    FROM events WHERE {{condition}} AND event_type = 'llm_call' ORDER BY timestamp, event_id LIMIT {ALIGNED_MAX}
"""


def _first_prompt(connection: duckdb.DuckDBPyConnection, root: Path, a: Named, b: Named) -> Prompt | None:
    ours, theirs = (
        connection.execute(_PROMPTS.format(condition=run.condition), run.params).fetchall() for run in (a, b)
    )
    calls = itertools.zip_longest(ours, theirs, fillvalue=(None, None))
    differing = ((number, one[0], other[0]) for number, (one, other) in enumerate(calls, 1) if one[1] != other[1])
    first = next(differing, None)
    if first is None:
        return None
    call, a_id, b_id = first
    one, other = _prompt(connection, root, a_id, a.workspace), _prompt(connection, root, b_id, b.workspace)
    at = first_difference(one, other)
    return Prompt(call=call, at=at, a=around(one, at), b=around(other, at), a_event_id=a_id, b_event_id=b_id)


def _prompt(connection: duckdb.DuckDBPyConnection, root: Path, event_id: str | None, workspace: str | None) -> str:
    """Return a prompt as one text: instructions as they are, messages as JSON."""
    if event_id is None:
        return ""
    payload = payloads.of(connection, root, [event_id], workspace).get(event_id, {})
    parts = [payload.get(name) for name in ("system_instructions", "input_messages")]
    texts = [
        part if isinstance(part, str) else msgspec.json.encode(part).decode() for part in parts if part is not None
    ]
    return "\n".join(texts)


def compare(connection: duckdb.DuckDBPyConnection, root: Path, given_a: str, given_b: str) -> Difference:
    """Compare two runs by their ids, or what these begin with. Raises QueryFailed."""
    runs = []
    for given in (given_a, given_b):
        named = lookup.run_named(connection, given)
        run = lookup.run(connection, named) if named is not None else None
        if run is None:
            raise lookup.no_such_run(given)
        runs.append(run)
    return difference(connection, root, *runs)
