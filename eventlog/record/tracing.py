"""`@traced`: each call of a function is a step.

It works on functions, coroutine functions, generators (plain and async), methods, `staticmethod` and
`classmethod` objects. A generator is one step from its first item to its end. What the generator does between two
items is inside of the step; what its consumer does in between is not.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, overload

import msgspec

from eventlog.record import runs
from eventlog.record.correlation import Shared, current, install
from eventlog.record.steps import Step

F = TypeVar("F", bound=Callable[..., Any])


class _Options(msgspec.Struct, frozen=True):
    """The name and kind of the steps, and whether arguments and results are recorded."""

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
    """Record each call of a function as a step, with the exception that it raises; inside of a run or without one.

    The step has the function's qualified name, or `name`. Arguments and results are recorded only
    if asked for; the result of a generator is what it returns, not what it yields. It decorates with or without
    parentheses: `@traced` and `@traced(kind="thought")`.
    """

    def trace(target: Any) -> Any:
        if isinstance(target, staticmethod | classmethod):
            return type(target)(trace(target.__func__))
        called = name or getattr(target, "__qualname__", None) or type(target).__qualname__
        return _wrapped(target, _Options(called.replace("<locals>.", ""), kind, record_arguments, record_result))

    return trace if function is None else trace(function)


def _wrapped(function: Any, options: _Options) -> Any:
    if inspect.iscoroutinefunction(function):
        wrapper: Any = _coroutine(function, options)
    elif inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, options)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, options)
    else:
        wrapper = _function(function, options)
    return functools.update_wrapper(wrapper, function)


def _function(function: Callable[..., Any], options: _Options) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with options.step(function, args, kwargs) as step:
            result = function(*args, **kwargs)
            options.output(step, result)
            return result

    return wrapper


def _coroutine(function: Callable[..., Any], options: _Options) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with options.step(function, args, kwargs) as step:
            result = await function(*args, **kwargs)
            options.output(step, result)
            return result

    return wrapper


class _ContextSwitch:
    """Makes the generator's context current while it runs, and the consumer's while it is suspended."""

    def __init__(self) -> None:
        self._own: Shared | None = None

    def enter(self) -> None:
        self._consumers = current()
        if self._own is not None:
            install(self._own)

    def leave(self) -> None:
        self._own = current()
        install(self._consumers)


def _generator(function: Callable[..., Any], options: _Options) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        switch = _ContextSwitch()
        switch.enter()
        try:
            with options.step(function, args, kwargs) as step:
                result = yield from _passed_on(function(*args, **kwargs), switch)
                options.output(step, result)
                return result
        finally:
            switch.leave()

    return wrapper


def _passed_on(inner: Generator[Any, Any, Any], switch: _ContextSwitch) -> Generator[Any, Any, Any]:
    """Do what `yield from inner` does, with the consumer's context current at each yield."""
    resume: Callable[[], Any] = functools.partial(next, inner)
    while True:
        try:
            item = resume()
        except StopIteration as stop:
            return stop.value
        switch.leave()
        try:
            sent = yield item
        except GeneratorExit:
            switch.enter()
            inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - anything thrown in is passed to the generator
            switch.enter()
            resume = functools.partial(inner.throw, error)
        else:
            switch.enter()
            resume = functools.partial(inner.send, sent)


def _async_generator(function: Callable[..., Any], options: _Options) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        switch = _ContextSwitch()
        switch.enter()
        try:
            with options.step(function, args, kwargs):
                inner = function(*args, **kwargs)
                resume: Callable[[], Any] = functools.partial(inner.asend, None)
                while True:
                    try:
                        item = await resume()
                    except StopAsyncIteration:
                        return
                    switch.leave()
                    try:
                        sent = yield item
                    except GeneratorExit:
                        switch.enter()
                        await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - as above
                        switch.enter()
                        resume = functools.partial(inner.athrow, error)
                    else:
                        switch.enter()
                        resume = functools.partial(inner.asend, sent)
        finally:
            switch.leave()

    return wrapper


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by the names of their parameters, without `self` and `cls`."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except Exception:  # noqa: BLE001 - a builtin, a call that is about to fail, a foreign __signature__
        return {"args": list(args), **kwargs}
    return {name: value for name, value in bound.arguments.items() if name not in ("self", "cls")}
