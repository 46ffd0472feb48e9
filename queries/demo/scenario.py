"""The demo's scenario: the events of five agents in 24 hours, the same for the same seed, event ids included.

`planner` works well. `scraper` is flaky: its tools fail, and some of its runs. `researcher` gets into a loop in one of
its runs. `writer` is expensive, most of all towards the end. `sentinel` sends heartbeats, falls silent three hours
before the end, and leaves an open run behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

import msgspec

from eventlog.format import builtin, ids
from eventlog.format.alerts import AlertRuleSet
from eventlog.queries.demo import prose
from eventlog.record.recorder import Recorder

_CHARS_PER_TOKEN = 4
_HEARTBEAT_S = 300.0
_SILENT_S = 3 * 3600


class DemoEvent(NamedTuple):
    """An event: its time, its payload, and its envelope fields, such as `{"agent": "planner", "run_id": …}`."""

    at: datetime
    payload: msgspec.Struct
    fields: dict[str, Any]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent behaves. Failures are chances per call or run, 0 to 1; `latency_ms` is that of a median call."""

    agent: str
    workspace: str
    provider: str
    model: str
    runs_a_day: int
    turns: tuple[int, int]
    tool_failure: float = 0.02
    model_failure: float = 0.005
    run_failure: float = 0.02
    latency_ms: float = 2200
    pasted_chars: int = 1500


PROFILES = (
    Profile(
        agent="planner", workspace="acme", provider="anthropic", model="claude-sonnet-4-5", runs_a_day=48, turns=(3, 8)
    ),
    Profile(
        agent="scraper", workspace="acme", provider="openai", model="gpt-5-mini", runs_a_day=60, turns=(4, 12),
        tool_failure=0.3, model_failure=0.05, run_failure=0.3, latency_ms=900, pasted_chars=400,
    ),
    Profile(
        agent="researcher", workspace="globex", provider="openai", model="gpt-5", runs_a_day=20, turns=(6, 14),
        latency_ms=4000,
    ),
    Profile(
        agent="writer", workspace="globex", provider="anthropic", model="claude-opus-4-5", runs_a_day=16, turns=(5, 10),
        latency_ms=9000, pasted_chars=24_000,
    ),
)  # fmt: skip
_SENTINEL = {"agent": "sentinel", "workspace": "acme"}
_RULES = (
    AlertRuleSet(name="sentinel alive", kind="heartbeat", agent="sentinel", window_s=1800, severity="critical"),
    AlertRuleSet(
        name="scraper tools", kind="error_rate", of="tool_calls", agent="scraper", threshold=Decimal("0.2"),
        window_s=6 * 3600, min_samples=20,
    ),
    AlertRuleSet(
        name="writer budget", kind="budget", agent="writer", threshold=Decimal(2), window_s=24 * 3600,
        note="somebody should look at what it pastes",
    ),
    AlertRuleSet(
        name="loops", kind="sql", severity="info",
        sql="SELECT run_id, tool, count(*) AS times FROM tool_calls GROUP BY run_id, tool, input HAVING times > 10",
    ),
)  # fmt: skip
#: A model without a listed price: its calls are unpriced.
_LOCAL_MODEL = "acme-local-7b"


class Scenario:
    """Some hours of activity that end at `end`. The same seed, end and hours give the same events."""

    def __init__(self, seed: int, end: datetime, hours: float = 24) -> None:
        self.end = end
        self.start = end - timedelta(hours=hours)
        self._seed = seed
        self._random = Random(f"eventlog demo {seed}")  # noqa: S311 - a demo, not a secret
        self._count = 0

    def events(self) -> list[DemoEvent]:
        """Return all events in order of time. Each call returns other event ids: call it once."""
        events = [event for profile in PROFILES for event in self._runs_of(profile)]
        events += self._sentinel()
        events += [
            DemoEvent(self.start, rule, {"event_id": self.new_id(self.start, "alert_rule_set")}) for rule in _RULES
        ]
        return sorted(events, key=lambda event: event.at)

    def new_id(self, at: datetime, kind: str) -> str:
        """Return the next event id, derived from the seed and the number of ids so far."""
        self._count += 1
        return ids.derived_id(int(at.timestamp() * 1_000_000), kind, f"demo {self._seed} {self._count}")

    # -- agents ------------------------------------------------------------------------

    def _runs_of(self, profile: Profile) -> Iterator[DemoEvent]:
        hours = (self.end - self.start) / timedelta(hours=1)
        runs = max(1, round(profile.runs_a_day * hours / 24))
        for number in range(runs):
            # no run starts so late that it would end after the scenario
            share = (number + self._random.random() * 0.8) / runs
            begins = self.start + (self.end - self.start - timedelta(minutes=20)) * share
            is_loop = profile.agent == "researcher" and number == runs * 2 // 3
            late = profile.agent == "writer" and share > 0.8
            yield from _Run(self, self._random, profile, begins).events(is_loop=is_loop, is_costly=late)

    def _sentinel(self) -> Iterator[DemoEvent]:
        """Yield heartbeats, then silence, and a run that never ends."""
        last = self.end - timedelta(seconds=_SILENT_S)
        at = self.start
        while at < last:
            fields = {**_SENTINEL, "event_id": self.new_id(at, "heartbeat")}
            yield DemoEvent(at, builtin.Heartbeat(status="watching", interval_s=_HEARTBEAT_S), fields)
            at += timedelta(seconds=_HEARTBEAT_S)
        begun = last - timedelta(minutes=4)
        run_id = self.new_id(begun, "run")
        within = {**_SENTINEL, "run_id": run_id}
        started = builtin.RunStarted(name="watch the queues", host="edge-7", boot="5e0c", pid=411)
        yield DemoEvent(begun, started, {**within, "event_id": self.new_id(begun, "run_started")})
        call = builtin.LlmCall(
            provider_name="acme", request_model=_LOCAL_MODEL, uncached_input_tokens=812, output_tokens=64,
            latency_ms=640.0, finish_reasons=["stop"],
            input_messages=[{"role": "user", "content": "Is the queue of edge-7 longer than an hour ago?"}],
            output_messages=[{"role": "assistant", "content": "Yes: 412 jobs against 388."}],
        )  # fmt: skip
        yield DemoEvent(last, call, {**within, "event_id": self.new_id(last, "llm_call")})


class _Run:
    """One run of an agent; each event moves its clock on."""

    def __init__(self, scenario: Scenario, random: Random, profile: Profile, begins: datetime) -> None:
        self._scenario = scenario
        self._random = random
        self._profile = profile
        self._began = self._now = begins
        self._steps: list[str] = []
        self._events: list[DemoEvent] = []
        self._run_id = scenario.new_id(begins, "run")
        self._session_id = f"{profile.agent}-{begins:%Y%m%d}"
        self._turn = 0
        self._messages: list[dict[str, str]] = []
        self._sent_chars = 0

    def events(self, *, is_loop: bool, is_costly: bool) -> list[DemoEvent]:
        profile, random = self._profile, self._random
        task = random.choice(prose.TASKS[profile.agent])
        self._add(
            builtin.RunStarted(name=task.split(" ", 1)[0].lower().strip(":,"), task=task, host="host-1", pid=4000)
        )
        self._messages.append({"role": "user", "content": task})
        with_plan = self._begin()
        self._call_model(pasted=profile.pasted_chars * (6 if is_costly else 1))
        self._end(with_plan, "plan", "plan")
        failed: str | None = None
        for _ in range(random.randint(*profile.turns)):
            self._turn += 1
            failed = self._take_turn()
        if is_loop:
            for _ in range(14):
                self._turn += 1
                self._take_turn(tool="search", arguments={"query": "search service latency thursday", "limit": 10})
        if random.random() < profile.run_failure:
            kind, message = failed or "GaveUp", "three tools in a row gave nothing"
            self._add(builtin.Error(error_type=kind, error_message=message, handled=False))
            self._finish(builtin.RunFinished(status="error", error_type=kind, error_message=message))
        else:
            self._add(
                builtin.Artifact(name="answer.md", media_type="text/markdown", size_bytes=random.randint(400, 9000))
            )
            self._add(
                builtin.Score(name="usefulness", score_value=round(random.betavariate(6, 2), 2), evaluator="reader")
            )
            self._finish(builtin.RunFinished(output=random.choice(prose.FINDINGS)))
        return self._events

    def _take_turn(self, tool: str | None = None, arguments: dict[str, Any] | None = None) -> str | None:
        """Think, then use a tool; return the type of the tool's error, if it failed."""
        thinking = self._begin()
        self._call_model()
        self._end(thinking, "think", "thought")
        acting = self._begin()
        error = self._use_tool(tool or self._random.choice(sorted(prose.TOOLS)), arguments)
        self._end(acting, "act", "action", error)
        return error

    # -- events ------------------------------------------------------------------------

    def _call_model(self, pasted: int = 0) -> None:
        profile, random = self._profile, self._random
        if pasted:
            finding = random.choice(prose.FINDINGS)
            self._messages.append({"role": "user", "content": (finding + "\n") * max(1, pasted // len(finding))})
        latency_ms = random.lognormvariate(0, 0.5) * profile.latency_ms
        self._now += timedelta(milliseconds=latency_ms)
        sent = sum(len(message["content"]) for message in self._messages) + len(prose.SYSTEM)
        new, self._sent_chars = sent - self._sent_chars, sent
        answer = f"{random.choice(prose.THOUGHTS)} {random.choice(prose.FINDINGS)}"
        request = builtin.LlmCall(
            operation_name="chat", provider_name=profile.provider, request_model=profile.model,
            request_temperature=0.2, request_max_tokens=4096,
            system_instructions=prose.SYSTEM.format(agent=profile.agent),
            input_messages=list(self._messages),
            context_statistics={"messages": len(self._messages), "chars": sent, "new_chars": new},
            latency_ms=round(latency_ms, 1),
        )  # fmt: skip
        if random.random() < profile.model_failure:
            error = {"error_type": "OverloadedError", "error_message": "529: overloaded, try again"}
            self._add(msgspec.structs.replace(request, **error))
            return
        self._messages.append({"role": "assistant", "content": answer})
        output_tokens = len(answer) // _CHARS_PER_TOKEN + random.randint(20, 400)
        self._add(
            msgspec.structs.replace(
                request,
                response_model=profile.model,
                output_messages=[{"role": "assistant", "content": answer}],
                finish_reasons=["stop"],
                uncached_input_tokens=new // _CHARS_PER_TOKEN,
                cache_read_tokens=(sent - new) // _CHARS_PER_TOKEN,
                output_tokens=output_tokens,
                reasoning_tokens=output_tokens // 3 if profile.model == "gpt-5" else None,
                time_to_first_token_ms=round(latency_ms * random.uniform(0.1, 0.4), 1),
            )
        )

    def _use_tool(self, tool: str, arguments: dict[str, Any] | None) -> str | None:
        random, number = self._random, self._random.randint(1, 40)
        template, result = prose.TOOLS[tool]
        arguments = arguments or {
            name: value.format(n=number) if isinstance(value, str) else value for name, value in template.items()
        }
        duration_ms = round(random.lognormvariate(0, 0.8) * 350, 1)
        self._now += timedelta(milliseconds=duration_ms)
        call = builtin.ToolCall(tool_name=tool, tool_call_id=f"call_{random.getrandbits(48):012x}", arguments=arguments)
        if random.random() < self._profile.tool_failure:
            kind, message = prose.ERRORS[tool]
            message = message.format(n=number)
            failure = {"ok": False, "error_type": kind, "error_message": message, "duration_ms": duration_ms}
            self._add(msgspec.structs.replace(call, **failure))
            self._messages.append({"role": "tool", "content": f"{kind}: {message}"})
            return kind
        output = result.format(n=number)
        self._add(msgspec.structs.replace(call, result=output, duration_ms=duration_ms))
        self._messages.append({"role": "tool", "content": output})
        return None

    def _begin(self) -> datetime:
        self._steps.append(self._scenario.new_id(self._now, "step"))
        return self._now

    def _end(self, begun: datetime, name: str, kind: str, error: str | None = None) -> None:
        event_id = self._steps.pop()
        duration_ms = (self._now - begun) / timedelta(milliseconds=1)
        self._add(builtin.Step(name=name, kind=kind, duration_ms=duration_ms, error_type=error), event_id)

    def _finish(self, finished: builtin.RunFinished) -> None:
        duration_ms = (self._now - self._began) / timedelta(milliseconds=1)
        self._add(msgspec.structs.replace(finished, duration_ms=duration_ms))

    def _add(self, event: msgspec.Struct, event_id: str | None = None) -> None:
        fields: dict[str, Any] = {
            "agent": self._profile.agent, "workspace": self._profile.workspace, "run_id": self._run_id,
            "session_id": self._session_id, "turn_number": self._turn or None,
            "parent_event_id": self._steps[-1] if self._steps else None,
            "event_id": event_id or self._scenario.new_id(self._now, type(event).__name__),
        }  # fmt: skip
        self._events.append(
            DemoEvent(self._now, event, {name: value for name, value in fields.items() if value is not None})
        )
        self._now += timedelta(milliseconds=self._random.uniform(1, 20))


def write(recorder: Recorder, events: list[DemoEvent]) -> int:
    """Record events; return the number of those that were written."""
    return sum(recorder.emit(event.payload, timestamp=event.at, **event.fields) is not None for event in events)
