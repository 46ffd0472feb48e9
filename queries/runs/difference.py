"""Compares two runs, or two sessions: their properties, steps, tool calls and prompts.

Steps and tool calls are aligned like the lines of two texts: items that both runs have in the same order are paired.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.indexer.views.definitions import FAILED
from eventlog.queries.identity import Scope
from eventlog.queries.rows import rows_as
from eventlog.queries.runs import call_costs, lookup, payloads
from eventlog.queries.runs.lookup import Run, Session

#: Steps or tool calls of each that are compared; the time to align them grows with the square.
ALIGNED_MAX = 2_000
_SHOWN_CHARS = 200
_AROUND_CHARS = 60
_FIELDS = (
    "name", "task", "agent", "project", "workspace", "status", "outcome", "error_type", "error_message",
    "duration_ms", "steps",
    "llm_calls", "llm_failures", "tool_calls", "tool_failures", "errors", "uncached_input_tokens", "cache_read_tokens",
    "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip

State = Literal["same", "changed", "only_a", "only_b"]


class Change(msgspec.Struct, frozen=True):
    """A property that differs, such as `status`, with the values of run a and run b."""

    field: str
    a: Any
    b: Any


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A step or a tool call of one run. `detail` is compared, too: a step's kind and error, or a call's arguments."""

    event_id: str
    name: str
    detail: str
    duration_ms: float | None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """An item of run a and its counterpart in run b; None where only the other run has it."""

    state: State
    a: Item | None
    b: Item | None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The first model call whose prompts differ: the number of the call (from 1) and the character (from 0).

    `a` and `b` are excerpts around this character; "" where the run has no such call, or no more text.
    """

    call: int
    at: int
    a: str
    b: str
    a_event_id: str | None
    b_event_id: str | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How run or session `b` differs from `a`. `cut` is true if one had more than ALIGNED_MAX steps or calls."""

    a: Run | Session
    b: Run | Session
    changes: list[Change]
    steps: list[Pair]
    tool_calls: list[Pair]
    prompt: Prompt | None
    cut: bool

    @property
    def same(self) -> bool:
        """Whether the runs differ in nothing but times and durations."""
        return (
            all(change.field == "duration_ms" for change in self.changes)
            and all(pair.state == "same" for pair in (*self.steps, *self.tool_calls))
            and self.prompt is None
        )


def compare(connection: duckdb.DuckDBPyConnection, root: Path, id_a: str, id_b: str) -> Difference:
    """Compare two runs, or two sessions. Any unique prefix of their ids works. Raises QueryFailed for unknown ids.

    Of an id that a run and a session have, the run is meant, unless the other one is a session.
    """
    ids = (id_a, id_b)
    scopes = _both(connection, lookup.find_run, ids) or _both(connection, lookup.find_session, ids)
    if scopes is None:
        for id_ in ids:
            if lookup.find_run(connection, id_) is None and lookup.find_session(connection, id_) is None:
                raise lookup.run_or_session_not_found(id_)
        raise QueryFailed(f"of {id_a!r} and {id_b!r} one is a run and one a session; compare two of one kind")
    return difference(connection, root, *scopes)


def _both(
    connection: duckdb.DuckDBPyConnection, find: Callable[..., Scope | None], ids: tuple[str, str]
) -> tuple[Scope, Scope] | None:
    a, b = (find(connection, id_) for id_ in ids)
    return (a, b) if a is not None and b is not None else None


def difference(connection: duckdb.DuckDBPyConnection, root: Path, scope_a: Scope, scope_b: Scope) -> Difference:
    """Return how run or session `b` differs from `a`. Raises QueryFailed for a run that was neither begun nor ended."""
    a, b = _read(connection, scope_a), _read(connection, scope_b)
    steps = [_items(connection, _STEPS, scope) for scope in (scope_a, scope_b)]
    calls = [_items(connection, _TOOL_CALLS, scope) for scope in (scope_a, scope_b)]
    return Difference(
        a=a,
        b=b,
        changes=[*_changes(a, b), *_sums(connection, scope_a, scope_b)],
        steps=aligned(*(items[:ALIGNED_MAX] for items in steps)),
        tool_calls=aligned(*(items[:ALIGNED_MAX] for items in calls)),
        prompt=_first_prompt(connection, root, scope_a, scope_b),
        cut=any(len(items) > ALIGNED_MAX for items in (*steps, *calls)),
    )


def _read(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Run | Session:
    read = lookup.read_run if scope.column == "run_id" else lookup.read_session
    found = read(connection, scope)
    if found is None:
        raise lookup.run_or_session_not_found(scope.id)
    return found


# -- properties ------------------------------------------------------------------------------

_CALLS_BY_MODEL = """
    SELECT coalesce(model, 'unknown'), count(*) FROM llm_calls WHERE {scope} GROUP BY 1 ORDER BY 1
"""


def _changes(a: Run | Session, b: Run | Session) -> Iterable[Change]:
    for field in _FIELDS:
        value_a, value_b = getattr(a, field, None), getattr(b, field, None)
        # The outcome tells something new only of a run with the status "running" of its own, and one under way.
        if value_a != value_b and (field != "outcome" or getattr(a, "status", None) == getattr(b, "status", None)):
            yield Change(field, value_a, value_b)


def _sums(connection: duckdb.DuckDBPyConnection, a: Scope, b: Scope) -> Iterable[Change]:
    for field, read in (("models", _calls_by_model), ("cost_usd", _cost_usd)):
        value_a, value_b = read(connection, a), read(connection, b)
        if value_a != value_b:
            yield Change(field, value_a, value_b)


def _calls_by_model(connection: duckdb.DuckDBPyConnection, run: Scope) -> dict[str, int]:
    return dict(connection.execute(run.within(_CALLS_BY_MODEL), run.params).fetchall())


def _cost_usd(connection: duckdb.DuckDBPyConnection, run: Scope) -> Any:
    return call_costs.total(call_costs.read_costs(connection, run).values())


# -- steps and tool calls --------------------------------------------------------------------

_STEPS = f"""
    SELECT event_id::VARCHAR AS event_id, coalesce(name, 'step') AS name,
           kind || CASE WHEN {FAILED} THEN ', failed: ' || coalesce(error_type, '') ELSE '' END AS detail, duration_ms
    FROM steps WHERE {{scope}} ORDER BY started, steps.event_id LIMIT {ALIGNED_MAX + 1}
"""
_TOOL_CALLS = f"""
    SELECT event_id::VARCHAR AS event_id, coalesce(tool, 'tool_call') AS name,
           coalesce(input::VARCHAR, '') || CASE WHEN {FAILED} THEN ' failed' WHEN ok IS NULL THEN ' without a result'
                                                ELSE '' END AS detail, duration_ms
    FROM tool_calls WHERE {{scope}} ORDER BY timestamp, tool_calls.event_id LIMIT {ALIGNED_MAX + 1}
"""


def _items(connection: duckdb.DuckDBPyConnection, statement: str, run: Scope) -> list[Item]:
    return rows_as(Item, connection.execute(run.within(statement), run.params))


def aligned(a: Sequence[Item], b: Sequence[Item]) -> list[Pair]:
    """Pair the items that have the same name in the same order; items that are equal in detail are paired first."""
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
            for item_a, item_b in zip(block_a, block_b, strict=True):
                yield Pair(state="same" if item_a.detail == item_b.detail else "changed", a=item_a, b=item_b)
            continue
        yield from (Pair(state="only_a", a=item, b=None) for item in block_a)
        yield from (Pair(state="only_b", a=None, b=item) for item in block_b)


def _short(pair: Pair) -> Pair:
    """Shorten the details: of a changed pair to excerpts around the first difference, else to the beginning."""
    a, b = pair.a, pair.b
    at = first_difference(a.detail, b.detail) if a and b and pair.state == "changed" else 0
    return Pair(state=pair.state, a=_cut(a, at), b=_cut(b, at))


def _cut(item: Item | None, at: int) -> Item | None:
    return None if item is None else msgspec.structs.replace(item, detail=around(item.detail, at))


def first_difference(a: str, b: str) -> int:
    """Return the index of the first character in which two texts differ; the shorter length if none does."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # binary search: prompts may have megabytes
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def around(text: str, at: int) -> str:
    """Return an excerpt around a character, with "…" where the text goes on."""
    start = max(at - _AROUND_CHARS, 0)
    end = start + _SHOWN_CHARS
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


# -- prompts ---------------------------------------------------------------------------------

#: Only recorded calls have whole prompts. Of a prompt that is stored in blobs (eventlog.log.blobs) the hashes are
#: compared. Of imported sessions, what users said is compared.
_PROMPTS = f"""
    SELECT event_id::VARCHAR, md5(concat_ws(chr(10), payload ->> 'system_instructions', payload ->> 'input_messages'))
    FROM events WHERE {{scope}} AND event_type = 'llm_call' ORDER BY timestamp, event_id LIMIT {ALIGNED_MAX}
"""
_IMPORTED_PROMPTS = f"""
    SELECT event_id::VARCHAR, text FROM messages
    WHERE {{scope}} AND role = 'user' AND kind = 'text' AND subagent_id IS NULL AND source <> 'message'
    ORDER BY timestamp, messages.event_id LIMIT {ALIGNED_MAX}
"""


def _first_prompt(connection: duckdb.DuckDBPyConnection, root: Path, a: Scope, b: Scope) -> Prompt | None:
    first = _first_differing(connection, _PROMPTS, a, b)
    if first is not None:
        call, (id_a, _), (id_b, _) = first
        text_a, text_b = _prompt(connection, root, id_a, a.workspace), _prompt(connection, root, id_b, b.workspace)
    else:
        first = _first_differing(connection, _IMPORTED_PROMPTS, a, b)
        if first is None:
            return None
        call, (id_a, text_a), (id_b, text_b) = first
    if not text_a and not text_b:  # calls without prompts, of which one run has more
        return None
    at = first_difference(text_a, text_b)
    return Prompt(call=call, at=at, a=around(text_a, at), b=around(text_b, at), a_event_id=id_a, b_event_id=id_b)


def _first_differing(
    connection: duckdb.DuckDBPyConnection, statement: str, a: Scope, b: Scope
) -> tuple[int, tuple[str | None, str], tuple[str | None, str]] | None:
    """Return the number (from 1) of the first rows that differ in their second column, and these; None if none do."""
    rows_a, rows_b = (connection.execute(scope.within(statement), scope.params).fetchall() for scope in (a, b))
    pairs = enumerate(itertools.zip_longest(rows_a, rows_b, fillvalue=(None, "")), 1)
    return next(((number, row_a, row_b) for number, (row_a, row_b) in pairs if row_a[1] != row_b[1]), None)


def _prompt(connection: duckdb.DuckDBPyConnection, root: Path, event_id: str | None, workspace: str | None) -> str:
    """Return the prompt of a model call as one text: its instructions, then its messages as JSON."""
    if event_id is None:
        return ""
    payload = payloads.read_payloads(connection, root, [event_id], workspace).get(event_id, {})
    parts = [payload.get(name) for name in ("system_instructions", "input_messages")]
    texts = [
        part if isinstance(part, str) else msgspec.json.encode(part).decode() for part in parts if part is not None
    ]
    return "\n".join(texts)
