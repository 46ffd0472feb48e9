"""Recording runs, steps, and the events inside of them.

    with obs.run("nightly", agent="planner") as run:
        with run.step("retrieve") as step:
            run.tool_call("search", arguments={"q": "…"}, result=pages, duration_ms=12.5)
            step.output = len(pages)
        run.llm_call(request_model="m", usage=response.usage, latency_ms=900)
        answer["stats"] = run.stats()

Runs and steps set correlation fields (eventlog.record.correlation), so that every event emitted inside,
by any code, names them. `obs` and a run have the same recording functions: those of `obs` record in the current
context, those of a run record in the run, also from a thread without a context.

While a generator is suspended inside of a block, its consumer has the context of the block too: that is how
context variables work. `@traced` (eventlog.record.tracing) separates the two, and functions of a run always use
their run.

Nothing here disturbs an agent: with eventlog off, or on a full disk, its code runs as without eventlog. Values
that JSON cannot hold are recorded as far as possible (eventlog.record.coercion).

A run that is still open when the interpreter ends is finished as cancelled. A run whose process is
killed has no end in the log; readers check its owner (host, boot, pid) and show it as abandoned. A
forked child belongs to the run that it was forked in, but does not finish it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
import traceback
from collections.abc import Mapping
from contextvars import Token
from typing import Any, Unpack

import msgspec

from eventlog.format import builtin, ids
from eventlog.process import forks
from eventlog.process.boot import boot
from eventlog.process.forks import Phase
from eventlog.record import api, calls, heartbeats, steps, totals
from eventlog.record.api import harmless
from eventlog.record.calls import Block, LlmCallFields, TimedLlmCall, TimedToolCall
from eventlog.record.correlation import Shared, current, install, leave, restore
from eventlog.record.steps import Request, Step, as_current, field, record

#: A longer traceback keeps its end, which names the exception.
STACKTRACE_MAX_CHARS = 20_000

#: The open runs of this process, by id and workspace: one id in two workspaces is two runs.
_open: dict[tuple[str, str | None], Run] = {}


def _key(values: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the key in `_open` of the run of a context."""
    run_id, workspace = values.get("run_id"), values.get("workspace")
    return run_id if isinstance(run_id, str) else "", workspace if isinstance(workspace, str) else None


class Scope:
    """The recording functions, in the context of the caller."""

    def _shared(self) -> Shared:
        return current()

    def _run(self) -> Run | None:
        return _open.get(_key(current().values)) if _open else None

    def _is_seen(self) -> bool:
        """Say whether an event would reach the log, or the totals of a run or step; if not, it need not be built."""
        return not api.recorder().off or self._run() is not None or steps.is_inside(self._shared())

    def _count(self, event: msgspec.Struct, shared: Shared) -> None:
        """Add an event of this context to the totals of the run and the steps around it."""
        run = self._run()
        if run is not None:
            run.totals.add(event)
        steps.count(event, shared)

    def _emit(self, event: msgspec.Struct) -> str | None:
        shared = self._shared()
        self._count(event, shared)
        if shared is current():
            return record(event)
        with as_current(shared):
            return record(event)

    def step(
        self,
        name: str,
        *,
        kind: str = "action",
        input: Any = None,  # noqa: A002 - the field's name
        attributes: dict[str, Any] | None = None,
    ) -> Step:
        """Return a block that is recorded as a `step`; events inside name it as their parent.

        `kind` is thought, plan, action, observation, or a word of your own. Set `output` on the block.
        """
        return Step(self._shared, self._count, name, kind, input, attributes)

    @harmless
    def llm_call(self, *, usage: object = None, **fields: Unpack[LlmCallFields]) -> str | None:
        """Record a finished call of a model; return the event's id, or None where it was not recorded.

        `usage` is the provider's usage object (a dict, or an SDK's object): it is split into token counts
        that mean the same for all providers (eventlog.format.usage), and stored as `raw_usage`. `fields` override
        its counts. What an advisor used inside of the call is recorded as a call of its own.
        """
        if not self._is_seen():
            return None
        return calls.emit_llm_call(self._emit, usage, fields)

    def timed_llm_call(self, *, usage: object = None, **fields: Unpack[LlmCallFields]) -> TimedLlmCall:
        """Return a block around a call of a model. It is measured, and recorded at its end, even if it fails."""
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
        """Record a finished call of a tool; return the event's id, or None. Without `ok`, an error means not ok."""
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
        """Return a block around a call of a tool, measured like `timed_llm_call`. Set `result` on it."""
        fields = {
            "tool_name": tool_name,
            "arguments": arguments,
            "tool_call_id": tool_call_id,
            "attributes": attributes,
        }
        return TimedToolCall(self._emit, self._is_seen, fields)

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
        """Record a decision: the options, the chosen one, and why. `confidence` is 0 to 1."""
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
        """Record an action between agents: `action` is handoff, spawn, route, or a word of your own."""
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
        """Record a log line. To record a program's own logging, use `LogHandler`."""
        return self._emit(builtin.DebugEvent(level=level, logger=logger, message=message, attributes=attributes))

    @harmless
    def error(
        self,
        error: BaseException | str,
        *,
        handled: bool = True,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record an error: an exception with its traceback, or a text. `handled`: the program went on."""
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
        """Record a product of the run: a file, a page, a commit."""
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
        """Record that an agent is alive, and will record it again within `interval_s`. Open runs do this themselves."""
        return self._emit(builtin.Heartbeat(status=status, interval_s=interval_s, attributes=attributes))

    @harmless
    def message(self, role: str, content: Any, *, name: str | None = None) -> str | None:
        """Record a message of a conversation: `role` is user, assistant, system or tool."""
        return self._emit(builtin.Message(role=role, content=content, name=name))

    @harmless
    def conversation_state(
        self,
        state: Any = None,
        *,
        status: str | None = None,
        summary: str | None = None,
        messages: Any = None,
        message_count: int | None = None,
        context_tokens: int | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str | None:
        """Record what the agent keeps of the session: `status` is active, waiting, ended, or a word of your own."""
        return self._emit(
            builtin.ConversationState(
                state=state,
                status=status,
                summary=summary,
                messages=messages,
                message_count=message_count,
                context_tokens=context_tokens,
                attributes=attributes,
            )
        )

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
        """Record an evaluation of the run or, with `target_event_id`, of one event."""
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


class Run(Scope, Block):
    """A block that is a run: every event emitted inside carries its id, agent, workspace and session.

    `id` is its run_id; `output` and `attributes` may be set, and are recorded at its end. It ends as ok, error (with
    type and message) or cancelled (interrupts, cancelled tasks, an exit with a code); exceptions are raised on. A
    run inside another run names it as its parent. While it is open, a thread records a heartbeat every `heartbeat_s`
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
        self.id = field(run_id) or _new_id() or ""
        self.name = name
        self.output: Any = None
        self.attributes: dict[str, Any] = {}
        self.totals = totals.Totals()
        self._task, self._start_attributes = task, attributes
        own = {"agent": agent, "workspace": workspace, "session_id": session_id}
        self._own = {name: text for name, value in own.items() if (text := field(value)) is not None}
        self._interval_s = heartbeat_s if isinstance(heartbeat_s, int | float) else 0.0
        self._inner = Shared({}, {})
        self._generation, self._began = -1, 0.0
        self._took_ms: float | None = None
        self._is_open = False
        self._token: Token[Shared] | None = None
        self._lock = threading.RLock()

    def _shared(self) -> Shared:
        """Return the current context if it is inside of the run; elsewhere (another thread), the run's own."""
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
            attributes=self._start_attributes,
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
        except BaseException as error:  # Ctrl-C: Python does not call __exit__ if __enter__ raises
            self.__exit__(type(error), error, None)
            raise

    def _end(self, error: BaseException | None) -> None:
        if self._token is None:  # as in a step
            return
        leave(self._token)
        self.finish(steps.status_of(error), *calls.described(error))

    def finish(self, status: str = "ok", error_type: str | None = None, error_message: str | None = None) -> None:
        """Record the end of the run, once; leaving the block does it. `status` is ok, error or cancelled."""
        if not self._close() or calls.generation != self._generation:
            return
        self._took_ms = calls.since_ms(self._began)
        with as_current(self._inner):
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
        """Close the run in this process; return whether it was open."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
        heartbeats.stop(id(self))
        if _open.get(_key(self._inner.values)) is self:
            _open.pop(_key(self._inner.values), None)
        return was_open

    def _beat(self) -> None:
        with contextlib.suppress(Exception), as_current(self._inner):  # the recorder counts what is lost
            record(builtin.Heartbeat(status="running", interval_s=self._interval_s))

    def stats(self) -> totals.RunStats:
        """Return light totals of what this process has recorded in this run, without the runs inside of it."""
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
conversation_state, request = _here.conversation_state, Request


run = Run


@harmless
def _new_id() -> str:
    return ids.new_id(time.time_ns())


def stack_of(error: BaseException) -> str | None:
    """Return the last 20,000 characters of an exception's traceback; None where its own code raises."""
    try:
        return "".join(traceback.format_exception(error))[-STACKTRACE_MAX_CHARS:]
    except Exception:  # noqa: BLE001 - its causes and notes may be of any class
        return None


@functools.cache
def _host() -> str:
    return os.uname().nodename


def _finish_all() -> None:
    """At exit: finish the runs that are still open."""
    heartbeats.stop_all()
    for run in list(_open.values()):
        with contextlib.suppress(Exception):  # a strict recorder; nothing is left that could handle it
            run.finish("cancelled", None, "the process ended before the run did")


def _after_fork() -> None:
    for run in _open.values():
        run._lock = threading.RLock()
        run.totals.renew_locks()
    steps.renew_locks()


forks.register(Phase.RECORDERS, after_in_child=_after_fork)
atexit.register(_finish_all)
