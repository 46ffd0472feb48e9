"""Entries as a conversation: turns, subagents below the tool calls that started them, and sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec

from eventlog.format import payloads
from eventlog.queries.conversation import reading
from eventlog.queries.conversation.reading import Call, Entry, LeftOut, Result, Thing
from eventlog.queries.conversation.structs import Branch, Conversation, Message, ToolUse, Totals, Turn
from eventlog.queries.identity import Scope
from eventlog.queries.rows import rows_as_dicts
from eventlog.queries.runs import call_costs, lookup, requests

_SESSION = "SELECT title, title_source, agent, project FROM sessions WHERE {scope}"
_COPIED = "SELECT count(*) FROM copies WHERE {scope}"
#: What a run was asked, which is the prompt where no other one was recorded.
_TASK = "task"


def find_scope(connection: duckdb.DuckDBPyConnection, prefix: str) -> Scope | None:
    """Return the run, else the session, that an id means; None for a request. Any unique prefix of an id works.

    Raises QueryFailed if there is none of them, or if several ids start so.
    """
    scope = lookup.find_run(connection, prefix) or lookup.find_session(connection, prefix)
    if scope is None and requests.find_request(connection, prefix) is None:
        raise lookup.not_found(prefix)
    return scope


def read_conversation(
    connection: duckdb.DuckDBPyConnection, root: Path, scope: Scope, *, text_chars: int = reading.TEXT_MAX_CHARS
) -> Conversation:
    """Return what was said and done in a run or a session; of each text the first `text_chars` characters."""
    costs = call_costs.read_costs(connection, scope)
    read = reading.read_entries(connection, root, scope, text_chars=text_chars)
    entries = _without_tasks(read.entries)
    main, branches = _by_speaker(entries, scope.id, costs)
    turns = [_turn(number, part, costs) for number, part in _in_turns(_with_branches(main, branches))]
    is_run = scope.column == "run_id"
    run = lookup.read_run(connection, scope) if is_run else None
    (session,) = ([] if is_run else rows_as_dicts(connection.execute(scope.within(_SESSION), scope.params))) or [{}]
    ((copied,),) = connection.execute(scope.within(_COPIED), scope.params).fetchall()
    calls = [entry.thing for entry in entries if isinstance(entry.thing, Call)]
    started, finished = _span(entries)
    return Conversation(
        kind="run" if is_run else "session",
        id=scope.id,
        workspace=scope.workspace,
        title=run.name if run is not None else session.get("title"),
        title_source=session.get("title_source"),
        agent=run.agent if run is not None else session.get("agent"),
        project=session.get("project"),
        models=sorted({call.model for call in calls if call.model}),
        session_id=scope.id if not is_run else run.session_id if run is not None else None,
        run=run,
        started=started,
        finished=finished,
        turns=turns,
        totals=_totals((entry.thing for entry in entries), costs),
        runs=lookup.child_runs(connection, scope) if is_run else lookup.runs_in(connection, scope),
        copied_lines=copied,
        left_out_items=read.left_out_items,
        left_out_chars=read.left_out_chars,
    )


def has_words(conversation: Conversation) -> bool:
    """Say whether anything was said: a conversation of nothing but calls of tools is better drawn as a tree."""
    return any(
        isinstance(item, Branch) or (isinstance(item, Message) and item.kind in ("text", "thinking", "summary"))
        for turn in conversation.turns
        for item in turn.items
    )


def _without_tasks(entries: list[Entry]) -> list[Entry]:
    """Return the entries with the task of a run as its prompt where it has answers and no prompt, else without it."""
    has_prompts = any(map(_is_prompt, entries))
    has_answers = any(
        isinstance(entry.thing, Message) and entry.thing.role == "assistant" and entry.thing.kind == "text"
        for entry in entries
    )
    kept: list[Entry] = []
    for entry in entries:
        if isinstance(entry.thing, Message) and entry.thing.kind == _TASK:
            if has_answers and not has_prompts:
                kept.append(entry._replace(thing=msgspec.structs.replace(entry.thing, kind="text")))
        else:
            kept.append(entry)
    return kept


def _is_prompt(entry: Entry) -> bool:
    thing = entry.thing
    return isinstance(thing, Message) and thing.role == "user" and thing.kind == "text"


# -- speakers --------------------------------------------------------------------------------


class _Spoken(msgspec.Struct):
    """What one speaker said and did: the main conversation, or a subagent. Results are at their calls."""

    entries: list[Entry]
    #: Where the call with an id stands.
    calls: dict[str, int]

    def add(self, entry: Entry) -> None:
        """Add an entry, or the result to an earlier one."""
        thing = entry.thing
        if isinstance(thing, Result):
            self._add_result(thing, entry)
            return
        if isinstance(thing, ToolUse) and thing.tool_call_id is not None:
            self.calls[thing.tool_call_id] = len(self.entries)
        self.entries.append(entry)

    def _add_result(self, result: Result, entry: Entry) -> None:
        place = self.calls.get(result.tool_call_id)
        if place is not None:
            before = self.entries[place]
            assert isinstance(before.thing, ToolUse)
            if before.thing.result is None:
                thing = msgspec.structs.replace(before.thing, result=result.text, result_chars=len(result.text))
                self.entries[place] = before._replace(thing=thing)


def _by_speaker(
    entries: Iterable[Entry], session_id: str, costs: dict[str, Decimal]
) -> tuple[list[Entry], list[Branch]]:
    """Return the entries of the main conversation, and the subagents in the order in which they began.

    A session that is a subagent's own (as those of Codex are) is the main conversation of itself.
    """
    spoken: dict[str | None, _Spoken] = {None: _Spoken([], {})}
    for entry in entries:
        speaker = None if entry.subagent_id == session_id else entry.subagent_id
        spoken.setdefault(speaker, _Spoken([], {})).add(entry)
    main = spoken.pop(None).entries
    return main, [_branch(str(name), each.entries, costs) for name, each in spoken.items()]


def _branch(subagent_id: str, entries: list[Entry], costs: dict[str, Decimal]) -> Branch:
    started, finished = _span(entries)
    items = [entry.thing for entry in entries if isinstance(entry.thing, Message | ToolUse)]
    totals = _totals((entry.thing for entry in entries), costs)
    return Branch(subagent_id=subagent_id, items=items, totals=totals, started=started, finished=finished)


def _with_branches(main: list[Entry], branches: list[Branch]) -> list[Entry | Branch]:
    """Return the main conversation with each subagent at the tool call that started it, else where it began.

    That is the call whose arguments hold the subagent's prompt, else the last one that was begun before it and was not
    over when it began.
    """
    below: dict[int, list[Branch]] = {}
    loose: list[tuple[int, Branch]] = []
    for branch in branches:
        place = _caller(main, branch)
        if place is not None:
            below.setdefault(place, []).append(branch)
        else:
            loose.append((_begun(main, branch.started), branch))
    placed: list[Entry | Branch] = []
    for number, entry in enumerate(main):
        placed += [branch for at, branch in loose if at == number]
        thing = entry.thing
        if number in below and isinstance(thing, ToolUse):
            thing = msgspec.structs.replace(thing, branches=below[number])
        placed.append(entry._replace(thing=thing))
    return placed + [branch for at, branch in loose if at >= len(main)]


def _caller(main: list[Entry], branch: Branch) -> int | None:
    calls = [(number, entry.thing) for number, entry in enumerate(main) if isinstance(entry.thing, ToolUse)]
    prompt = next((item.text for item in branch.items if isinstance(item, Message) and item.role == "user"), None)
    if prompt:
        for number, call in calls:
            if prompt in _texts(call.arguments):
                return number
    if branch.started is None:
        return None
    around = [number for number, call in calls if _is_around(call, branch.started)]
    return around[-1] if around else None


def _texts(arguments: str) -> list[str]:
    value = payloads.decode(arguments.encode(errors="replace"))
    return [each for each in value.values() if isinstance(each, str)] if isinstance(value, dict) else []


def _is_around(call: ToolUse, moment: datetime) -> bool:
    if call.timestamp is None or call.timestamp > moment:
        return False
    return call.result is None or (moment - call.timestamp).total_seconds() * 1000 <= (call.duration_ms or 0)


def _begun(main: list[Entry], moment: datetime | None) -> int:
    """Return the number of the first entry after a moment."""
    later = (
        number for number, entry in enumerate(main)
        if moment is not None and entry.timestamp is not None and entry.timestamp > moment
    )  # fmt: skip
    return next(later, len(main))


# -- turns -----------------------------------------------------------------------------------


def _in_turns(entries: list[Entry | Branch]) -> Iterator[tuple[int | None, list[Entry | Branch]]]:
    """Yield the number and the entries of each turn; see Turn."""
    are_numbered = any(isinstance(entry, Entry) and entry.turn_number is not None for entry in entries)
    number: int | None = None if are_numbered else 1
    part: list[Entry | Branch] = []
    for entry in entries:
        if part and isinstance(entry, Entry) and _begins(entry, number, part):
            yield number, part
            number, part = entry.turn_number if are_numbered else (number or 0) + 1, []
        elif isinstance(entry, Entry) and entry.turn_number is not None:
            number = entry.turn_number
        part.append(entry)
    if part:
        yield number, part


def _begins(entry: Entry, number: int | None, part: list[Entry | Branch]) -> bool:
    """Say whether an entry begins another turn than that of `part`: by its number, else as a prompt after an answer."""
    if entry.turn_number is not None:
        return entry.turn_number != number
    return _is_prompt(entry) and not all(map(_is_before_answer, part))


def _is_before_answer(entry: Entry | Branch) -> bool:
    """Say whether an entry belongs to what is asked: a prompt may have several texts, and notes around it."""
    return isinstance(entry, Entry) and isinstance(entry.thing, Message) and entry.thing.role in ("user", "system")


def _turn(number: int | None, entries: list[Entry | Branch], costs: dict[str, Decimal]) -> Turn:
    own = [entry for entry in entries if isinstance(entry, Entry)]
    started, finished = _span(own)
    items: list[Message | ToolUse | Branch] = []
    for entry in entries:
        if isinstance(entry, Branch):
            items.append(entry)
        elif isinstance(entry.thing, Message | ToolUse):
            items.append(entry.thing)
    inside = [item for item in items if isinstance(item, Branch)]
    inside += [branch for item in items if isinstance(item, ToolUse) for branch in item.branches]
    totals = _totals((entry.thing for entry in own), costs)
    return Turn(
        number=number, started=started, finished=finished, items=items,
        totals=_sum([totals, *(branch.totals for branch in inside)]),
    )  # fmt: skip


def _span(entries: Iterable[Entry]) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last moment of entries; a tool call is over when it has its result."""
    begun, over = [], []
    for entry in entries:
        if entry.timestamp is not None:
            took_ms = entry.thing.duration_ms if isinstance(entry.thing, ToolUse) else None
            begun.append(entry.timestamp)
            over.append(entry.timestamp)
            with suppress(OverflowError):  # a duration that leads out of the calendar
                over.append(entry.timestamp + timedelta(milliseconds=took_ms or 0))
    return min(begun, default=None), max(over, default=None)


# -- sums ------------------------------------------------------------------------------------


def _totals(things: Iterable[Thing], costs: dict[str, Decimal]) -> Totals:
    calls: list[Call] = []
    tools: list[ToolUse | LeftOut] = []
    for thing in things:
        if isinstance(thing, Call):
            calls.append(thing)
        elif isinstance(thing, ToolUse | LeftOut):
            tools.append(thing)
    priced = [costs[call.event_id] for call in calls if call.event_id in costs]
    return Totals(
        llm_calls=len(calls),
        llm_failures=sum(call.ok is False for call in calls),
        tool_calls=len(tools),
        tool_failures=sum(tool.ok is False for tool in tools),
        tool_unknown=sum(tool.ok is None for tool in tools),
        input_tokens=sum(call.input_tokens for call in calls),
        output_tokens=sum(call.output_tokens for call in calls),
        cost_usd=call_costs.total(priced),
        unpriced=len(calls) - len(priced),
    )


def _sum(parts: list[Totals]) -> Totals:
    counts = {
        name: sum(getattr(each, name) for each in parts) for name in Totals.__struct_fields__ if name != "cost_usd"
    }
    return Totals(**counts, cost_usd=call_costs.total(each.cost_usd for each in parts))
