"""Runs, steps, and what happens in them, recorded where it happens.

    with obs.run("nightly", agent="planner") as run:
        with run.step("retrieve") as step:
            run.tool_call("search", arguments={"q": "…"}, result=found, duration_ms=12.5)
            step.output = len(found)
        run.llm_call(request_model="m", usage=response.usage, latency_ms=900)
        answer["stats"] = run.stats()

A run and a step put themselves into the context (eventlog.record.correlation), so whatever is emitted inside,
by any code, names them. What belongs to them is recorded in the same words on `obs` (in the
context of this place) and on a run (in the run, also from a thread that has no context).

In a generator, the context of a block is that of its consumer as well, until the generator goes on: so it is
with context variables. `@traced` (eventlog.record.tracing) keeps the two apart, and what is called on a run
always finds its run.

None of this gets in an agent's way: with eventlog off, or a disk that is full, the code runs as if
nothing was there, and values that JSON cannot hold are recorded as far as they can be (eventlog.record.coercion).

A run that is still open when the interpreter ends is finished then, as cancelled. One whose process is
killed has no end in the log; readers know its owner (host, boot, pid) and show it as abandoned. A
forked child belongs to the run it was forked in, but does not finish it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from pathlib import Path
from typing import Any, Unpack

import msgspec

from eventlog.format import builtin, ids
from eventlog.process import forks
from eventlog.process.forks import Phase
from eventlog.record import api, calls, coercion, heartbeats, totals
from eventlog.record.api import harmless
from eventlog.record.calls import Block, LlmCallFields, TimedLlmCall, TimedToolCall
from eventlog.record.correlation import Shared, current, install, leave, restore

_FIELD_MAX_CHARS = 1_000
#: Of a traceback, its end is kept: what was raised stands there.
STACKTRACE_MAX_CHARS = 20_000
#: PROC_PID_INIT_INO of Linux (include/linux/proc_ns.h): that of processes in no container.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: The runs that are open in this process, by id and workspace: one id in two workspaces is two runs.
_open: dict[tuple[str, str | None], Run] = {}


def record(event: msgspec.Struct, fields: dict[str, Any] | None = None) -> str | None:
    """Record an event whatever its values; return its id, or None where it was not recorded."""
    return api.recorder().emit_with(event, None, fields or {}, coercion.mended)


@contextmanager
def _in_force(shared: Shared) -> Iterator[None]:
    token = install(shared)
    try:
        yield
    finally:
        restore(token)


def _key(values: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return which run the events of a context are of."""
    run_id, workspace = values.get("run_id"), values.get("workspace")
    return run_id if isinstance(run_id, str) else "", workspace if isinstance(workspace, str) else None


class Scope:
    """What can be recorded in one place: that of the caller."""

    def _shared(self) -> Shared:
        return current()

    def _run(self) -> Run | None:
        return _open.get(_key(current().values)) if _open else None

    def _is_seen(self) -> bool:
        """Say whether anybody sees what is recorded: the log, or the totals of a run. Else nothing is worked out."""
        return not api.recorder().off or self._run() is not None

    def _emit(self, event: msgspec.Struct) -> str | None:
        run = self._run()
        if run is not None:
            run.totals.add(event)
        shared = self._shared()
        if shared is current():
            return record(event)
        with _in_force(shared):
            return record(event)

    def step(
        self,
        name: str,
        *,
        kind: str = "action",
        input: Any = None,  # noqa: A002 - the field's name
        attributes: dict[str, Any] | None = None,
    ) -> Step:
        """Return a block that is recorded as a `step`, and that what happens inside names as its parent.

        `kind` is thought, plan, action or observation, or a word of your own. Set `output` on it.
        """
        return Step(self, name, kind, input, attributes)

    @harmless
    def llm_call(self, *, usage: object = None, **fields: Unpack[LlmCallFields]) -> str | None:
        """Record a call of a model that is over; return the event's id.

        `usage` is the provider's usage object (a dict, or an SDK's object): it is split into tokens
        that mean the same everywhere (eventlog.record.usage) and kept as `raw_usage`. Fields that are given win.
        """
        if not self._is_seen():
            return None
        return self._emit(calls.llm_call(usage, fields))

    def timed_llm_call(self, *, usage: object = None, **fields: Unpack[LlmCallFields]) -> TimedLlmCall:
        """Return a block that calls a model: measured, and recorded at its end also where it fails."""
        return TimedLlmCall(self._emit, self._is_seen, {"usage": usage, **fields})

    @harmless
    def tool_call(
        self,
        tool_name: str,
        *,
        arguments: Any = None,
        result: Any = None,
        tool_call_id: str | None = None,
        duration_ms: float | None = None,
        ok: bool | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record the use of a tool that is over; without `ok`, one that has an error is not."""
        return self._emit(
            builtin.ToolCall(
                tool_name=tool_name,
                tool_call_id=tool_call_id,
                arguments=arguments,
                result=result,
                ok=(error_type is None and error_message is None) if ok is None else ok,
                duration_ms=duration_ms,
                error_type=error_type,
                error_message=error_message,
                attributes=attributes,
            )
        )

    def timed_tool_call(
        self,
        tool_name: str,
        *,
        arguments: Any = None,
        tool_call_id: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> TimedToolCall:
        """Return a block that uses a tool, measured like `timed_llm_call`. Set `result` on it."""
        said = {"tool_name": tool_name, "arguments": arguments, "tool_call_id": tool_call_id, "attributes": attributes}
        return TimedToolCall(self._emit, self._is_seen, said)

    @harmless
    def decision(
        self,
        question: Any = None,
        *,
        options: list[Any] | None = None,
        chosen: Any = None,
        reason: str | None = None,
        confidence: float | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record what was chosen, of what, and why. `confidence` is 0 to 1."""
        return self._emit(
            builtin.DecisionTrace(
                question=question,
                options=options,
                chosen=chosen,
                reason=reason,
                confidence=confidence,
                attributes=attributes,
            )
        )

    @harmless
    def orchestration(
        self,
        action: str,
        *,
        source_agent: str | None = None,
        target_agent: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record something between agents: a handoff, a spawn, a route."""
        return self._emit(
            builtin.OrchestrationEvent(
                action=action, source_agent=source_agent, target_agent=target_agent, attributes=attributes
            )
        )

    @harmless
    def debug(
        self,
        message: Any,
        *,
        level: str = "debug",
        logger: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record a line of a log. For a program's own logging there is `LogHandler`."""
        return self._emit(builtin.DebugEvent(level=level, logger=logger, message=message, attributes=attributes))

    @harmless
    def error(
        self,
        error: BaseException | str,
        *,
        handled: bool = True,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record something that went wrong: an exception with its traceback, or a text."""
        if isinstance(error, BaseException):
            error_type, message = calls.described(error)
            stack = stack_of(error) if error.__traceback__ else None
        else:
            error_type, message, stack = None, error, None
        return self._emit(
            builtin.Error(
                error_type=error_type, error_message=message, stacktrace=stack, handled=handled, attributes=attributes
            )
        )

    @harmless
    def artifact(
        self,
        name: str,
        *,
        uri: str | None = None,
        media_type: str | None = None,
        size_bytes: int | None = None,
        sha256: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record something that was made: a file, a page, a commit."""
        return self._emit(
            builtin.Artifact(
                name=name, uri=uri, media_type=media_type, size_bytes=size_bytes, sha256=sha256, attributes=attributes
            )
        )

    @harmless
    def heartbeat(
        self,
        status: str | None = None,
        *,
        interval_s: float | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record that an agent is alive, and says so again within `interval_s`. Open runs do this themselves."""
        return self._emit(builtin.Heartbeat(status=status, interval_s=interval_s, attributes=attributes))

    @harmless
    def message(self, role: str, content: Any, *, name: str | None = None) -> str | None:
        """Record what somebody said: `role` is user, assistant, system or tool."""
        return self._emit(builtin.Message(role=role, content=content, name=name))

    @harmless
    def score(
        self,
        name: str,
        value: float | None = None,
        *,
        label: str | None = None,
        explanation: str | None = None,
        target_event_id: str | None = None,
        evaluator: str | None = None,
    ) -> str | None:
        """Record an evaluation: of the run or, with `target_event_id`, of one event."""
        return self._emit(
            builtin.Score(
                name=name,
                score_value=value,
                score_label=label,
                explanation=explanation,
                target_event_id=target_event_id,
                evaluator=evaluator,
            )
        )


class Step(Block):
    """A block of a run. `id` is its event's id, from its beginning on; `output` and `attributes` may be set."""

    __slots__ = (
        "_began", "_generation", "_outer", "_scope", "_token", "attributes", "id", "input", "kind", "name", "output",
    )  # fmt: skip

    def __init__(self, scope: Scope, name: str, kind: str, given: Any, attributes: dict[str, Any] | None) -> None:
        self._scope = scope
        self.name = name
        self.kind = kind
        self.input = given
        self.output: Any = None
        self.attributes = attributes
        self.id = ""
        self._token: Token[Shared] | None = None

    def _begin(self) -> None:
        self.id = ids.new_id(time.time_ns())
        self._outer = self._scope._shared()
        self._generation = calls.generation
        self._began = time.perf_counter()
        self._token = install(Shared({**self._outer.values, "parent_event_id": self.id}, {}))

    def _end(self, error: BaseException | None) -> None:
        if self._token is None:  # it could not begin, which is counted
            return
        took_ms = calls.since_ms(self._began)
        leave(self._token)
        if calls.generation != self._generation:
            return
        if self._outer is current():
            self._record(took_ms, error)
        else:
            with _in_force(self._outer):
                self._record(took_ms, error)

    def _record(self, took_ms: float, error: BaseException | None) -> None:
        error_type, error_message = calls.described(error)
        event = builtin.Step(
            name=self.name,
            kind=self.kind,
            duration_ms=took_ms,
            input=self.input,
            output=self.output,
            error_type=error_type,
            error_message=error_message,
            attributes=self.attributes,
        )
        run = self._scope._run()
        if run is not None:
            run.totals.add(event)
        record(event, {"event_id": self.id})


class Run(Scope, Block):
    """A block that is a run: everything emitted inside carries its id, agent, workspace and session.

    `id` is its run_id; `output` and `attributes` may be set, and are recorded at its end. That end is ok, error (with
    type and message) or cancelled (interrupts, cancelled tasks, an exit with a code), and what was raised goes on. A
    run inside another names it as its parent. While it is open, a thread records a heartbeat every `heartbeat_s`
    seconds; 0 or None turns that off.
    """

    def __init__(
        self,
        name: str,
        *,
        agent: str | None = None,
        workspace: str | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        task: Any = None,
        attributes: dict[str, Any] | None = None,
        heartbeat_s: float | None = 60.0,
    ) -> None:
        self.id = _field(run_id) or _new_id() or ""
        self.name = name
        self.output: Any = None
        self.attributes: dict[str, Any] = {}
        self.totals = totals.Totals()
        self._task, self._given = task, attributes
        own = {"agent": agent, "workspace": workspace, "session_id": session_id}
        self._own = {field: text for field, value in own.items() if (text := _field(value)) is not None}
        self._interval_s = heartbeat_s if isinstance(heartbeat_s, int | float) else 0.0
        self._inner = Shared({}, {})
        self._generation, self._began = -1, 0.0
        self._took_ms: float | None = None
        self._is_open = False
        self._token: Token[Shared] | None = None
        self._lock = threading.RLock()

    def _shared(self) -> Shared:
        """The context of this place where it is in the run; elsewhere (a thread without one) the run's own."""
        here = current()
        return here if here.values.get("run_id") == self.id else self._inner

    def _run(self) -> Run | None:
        return self

    def _begin(self) -> None:
        self.id = self.id or ids.new_id(time.time_ns())
        outer = current().values
        self._inner = Shared({**outer, **self._own, "run_id": self.id, "parent_event_id": None}, {})
        parent, inside = outer.get("run_id"), outer.get("parent_event_id")
        event = builtin.RunStarted(
            name=self.name,
            task=self._task,
            host=_host(),
            boot=boot(),
            pid=os.getpid(),
            parent_run_id=parent if isinstance(parent, str) and parent != self.id else None,
            attributes=self._given,
        )
        self._generation, self._began, self._is_open = calls.generation, time.perf_counter(), True
        _open[_key(self._inner.values)] = self
        self._token = install(self._inner)
        try:
            record(event, {"parent_event_id": inside} if inside else None)
            if self._interval_s > 0 and not api.recorder().off:
                heartbeats.start(id(self), self._beat, self._interval_s)
        except Exception:  # a strict recorder
            self._close()
            restore(self._token)
            raise
        except BaseException as error:  # Ctrl-C: nobody will leave a block that was not entered
            self.__exit__(type(error), error, None)
            raise

    def _end(self, error: BaseException | None) -> None:
        if self._token is None:  # as in a step
            return
        leave(self._token)
        status = "ok"
        if error is not None and not (isinstance(error, SystemExit) and not error.code):
            status = "error" if isinstance(error, Exception) else "cancelled"
        self.finish(status, *calls.described(error))

    def finish(self, status: str = "ok", error_type: str | None = None, error_message: str | None = None) -> None:
        """Record the end of the run: done on exit, and only once."""
        if not self._close() or calls.generation != self._generation:
            return
        self._took_ms = calls.since_ms(self._began)
        with _in_force(self._inner):
            record(
                builtin.RunFinished(
                    status=status,
                    duration_ms=self._took_ms,
                    error_type=error_type,
                    error_message=error_message,
                    output=self.output,
                    attributes=self.attributes or None,
                )
            )

    def _close(self) -> bool:
        """Say whether the run was open until now."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
        heartbeats.stop(id(self))
        if _open.get(_key(self._inner.values)) is self:
            _open.pop(_key(self._inner.values), None)
        return was_open

    def _beat(self) -> None:
        with contextlib.suppress(Exception), _in_force(self._inner):  # what is lost is counted by the recorder
            record(builtin.Heartbeat(status="running", interval_s=self._interval_s))

    def stats(self) -> totals.RunStats:
        """Return light totals, of what was recorded in this process in this very run (not in runs inside it)."""
        took_ms = self._took_ms
        if took_ms is None:  # it is open, or was never entered
            took_ms = calls.since_ms(self._began) if self._is_open else 0.0
        return self.totals.stats(self.id, self.name, took_ms)


_here = Scope()
step = _here.step
llm_call, timed_llm_call = _here.llm_call, _here.timed_llm_call
tool_call, timed_tool_call = _here.tool_call, _here.timed_tool_call
decision, orchestration, debug, error = _here.decision, _here.orchestration, _here.debug, _here.error
artifact, heartbeat, message, score = _here.artifact, _here.heartbeat, _here.message, _here.score


run = Run


@harmless
def _new_id() -> str:
    return ids.new_id(time.time_ns())


def stack_of(error: BaseException) -> str | None:
    """Return the end of an exception's traceback as a text; None where its own code keeps it from being one."""
    try:
        return "".join(traceback.format_exception(error))[-STACKTRACE_MAX_CHARS:]
    except Exception:  # noqa: BLE001 - its causes and notes are anybody's
        return None


def _field(value: object) -> str | None:
    """Return an envelope field that can be written, whatever was given: a bad one would cost all events of the run."""
    shown = "" if value is None else coercion.text(value)
    if not shown:
        return None
    return shown if len(shown) <= _FIELD_MAX_CHARS else shown[:_FIELD_MAX_CHARS]


@functools.cache
def _host() -> str:
    return os.uname().nodename


@functools.cache
def boot() -> str | None:
    """Return within what a pid means one process: the machine's boot, and in a container its namespace of pids."""
    try:
        boot_id = _BOOT_ID.read_bytes().decode().strip()  # text would import its encoding
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except (OSError, ValueError):
        return None
    return boot_id if namespace == _FIRST_PID_NAMESPACE else f"{boot_id}/{namespace}"


def _finish_all() -> None:
    """At exit: what nobody has left."""
    heartbeats.stop_all()
    for each in list(_open.values()):
        with contextlib.suppress(Exception):  # a strict recorder; nobody is left to tell
            each.finish("cancelled", None, "the process ended before the run did")


def _after_fork() -> None:
    for each in _open.values():
        each._lock = threading.RLock()
        each.totals.renew_locks()


forks.register(Phase.RECORDERS, after_in_child=_after_fork)
atexit.register(_finish_all)
