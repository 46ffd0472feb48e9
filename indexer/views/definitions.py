"""What the words of all answers mean, as SQL: failed, finished, abandoned, running; docs/metrics.md, "Definitions".

Views and queries take their conditions from here, so that one word means one thing wherever it is shown:
`runs`, `show`, `diff`, `insights`, `metrics`, `health`, alerts and the read store.

**Failed** is a call or a step whose `ok` is false. `ok` NULL is unknown, as of an imported tool call without a result:
such a call has neither failed nor gone well. It is a call all the same, so a share of failures has it below the line.

**A run is over** once it has reported its end; it is open again where it was begun once more. Its `status` is then the
word that it reported. Its `outcome` is one of OUTCOMES, and the only one of the two to compare with: a program may
report a status of its own, and call it "running".

**Abandoned** is an open run from which nothing came for ABANDONED_AFTER_S, or one whose process is gone. The moment of
that is `abandoned_at`, not the time of its last event.
"""

from __future__ import annotations

from typing import Literal

#: An unfinished run without events for this long is abandoned; if it sends heartbeats, when two in a row are missing,
#: if that is later.
ABANDONED_AFTER_S = 900

Outcome = Literal["ok", "error", "cancelled", "running", "abandoned"]
#: The SQL condition for a call or a step that failed.
FAILED = "NOT ok"
#: The SQL condition for an outcome that says how well a run went; a cancelled run or one under way does not.
JUDGED = "outcome IN ('ok', 'error', 'abandoned')"
#: The SQL for "this process is gone" where that is not known: of another moment than the present, or another machine.
NOBODY_IS_GONE = "false"


def tool_ok(ok: str, error_type: str) -> str:
    """Return SQL for whether a recorded tool call went well, from its fields; `ok` is true where the call has none."""
    return f"({ok} AND {error_type} IS NULL)"


#: SQL for whether a recorded tool call went well, over `event_rows`.
RECORDED_TOOL_OK = tool_ok('"tool_call/ok"', '"tool_call/error_type"')


def token_count(field: str) -> str:
    """Return SQL for a count of a recorded model call, over `event_rows`; NULL where it is not a BIGINT."""
    return f'TRY_CAST("llm_call/{field}" AS BIGINT)'


_SUMS = ", ".join(
    f"coalesce(sum({token_count(name)}), 0) AS {name}"
    for name in (
        "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
    )
)  # fmt: skip
#: The columns that count what recorded events of a run or of a request did, for a SELECT over `event_rows`.
RECORDED_COUNTS = f"""count(*) FILTER (event_type = 'step') AS steps,
           count(*) FILTER (event_type = 'llm_call') AS llm_calls,
           count(*) FILTER (event_type = 'llm_call' AND "llm_call/error_type" IS NOT NULL) AS llm_failures,
           count(*) FILTER (event_type = 'tool_call') AS tool_calls,
           count(*) FILTER (event_type = 'tool_call' AND NOT {RECORDED_TOOL_OK}) AS tool_failures,
           count(*) FILTER (event_type = 'error') AS errors,
           {_SUMS}"""


def is_open(last_started: str, finished: str, starts: str, ends: str) -> str:
    """Return SQL for whether a run is open, from its last start and end, and the numbers of its starts and ends.

    A start after the last end opens a run again, unless it has ended as often as it has started: then a clock was set
    back between its start and its end, or they are of two machines.
    """
    return f"coalesce({last_started} > {finished} AND {starts} > {ends}, {finished} IS NULL)"


def outcome(now: str, gone: str = NOBODY_IS_GONE) -> str:
    """Return SQL for the outcome of a run at a moment, one of `Outcome`, over the columns of `runs`.

    `now` is SQL for the moment, such as `$now::TIMESTAMP`, and `gone` for whether the run's process is gone. An open
    run of which only clocks that ran ahead tell (`abandoned_at` NULL) is abandoned.
    """
    return (
        "CASE WHEN finished IS NOT NULL AND status IN ('ok', 'cancelled') THEN status "
        "WHEN finished IS NOT NULL THEN 'error' "
        f"WHEN {gone} THEN 'abandoned' WHEN coalesce(abandoned_at < {now}, true) THEN 'abandoned' ELSE 'running' END"
    )


def moment(now: str) -> str:
    """Return SQL for when a run got its outcome: its end, or when it was abandoned; `now` at the latest.

    A run whose process is gone is abandoned before its `abandoned_at`, at a moment that nobody knows.
    """
    return f"coalesce(finished, CASE WHEN abandoned_at > {now} THEN {now} ELSE abandoned_at END)"
