"""What a JSON value is in a column: its JSON type decides, never what its text reads like.

`1.5` is no whole number, `"12"` no number and `"no"` no boolean: in columns of these types they are NULL. Times, dates,
UUIDs and decimals are texts in JSON. A text is one of them if it has the form that msgspec reads and writes: for times
and dates that is RFC 3339, where the offset may be missing. No value is rounded to fit, except to the microsecond.

`json` is SQL for a value as DuckDB writes JSON: `12`, `"12"`, `true`. It is mentioned several times, so it has to be
cheap: a column, or an element of a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from eventlog.indexer.sql import literal
from eventlog.indexer.views.promoted import NOTHING

# DuckDB takes the year 0000 for 1 BC, and reads many other forms of times: `2024-1-2`, `epoch`, times without minutes.
_DATE = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
_OFFSET = "[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9]"
#: The times that Python knows.
_TIMES = "TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
#: Above 15 digits, a number with a fraction or an exponent may have been rounded when it became a double.
_EXACT_MAX_CHARS = len("999999999999999.0")
_INTEGERS = frozenset({"SMALLINT", "INTEGER", "BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT"})
_QUOTED = '"{}"'
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def field(name: str, kind: str, absent: str = NOTHING, *, payload: str = "payload") -> str:
    """Return SQL for a top-level field of a payload as a value of a DuckDB type.

    `absent` is SQL for the JSON that counts where the payload does not have the field.
    """
    json = f"{payload} -> {literal(pointer(name))}"
    if kind == "JSON":
        return json if absent == NOTHING else f"coalesce({json}, ({absent})::JSON)"
    return of_expression(f"({json})::VARCHAR" if absent == NOTHING else f"coalesce(({json})::VARCHAR, {absent})", kind)


def pointer(name: str) -> str:
    """Return the JSON pointer of a top-level field (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def of_json(json: str, kind: str) -> str:
    """Return SQL for a JSON value as a value of a DuckDB type; NULL where it is none.

    VARCHAR is for everything: a text is itself, and anything else is shown as it stands in the payload.
    """
    if decimal := _DECIMAL.fullmatch(kind):
        return _of_decimal(json, kind, int(decimal[2]))
    if kind in _INTEGERS:
        return _of_integer(json, kind)
    rule = _RULES.get(kind)
    return f"TRY_CAST({_of_text(json)} AS {kind})" if rule is None else rule(json)  # of a source of somebody else's


def of_expression(json: str, kind: str) -> str:
    """Return the same for SQL that takes time, such as one that parses a payload: it is evaluated once."""
    return f"[{of_json('value', kind)} FOR value IN [{json}]][1]"


def unfit(values: Mapping[str, tuple[str, str]]) -> str:
    """Return SQL for the values that are there and do not fit their columns, as `{"count": 1.5}`; NULL if all fit.

    `values` has SQL for the JSON and for the value of each column, by the name of the field.
    """
    if not values:
        return "NULL::JSON"
    misfits = {name: f"({value}) IS NULL AND {json} <> 'null'" for name, (json, value) in values.items()}
    entries = ", ".join(
        f"CASE WHEN {misfits[name]} THEN {{'k': {literal(name)}, 'v': {json}::JSON}} END"
        for name, (json, _) in values.items()
    )
    is_any = " OR ".join(f"({misfit})" for misfit in misfits.values())
    return f"CASE WHEN {is_any} THEN to_json(map_from_entries(list_filter([{entries}], lambda e: e IS NOT NULL))) END"


# -- rules -----------------------------------------------------------------------------------


def _inner(json: str) -> str:
    """Return SQL for a text of plain characters, without its quotes."""
    return f"substring({json}, 2, strlen({json}) - 2)"


def _has_form(json: str, form: str) -> str:
    return f"regexp_full_match({json}, {literal(form)})"


def _of_text(json: str) -> str:
    return f"json_extract_string({json}, '$')"


def _of_anything(json: str) -> str:
    return f"{json}::JSON"


def _of_boolean(json: str) -> str:
    return f"CASE {json} WHEN 'true' THEN true WHEN 'false' THEN false END"


def _of_double(json: str) -> str:
    number = f"TRY_CAST({json} AS DOUBLE)"  # a text has quotes, and 1e400 is infinite
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def _of_integer(json: str, kind: str) -> str:
    number = f"TRY_CAST({json} AS {kind})"  # would round 1.5
    is_whole = f"ends_with({json}, '.0') AND strlen({json}) <= {_EXACT_MAX_CHARS}"
    other = f"CASE WHEN {is_whole} THEN {number} END"
    return f"CASE WHEN contains({json}, '.') OR contains({json}, 'e') THEN {other} ELSE {number} END"


def _of_decimal(json: str, kind: str, scale: int) -> str:
    """A text or a number: msgspec reads both."""
    text = f"trim({json}, '\"')"
    plain = _has_form(json, rf'"?[+-]?(?:[0-9]+\.?[0-9]{{0,{scale}}}0*|\.[0-9]{{1,{scale}}}0*)"?')
    with_exponent = _has_form(json, r'"?[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,3}"?')
    exponent = rf"regexp_extract({text}, '[eE]([+-]?[0-9]+)', 1)::INTEGER"
    decimals = rf"strlen(regexp_extract({text}, '\.([0-9]*?)0*[eE]', 1)) - {exponent}"
    is_zero = _has_form(text, "[+-]?[0.]+[eE].*")
    number = f"TRY_CAST({text} AS {kind})"
    return f"""CASE WHEN {plain} THEN {number}
        WHEN {with_exponent} THEN CASE WHEN {decimals} <= {scale} OR {is_zero} THEN {number} END END"""


def _of_uuid(json: str) -> str:
    """With hyphens or without."""
    is_text = f"starts_with({json}, '\"') AND strlen({json}) IN (34, 38)"
    return f"CASE WHEN {is_text} THEN TRY_CAST({_inner(json)} AS UUID) END"


def _of_date(json: str) -> str:
    return f"CASE WHEN {_has_form(json, _QUOTED.format(_DATE))} THEN TRY_CAST({_inner(json)} AS DATE) END"


def _in_utc(text: str) -> str:
    """Return SQL for a time with an offset: DuckDB's cast to TIMESTAMP ignores the offset."""
    return f"TRY(make_timestamp(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ))))"


def _of_timestamp(json: str) -> str:
    text = f"upper({_inner(json)})"
    utc = _in_utc(text)
    is_utc = _has_form(json, _QUOTED.format(f"{_DATE}[Tt ]{_CLOCK}[Zz]?"))
    has_offset = _has_form(json, _QUOTED.format(f"{_DATE}[Tt ]{_CLOCK}{_OFFSET}"))
    return f"""CASE WHEN {is_utc} THEN TRY_CAST({text} AS TIMESTAMP)
        WHEN {has_offset} THEN CASE WHEN {utc} BETWEEN {_TIMES} THEN {utc} END END"""


def _of_time(json: str) -> str:
    is_utc = _has_form(json, _QUOTED.format(f"{_CLOCK}[Zz]?"))
    has_offset = _has_form(json, _QUOTED.format(_CLOCK + _OFFSET))
    utc = _in_utc(f"'2000-01-02T' || {_inner(json)}")
    return f"""CASE WHEN {is_utc} THEN TRY_CAST(rtrim({_inner(json)}, 'Zz') AS TIME)
        WHEN {has_offset} THEN {utc}::TIME END"""


_RULES: dict[str, Callable[[str], str]] = {
    "VARCHAR": _of_text,
    "JSON": _of_anything,
    "BOOLEAN": _of_boolean,
    "DOUBLE": _of_double,
    "UUID": _of_uuid,
    "DATE": _of_date,
    "TIME": _of_time,
    "TIMESTAMP": _of_timestamp,
}
