"""Reading usage objects in SQL: the rules of eventlog.format.usage, made of the same tables.

    promoted(…)        a promoted column of readings: a usage object is read once, when it is indexed
    columns(reading)   such a reading → the columns of `llm_calls` that it gives, by name, and `advice`
    with_advice(calls) calls with the column `advice` → all calls: those, and one for each call of an advisor

Lines reach the index without passing through Python one by one, so this is SQL; a test holds it to the same values as
Python. It is an interpreter: all values that any dialect may have are taken out at once, and constants say, per
dialect, which of them are what. A CASE for each dialect would take DuckDB too long to plan, anew for every statement.
It goes in steps, each a sub-select over the one before: lambdas within lambdas bind a value to a name as well, but each
doubles the time to plan.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventlog.format.usage_dialects import (
    ADDED,
    ADVISOR,
    ANTHROPIC,
    COUNT_MAX,
    DIALECTS,
    FAST,
    INFERENCE_GEO,
    ITERATIONS,
    ITERATIONS_END,
    LISTS,
    PARTS,
    SERVICE_TIER,
    SHOWN_MAX_CHARS,
    SPEED,
    SUMMED,
    SUMS,
    TOKENS,
    WEB_SEARCHES,
    Dialect,
    Path,
)  # fmt: skip
from eventlog.indexer.sql import ident, literal
from eventlog.indexer.views.promoted import PromotedColumn

#: What a reading gives besides the counts, and its type.
_OTHERS = {
    "service_tier": "VARCHAR", "web_searches": "BIGINT", "inference_geo": "VARCHAR", "usage_problem": "VARCHAR",
    "advice": "VARCHAR",
}  # fmt: skip
_COLUMNS = {**dict.fromkeys(TOKENS, "BIGINT"), **_OTHERS}


def columns(reading: str) -> dict[str, str]:
    """Return the columns that a reading gives, as `{"output_tokens": "TRY_CAST(r[5] AS BIGINT)", …}`.

    `reading` is the name of a promoted column of `promoted` as a list: `"…"::JSON::VARCHAR[]`. Counts are NULL where
    the object has none. `advice` is the JSON that `with_advice` unnests.
    """
    return {
        name: f"{reading}[{number}]" if kind == "VARCHAR" else f"TRY_CAST({reading}[{number}] AS {kind})"
        for number, (name, kind) in enumerate(_COLUMNS.items(), start=1)
    }


def with_advice(calls: str) -> str:
    """Return a query of calls and of what advisors used inside of them; `calls` is the name of a WITH part.

    Its columns must have `advice` and the columns of `llm_calls` that are replaced below; what else there is, each call
    of an advisor has as its call does. What a program says that a call cost is the cost of all of it, so that its
    advisors cost nothing beside it.
    """
    return f"""
    SELECT * EXCLUDE advice FROM {calls}
    UNION ALL BY NAME
    SELECT * EXCLUDE (advice, advised, number) REPLACE (
               concat(message_id, {literal(f"#{ADVISOR}/")}, number) AS message_id, advised.model AS model,
               {", ".join(f"coalesce(advised.{name}, 0) AS {name}" for name in TOKENS[:-1])},
               advised.{TOKENS[-1]} AS {TOKENS[-1]}, NULL AS stop_reason,
               coalesce(advised.service_tier, nullif(service_tier, {literal(FAST)})) AS service_tier,
               advised.raw_usage AS raw_usage, advised.usage_problem AS usage_problem, NULL AS web_searches,
               NULL AS output_chars, NULL AS latency_ms,
               CASE WHEN reported_cost_usd IS NOT NULL THEN 0 END AS reported_cost_usd
           )
    FROM (
        SELECT *, unnest(from_json(advice, {_ADVISED})) AS advised,
               generate_subscripts(from_json(advice, {_ADVISED}), 1) AS number
        FROM {calls} WHERE advice IS NOT NULL
    )
    """


_ADVISED = literal(
    msgspec.json.encode([
        {"model": "VARCHAR", **dict.fromkeys(TOKENS, "BIGINT"), "service_tier": "VARCHAR",
         "usage_problem": "VARCHAR", "raw_usage": "JSON"}
    ]).decode()
)  # fmt: skip

# -- values ----------------------------------------------------------------------------------


def _list(values: object, kind: str) -> str:
    """Return SQL for a constant list. As a text it is one constant; DuckDB takes long over thousands of them."""
    return f"({literal(msgspec.json.encode(values).decode())}::JSON::{kind})"


#: How many places each part of a dialect has: as many as the dialect with the most alternatives.
_WIDTHS = {part: max(len(getattr(dialect, part)) for dialect in DIALECTS) for part in PARTS}
_WIDTH = sum(_WIDTHS.values())


class _Values:
    """The values of some dialects in one list, and for each dialect, which of them are its parts.

    `p` is the list of all values, `q` that of one dialect's: the parts in their order, each with as many places as
    _WIDTHS says. Values are JSON texts, and NULL where there is none.
    """

    def __init__(self, dialects: Iterable[Dialect], others: Iterable[Path]) -> None:
        self._dialects = tuple(dialects)
        paths = [path for dialect in self._dialects for path in dialect.paths()]
        marks: list[Path] = [(mark,) for dialect in self._dialects for mark in dialect.marks]
        listed = sorted({path for path in paths if path[0] in LISTS})
        holders: list[Path] = [path[:1] for path in (*paths, *others) if len(path) == 2]
        plain = dict.fromkeys(path for path in (*marks, *paths, *holders, *others) if path not in listed)
        self._pointers = ["/" + "/".join(path) for path in plain]
        self._listed = listed
        self._places = {path: place for place, path in enumerate([*plain, *listed], start=1)}

    def at(self, path: Path, p: str) -> str:
        """Return SQL for one of the values."""
        return f"nullif({p}[{self._places[path]}], 'null')"

    def all(self, source: str) -> str:
        """Return SQL for `p`; `null` may stand for NULL in it."""
        plain = f"json_extract({source}, {_list(self._pointers, 'VARCHAR[]')})::VARCHAR[]"
        if not self._listed:
            return plain
        # No pointer leads into a list; it is looked for where there is one.
        is_list = f"json_type({source}, {literal(f'/{self._listed[0][0]}')}) = 'ARRAY'"
        listed = ", ".join(_in_list(path, source) for path in self._listed)
        return f"CASE WHEN {is_list} THEN list_concat({plain}, [{listed}]) ELSE {plain} END"

    def dialect(self, p: str) -> str:
        """Return SQL for the number of the dialect, or NULL."""
        if len(self._dialects) == 1:
            return "1"
        cases = []
        for number, dialect in enumerate(self._dialects, start=1):
            marked = " OR ".join(f"{p}[{self._places[(mark,)]}] <> 'null'" for mark in dialect.marks)
            cases.append(f"WHEN {marked} THEN {number}")
        return f"CASE {' '.join(cases)} END"

    def parts(self, p: str, d: str) -> str:
        """Return SQL for `q`."""
        slots = [[self._places[path] if path else 0 for path in _slots(dialect)] for dialect in self._dialects]
        return f"list_transform(list_select({p}, {_list(slots, 'BIGINT[][]')}[{d}]), lambda x: nullif(x, 'null'))"

    def includes(self, d: str) -> str:
        """Return SQL for whether the input includes the cache."""
        return f"{_list([dialect.input_includes_cache for dialect in self._dialects], 'BOOLEAN[]')}[{d}]"

    def odd(self, p: str, d: str, q: str, c: str) -> str:
        """Return SQL for the first thing that stands where a count or what holds it should, as `input_tokens: -4`."""
        holders, kinds, names = [], [], []
        for dialect in self._dialects:
            paths = _slots(dialect)
            holders.append([self._places[path[:1]] if path and len(path) == 2 else 0 for path in paths])
            kinds.append(["[" if path and path[0] in LISTS else "{" for path in paths])
            names.append([".".join(path) if path else "" for path in paths])
        found = f"list_select({p}, {_list(holders, 'BIGINT[][]')}[{d}])"
        kind, name = f"{_list(kinds, 'VARCHAR[][]')}[{d}]", f"{_list(names, 'VARCHAR[][]')}[{d}]"
        rows = f"list_zip({found}, {kind}, {q}, {c}, {name})"
        odd = f"""list_any_value(list_transform({rows}, lambda x: CASE
            WHEN x[1] <> 'null' AND x[1][1] <> x[2] THEN split_part(x[5], '.', 1) || ': ' || {shown("x[1]")}
            WHEN x[3] IS NOT NULL AND x[4] IS NULL THEN x[5] || ': ' || {shown("x[3]")} END))"""
        # Most objects have nothing odd, which is found out without looking at each value.
        unusual = f"list_has_any(list_transform({found}, lambda x: x[1] = '{{' OR x = 'null'), [false])"
        return f"CASE WHEN list_count({q}) <> list_count({c}) OR {unusual} THEN {odd} END"


def _slots(dialect: Dialect) -> list[Path | None]:
    return [
        path
        for part, width in _WIDTHS.items()
        for path in (*getattr(dialect, part), *[None] * (width - len(getattr(dialect, part))))
    ]


def _in_list(path: Path, source: str) -> str:
    kind, count = (literal(f"/{name}") for name in LISTS[path[0]])
    entries = f"json_extract({source}, {literal(f'$.{path[0]}[*]')})"
    return f"(list_filter({entries}, lambda e: e ->> {kind} = {literal(path[-1])})[1] -> {count})::VARCHAR"


_TYPE: Path = ("type",)
_MODEL: Path = ("model",)
_ITERATIONS: Path = (ITERATIONS,)
_OF_CALL = _Values(DIALECTS, (*WEB_SEARCHES, SERVICE_TIER, SPEED, INFERENCE_GEO, _ITERATIONS))
_OF_ENTRY = _Values((ANTHROPIC,), (_TYPE, _MODEL, SPEED))


def _count(value: str) -> str:
    """Return SQL for the count that a JSON text is; NULL for what is none."""
    number = f"TRY_CAST({value} AS DOUBLE)"
    return f"CASE WHEN {number} BETWEEN 0 AND {COUNT_MAX} AND {number} = trunc({number}) THEN {number}::BIGINT END"


def _counts(values: str) -> str:
    return f"list_transform({values}, lambda x: {_count('x')})"


def shown(value: str) -> str:
    """Return SQL for a JSON text as it is shown in a problem."""
    return f"""CASE WHEN {value} IS NULL THEN 'null' WHEN {value}[1] = '{{' THEN 'an object'
        WHEN {value}[1] = '[' THEN 'a list' WHEN abs(TRY_CAST({value} AS DOUBLE)) > {COUNT_MAX} THEN 'a huge number'
        ELSE left({value}, {SHOWN_MAX_CHARS}) END"""


def _text(value: str) -> str:
    """Return SQL for the text that a JSON text is; NULL for an empty one, and for anything else."""
    return f"CASE WHEN {value}[1] = '\"' THEN nullif(json_extract_string({value}, '$'), '') END"


def _odd_text(path: Path, value: str) -> str:
    said = literal(".".join(path) + ": ")
    return f"CASE WHEN {value}[1] <> '\"' THEN {said} || {shown(value)} END"


# -- counts ----------------------------------------------------------------------------------


def _struct(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f"{literal(name)}: {value}" for name, value in fields.items()) + "}"


def _parts(c: str, includes: str) -> str:
    """Return SQL for the counts of the parts, by name, and whether the input includes the cache."""
    parts, place = {}, 1
    for part, width in _WIDTHS.items():
        of_part = [f"{c}[{number}]" for number in range(place, place + width)]
        parts[part] = f"list_sum([{', '.join(of_part)}])::BIGINT" if part in SUMS else f"coalesce({', '.join(of_part)})"
        place += width
    return _struct({**parts, "includes": includes})


def _sums(s: str) -> str:
    """Return SQL for what the parts `s` add up to."""
    by_duration = f"coalesce({s}.cache_write_5m, 0) + coalesce({s}.cache_write_1h, 0)"
    written = f"coalesce({s}.cache_write, coalesce({s}.cache_write_rest, 0) + {by_duration})"
    output = f"""CASE WHEN {s}.reasoning > 0 AND {s}.total = coalesce({s}.input, 0) + {s}.output + {s}.reasoning
        THEN {s}.output + {s}.reasoning ELSE {s}.output END"""
    cached = f"coalesce({s}.cache_read, 0) + {written}"
    return _struct({"by_duration": by_duration, "cached": cached, "output": output})


def _tokens(s: str, w: str) -> str:
    """Return SQL for the counts of TOKENS, and the problem with them, of the parts `s` and their sums `w`."""
    fits = f"NOT coalesce({s}.includes AND {w}.cached > {s}.input, false)"
    splits = f"NOT coalesce({w}.by_duration > {s}.cache_write, false)"
    thinks = f"NOT coalesce({s}.reasoning > {w}.output, false)"
    counts = [
        f"CASE WHEN {s}.includes AND {fits} THEN {s}.input - {w}.cached ELSE {s}.input END",
        f"CASE WHEN {fits} THEN {s}.cache_read END",
        f"""CASE WHEN NOT ({fits}) THEN NULL
            WHEN {s}.cache_write IS NULL THEN list_sum([{s}.cache_write_rest, {s}.cache_write_5m])::BIGINT
            WHEN {splits} THEN {s}.cache_write - coalesce({s}.cache_write_1h, 0) ELSE {s}.cache_write END""",
        f"CASE WHEN {fits} AND {splits} THEN {s}.cache_write_1h END",
        f"{w}.output",
        f"CASE WHEN {thinks} THEN {s}.reasoning END",
    ]
    problem = f"""CASE WHEN NOT ({fits}) THEN concat('cache: ', {w}.cached, ' of ', {s}.input, ' input tokens')
        WHEN NOT ({thinks}) THEN concat('reasoning: ', {s}.reasoning, ' of ', {w}.output, ' output tokens') END"""
    return _struct({"counts": f"[{', '.join(counts)}]::BIGINT[]", "problem": problem})


# -- iterations ------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return literal(msgspec.json.encode(text).decode())


def _entry() -> str:
    """Return SQL for what an entry of the iterations adds: `counts`, a `problem`, an advisor's call.

    `e.raw` is the entry, `e.p` are its values, `e.odd` says what is odd in it, and `e.t` what it counts.
    """
    kind, model = _OF_ENTRY.at(_TYPE, "e.p"), _OF_ENTRY.at(_MODEL, "e.p")
    problem = "coalesce(e.odd, e.t.problem)"
    is_fast = f"{_OF_ENTRY.at(SPEED, 'e.p')} = {_quoted(FAST)}"
    advised = {
        "model": _text(model),
        **{name: f"e.t.counts[{number}]" for number, name in enumerate(TOKENS, start=1)},
        "service_tier": f"CASE WHEN {is_fast} THEN {literal(FAST)} END",
        "usage_problem": f"coalesce({problem}, {_odd_text(_MODEL, model)})",
        "raw_usage": "e.raw",
    }
    added = {
        "counts": f"CASE WHEN {kind} = {_quoted(ADDED)} THEN e.t.counts END",
        "problem": f"""CASE WHEN {kind} = {_quoted(ADDED)} THEN '{ITERATIONS}.' || {problem}
            WHEN {kind} IN ({", ".join(map(_quoted, (*SUMMED, ADVISOR)))}) THEN NULL
            ELSE '{ITERATIONS}: unknown type ' || {shown(kind)} END""",
        "advised": f"CASE WHEN {kind} = {_quoted(ADVISOR)} THEN {_struct(advised)} END",
    }
    return _struct(added)


# -- all of it -------------------------------------------------------------------------------


def promoted(event_type: str, field: str, usage: str, before: Iterable[tuple[str, str]] = ()) -> PromotedColumn:
    """Return a promoted column of readings. `usage` is SQL for a usage object, as JSON.

    It is SQL over `payload` and the steps `before` it. The column holds what `columns` takes apart: a JSON list, or
    NULL where there is no usage object.
    """
    steps = list(before)

    def step(name: str, expression: str) -> str:
        steps.append((f"{event_type}/{field}/{name}", expression))
        return ident(steps[-1][0])

    u = step("usage", usage)
    p = step("values", f"CASE WHEN json_type({u}) = 'OBJECT' THEN {_OF_CALL.all(u)} END")
    d = step("dialect", _OF_CALL.dialect(p))
    q = step("of_dialect", _OF_CALL.parts(p, d))
    c = step("counts", _counts(q))
    odd = step("odd", _OF_CALL.odd(p, d, q, c))
    s = step("parts", _parts(c, _OF_CALL.includes(d)))
    w = step("sums", _sums(s))
    t = step("tokens", _tokens(s, w))
    entries = f"CASE WHEN json_type({u}, '/{ITERATIONS}') = 'ARRAY' THEN json_extract({u}, '$.{ITERATIONS}[*]') END"
    e = step("entries", f"list_transform({entries}, lambda e: {{'raw': e, 'p': {_OF_ENTRY.all('e')}}})")
    odd_entry = _OF_ENTRY.odd("e.p", "1", "e.q", "e.c")
    for name, more in (
        ("entry_of_dialect", {"q": _OF_ENTRY.parts("e.p", "1")}),
        ("entry_counts", {"q": "e.q", "c": _counts("e.q")}),
        ("entry_parts", {"odd": odd_entry, "s": _parts("e.c", _OF_ENTRY.includes("1"))}),
        ("entry_sums", {"odd": "e.odd", "s": "e.s", "w": _sums("e.s")}),
        ("entry_tokens", {"odd": "e.odd", "t": _tokens("e.s", "e.w")}),
    ):
        e = step(name, f"list_transform({e}, lambda e: {_struct({'raw': 'e.raw', 'p': 'e.p', **more})})")
    e = step("added", f"list_transform({e}, lambda e: {_entry()})")
    k = step("all_counts", _with_added(t, e))
    o = step("other_odd", _other_odd(p))
    return PromotedColumn(event_type, field, "VARCHAR", _reading(u, p, d, t, odd, o, e, k), tuple(steps))


def _all_read(e: str) -> str:
    return f"len({e}) BETWEEN 1 AND {ITERATIONS_END - 1}"


def _with_added(t: str, e: str) -> str:
    """Return SQL for the counts of the call, with those of its compaction."""
    every = f"[{t}.counts] || list_transform({e}, lambda e: e.counts)"
    added = f"list_transform(range(1, {len(TOKENS) + 1}), lambda i: list_sum(list_transform({every}, lambda x: x[i])))"
    return f"CASE WHEN {_all_read(e)} THEN {added}::BIGINT[] ELSE {t}.counts END"


def _other_odd(p: str) -> str:
    """Return SQL for the first odd thing beside the counts of the dialect."""
    places: dict[Path, str] = {path[:1]: "{" for path in WEB_SEARCHES if len(path) == 2}
    places |= dict.fromkeys(WEB_SEARCHES, "") | dict.fromkeys((SERVICE_TIER, SPEED, INFERENCE_GEO), '"')
    values = ", ".join(_OF_CALL.at(path, p) for path in places)
    names = [".".join(path) for path in places]
    rows = f"list_zip([{values}], {_list(list(places.values()), 'VARCHAR[]')}, {_list(names, 'VARCHAR[]')})"
    is_odd = f"CASE WHEN x[2] = '' THEN {_count('x[1]')} IS NULL ELSE x[1][1] <> x[2] END"
    return f"""list_any_value(list_transform({rows}, lambda x:
        CASE WHEN x[1] IS NOT NULL AND {is_odd} THEN x[3] || ': ' || {shown("x[1]")} END))"""


def _reading(u: str, p: str, d: str, t: str, odd: str, other_odd: str, e: str, k: str) -> str:
    """Return SQL for all that `columns` gives, as a JSON list."""
    advised = f"list_filter(list_transform({e}, lambda e: e.advised), lambda e: e IS NOT NULL)"
    named = f"list_filter(list_zip(json_keys({u}), json_extract({u}, '$.*')::VARCHAR[]), lambda x: x[2] <> 'null')"
    names = f"left(array_to_string(list_transform({named}, lambda x: x[1]), ', '), {SHOWN_MAX_CHARS})"
    iterations, tier = _OF_CALL.at(_ITERATIONS, p), _OF_CALL.at(SERVICE_TIER, p)
    problem = f"""coalesce(
        CASE WHEN {d} IS NULL THEN 'no known count among ' || nullif({names}, '') END,
        {odd}, {t}.problem, {other_odd},
        CASE WHEN {iterations} IS NULL THEN NULL WHEN {e} IS NULL THEN '{ITERATIONS}: ' || {shown(iterations)}
             WHEN len({e}) >= {ITERATIONS_END} THEN '{ITERATIONS}: {ITERATIONS_END} entries or more'
             ELSE list_any_value(list_transform({e}, lambda e: e.problem)) END)"""
    is_fast = f"{_OF_CALL.at(SPEED, p)} = {_quoted(FAST)}"
    others = {
        "service_tier": f"CASE WHEN {is_fast} THEN {literal(FAST)} ELSE {_text(tier)} END",
        "web_searches": f"coalesce({', '.join(_count(_OF_CALL.at(path, p)) for path in WEB_SEARCHES)})",
        "inference_geo": _text(_OF_CALL.at(INFERENCE_GEO, p)),
        "usage_problem": problem,
        "advice": f"CASE WHEN {_all_read(e)} AND len({advised}) > 0 THEN {advised} END",
    }
    counts = (f"{k}[{number}]" for number in range(1, len(TOKENS) + 1))
    values = ", ".join([*counts, *(others[name] for name in _OTHERS)])
    return f"CASE WHEN {p} IS NOT NULL THEN json_array({values})::VARCHAR END"
