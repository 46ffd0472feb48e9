"""`@traced`: each call of a function is a step.

Works on functions, coroutine functions, generators (plain and async), methods, and on what
`staticmethod` and `classmethod` return. A generator is one step from its first item to its end, and what it
does between two items is in the step, while what its consumer does in the meantime is not.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, overload

import msgspec

from eventlog.record import runs
from eventlog.record.correlation import Shared, current, install
from eventlog.record.runs import Step

F = TypeVar("F", bound=Callable[..., Any])


class _How(msgspec.Struct, frozen=True):
    """What is recorded of each call."""

    name: str
    kind: str
    arguments: bool
    result: bool

    def step(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
        return runs.step(self.name, kind=self.kind, input=_named(function, args, kwargs) if self.arguments else None)

    def output(self, step: Step, result: object) -> None:
        if self.result:
            step.output = result


@overload
def traced(function: F, /) -> F: ...
@overload
def traced(
    *, name: str | None = None, kind: str = "action", record_arguments: bool = False, record_result: bool = False
) -> Callable[[F], F]: ...
def traced(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    kind: str = "action",
    record_arguments: bool = False,
    record_result: bool = False,
) -> Any:
    """Record each call of a function as a step, with what it raises; inside of a run or without one.

    The step has the function's qualified name, unless `name` is given. Arguments and results are recorded only
    if asked for; the result of a generator is what it returns, not what it yields.
    """

    def trace(target: Any) -> Any:
        if isinstance(target, staticmethod | classmethod):
            return type(target)(trace(target.__func__))
        called = name or getattr(target, "__qualname__", None) or type(target).__qualname__
        return _wrapped(target, _How(called.replace("<locals>.", ""), kind, record_arguments, record_result))

    return trace if function is None else trace(function)


def _wrapped(function: Any, how: _How) -> Any:
    if inspect.iscoroutinefunction(function):
        wrapper: Any = _coroutine(function, how)
    elif inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, how)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, how)
    else:
        wrapper = _function(function, how)
    return functools.update_wrapper(wrapper, function)


def _function(function: Callable[..., Any], how: _How) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with how.step(function, args, kwargs) as step:
            result = function(*args, **kwargs)
            how.output(step, result)
            return result

    return wrapper


def _coroutine(function: Callable[..., Any], how: _How) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with how.step(function, args, kwargs) as step:
            result = await function(*args, **kwargs)
            how.output(step, result)
            return result

    return wrapper


class _Turns:
    """The context of a generator while it runs, and that of its consumer while it does not."""

    def __init__(self) -> None:
        self._own: Shared | None = None

    def enter(self) -> None:
        self._consumers = current()
        if self._own is not None:
            install(self._own)

    def leave(self) -> None:
        self._own = current()
        install(self._consumers)


def _generator(function: Callable[..., Any], how: _How) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        turns = _Turns()
        turns.enter()
        try:
            with how.step(function, args, kwargs) as step:
                result = yield from _passed_on(function(*args, **kwargs), turns)
                how.output(step, result)
                return result
        finally:
            turns.leave()

    return wrapper


def _passed_on(inner: Generator[Any, Any, Any], turns: _Turns) -> Generator[Any, Any, Any]:
    """Do what `yield from inner` does, with the consumer's context in force at each yield."""
    resume: Callable[[], Any] = functools.partial(next, inner)
    while True:
        try:
            item = resume()
        except StopIteration as stop:
            return stop.value
        turns.leave()
        try:
            sent = yield item
        except GeneratorExit:
            turns.enter()
            inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - whatever was thrown in goes to the generator
            turns.enter()
            resume = functools.partial(inner.throw, error)
        else:
            turns.enter()
            resume = functools.partial(inner.send, sent)


def _async_generator(function: Callable[..., Any], how: _How) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        turns = _Turns()
        turns.enter()
        try:
            with how.step(function, args, kwargs):
                inner = function(*args, **kwargs)
                resume: Callable[[], Any] = functools.partial(inner.asend, None)
                while True:
                    try:
                        item = await resume()
                    except StopAsyncIteration:
                        return
                    turns.leave()
                    try:
                        sent = yield item
                    except GeneratorExit:
                        turns.enter()
                        await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - as above
                        turns.enter()
                        resume = functools.partial(inner.athrow, error)
                    else:
                        turns.enter()
                        resume = functools.partial(inner.asend, sent)
        finally:
            turns.leave()

    return wrapper


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by the names of their parameters, without `self` and `cls`."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except Exception:  # noqa: BLE001 - a builtin, a call that is about to fail, a signature of somebody else's
        return {"args": list(args), **kwargs}
    return {name: value for name, value in bound.arguments.items() if name not in ("self", "cls")}
