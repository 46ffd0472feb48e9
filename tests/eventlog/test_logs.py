"""A program's own log lines, in the context in which they were logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import eventlog as obs
from eventlog.record.sinks import MemorySink


@pytest.fixture
def captured(root: Path) -> Iterator[MemorySink]:
    """What is recorded, in memory."""
    obs.configure(root=root)
    with obs.capture() as memory:
        yield memory


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger with the handler."""
    made = logging.getLogger("shop.cart")
    handler = obs.LogHandler(level=logging.INFO)
    made.addHandler(handler)
    made.setLevel(logging.DEBUG)
    yield made
    made.removeHandler(handler)


def data_of(captured: MemorySink) -> dict[str, Any]:
    (event,) = captured.of_type("debug_event")
    return event.data()


def test_a_log_record_is_an_event_in_context(captured: MemorySink, logger: logging.Logger) -> None:
    """With level, logger, message and what was given as `extra`; below the handler's level there is none."""
    with obs.run("r") as run, obs.step("s") as step:
        logger.debug("not this")
        logger.warning("no %s for %d", "bread", 3, extra={"customer": 7})
    (event,) = captured.of_type("debug_event")
    assert (event.run_id, event.parent_event_id) == (run.id, step.id)
    assert event.data() == {
        "level": "warning", "logger": "shop.cart", "message": "no bread for 3", "attributes": {"customer": 7},
    }  # fmt: skip


def test_an_exception_is_logged_with_its_traceback(captured: MemorySink, logger: logging.Logger) -> None:
    """As text."""
    try:
        raise ValueError("v")
    except ValueError:
        logger.exception("failed")
    data = data_of(captured)
    assert data["message"] == "failed"
    assert data["stacktrace"].startswith("Traceback (most recent call last):\n")
    assert data["stacktrace"].endswith("ValueError: v\n")


class Nasty:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("%d", ("x",), "%d ('x',)"),
        ("%s", (Nasty(),), "%s (<Nasty instance at "),
        (Nasty(), (), "<Nasty instance at "),
        ("\ud800", (), "\ufffd"),
    ],
    ids=["arguments that do not fit", "an argument that fails", "a message that fails", "a lone surrogate"],
)
def test_a_record_that_cannot_be_formatted_is_recorded_all_the_same(
    message: Any, arguments: tuple[Any, ...], expected: str, captured: MemorySink, logger: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With what can be said of it; nothing is raised and nothing is printed."""
    monkeypatch.setattr(logger, "propagate", False)  # pytest's own handler raises
    logger.error(message, *arguments, extra={"odd": object})
    data = data_of(captured)
    assert data["message"].startswith(expected)
    assert data["attributes"] == {"odd": "<class 'object'>"}


def test_a_record_that_lacks_anything_is_recorded_with_the_rest(captured: MemorySink) -> None:
    """As one that came over a wire; no record makes the handler raise."""
    handler = obs.LogHandler()
    handler.emit(logging.makeLogRecord({"msg": "hello"}))
    bare = logging.makeLogRecord({"odd": 5})
    for name in ("name", "levelname", "msg", "args", "exc_info", "exc_text", "stack_info"):
        delattr(bare, name)
    handler.emit(bare)
    handler.emit(logging.makeLogRecord({"name": 7, "levelname": 30, "exc_info": 5, "msg": "typed"}))
    handler.emit(None)  # type: ignore[arg-type]  # the point
    hello, lacking, typed = (event.data() for event in captured.of_type("debug_event"))
    assert hello == {"level": "level none", "message": "hello"}
    assert lacking == {"message": "None None", "attributes": {"odd": 5}}
    assert typed == {"message": "typed", "attributes": {"level": 30, "logger": 7}}


def test_eventlogs_own_lines_are_not_recorded(captured: MemorySink) -> None:
    """Or a full disk would write about itself for ever."""
    root_logger = logging.getLogger()
    handler = obs.LogHandler()
    root_logger.addHandler(handler)
    try:
        obs.emit("Bad Name")
        logging.getLogger("eventlog.x").error("own")
        logging.getLogger("eventlogger").error("not own")
    finally:
        root_logger.removeHandler(handler)
    assert data_of(captured)["logger"] == "eventlogger"


def test_a_sink_that_logs_does_not_go_round_in_circles(root: Path, logger: logging.Logger) -> None:
    """What is logged while a line is recorded is left out."""

    class Chatty(MemorySink):
        def write(self, event_type: str, data: bytes) -> None:
            logger.error("writing %s", event_type)
            super().write(event_type, data)

    obs.configure(root=root)
    sink = Chatty()
    obs.add_sink(sink)
    logger.error("once")
    assert [event.data()["message"] for event in sink.of_type("debug_event")] == ["once"]


def test_a_strict_recorder_does_not_raise_into_logging(root: Path, logger: logging.Logger) -> None:
    """The event is counted as lost."""
    root.write_text("in the way")
    obs.configure(root=root, strict=True)
    logger.error("x")
    assert obs.structlog_processor(None, "error", {"event": "x"}) == {"event": "x"}
    assert obs.stats().lost == 2


def test_structlog_goes_on_with_what_it_had(captured: MemorySink) -> None:
    """The entry is recorded, and rendered as before."""
    printed: list[str] = []

    class Printed:
        def msg(self, text: str) -> None:
            printed.append(text)

        info = error = warning = msg

    log = structlog.wrap_logger(
        Printed(),
        processors=[
            structlog.processors.add_log_level, structlog.processors.format_exc_info, obs.structlog_processor,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
    ).bind(customer=7)  # fmt: skip
    with obs.run("r") as run:
        log.info("sold", what="bread")
        try:
            raise ValueError("v")
        except ValueError:
            log.exception("failed")
    sold, failed = captured.of_type("debug_event")
    assert sold.run_id == run.id
    assert sold.data() == {"level": "info", "message": "sold", "attributes": {"customer": 7, "what": "bread"}}
    assert failed.data()["stacktrace"].endswith("ValueError: v")
    assert printed[0] == "event='sold' customer=7 what='bread' level='info'"


def test_structlog_with_its_own_defaults(captured: MemorySink) -> None:
    """A logger's name, and an exception that nobody has formatted yet."""
    entry = {"event": "e", "logger": "shop", "exc_info": ValueError("v"), "n": 1}
    before = dict(entry)
    assert obs.structlog_processor(None, "warning", entry) is entry
    assert entry == before
    data = data_of(captured)
    assert data.pop("stacktrace") == "ValueError: v\n"
    assert data == {"level": "warning", "logger": "shop", "message": "e", "attributes": {"n": 1}}


def test_structlog_over_eventlogs_own_logger_records_nothing(captured: MemorySink) -> None:
    """As with the handler; and what is no entry at all does no harm."""
    obs.structlog_processor(logging.getLogger("eventlog"), "error", {"event": "e"})
    odd: Any = ["no dict"]
    assert obs.structlog_processor(None, "error", odd) is odd
    assert not captured.events
