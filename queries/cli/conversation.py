"""A conversation as lines for people: who said what, and what was done, turn by turn.

In short, thinking is one line, and so are the arguments of a tool; of its result, and of a long text, the beginning is
there. With `whole`, all of it is. In a pipe no line is cut or broken: programs look for words in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import click
import msgspec

from eventlog.cli.text import counted, printable
from eventlog.format import payloads
from eventlog.queries.conversation.pages import sums
from eventlog.queries.conversation.structs import Branch, Conversation, Message, ToolUse, Totals, Turn
from eventlog.queries.text import cells
from eventlog.queries.text.units import duration, spent, tokens

#: Of each text, what is read where it is shown in short.
SHORT_CHARS = 4_000
_TEXT_ROWS, _RESULT_ROWS = 20, 3
_ROW_CHARS, _RESULT_CHARS, _ARGUMENT_CHARS = 2_000, 400, 160
_WIDTH_MIN = 24
_INDENT = "  "
#: How Claude Code writes down a command that a user gave.
_COMMAND = re.compile(r"\s*<command-(?:name|message)>")
_COMMAND_NAME = re.compile(r"<command-name>([^<]*)</command-name>")
#: What Codex writes above the output of a command.
_PREFACE = re.compile(
    r"\A(?:(?:Chunk ID|Wall time|Original token count|Exit code): [^\n]*\n|Process exited [^\n]*\n)*Output:\n"
)
_COMMAND_ARGUMENTS = re.compile(r"<command-args>([^<]*)</command-args>")

Time = Callable[[datetime | None], str]


def lines(conversation: Conversation, *, width: int | None, whole: bool, time: Time) -> Iterator[str]:
    """Yield the lines below the head, at most `width` columns wide (None: as long as they are)."""
    page = _Page(None if width is None else max(width, _WIDTH_MIN), whole=whole, time=time)
    for turn in conversation.turns:
        yield from page.turn(turn)
    yield ""
    yield page.fit(sums(conversation.totals))
    yield from map(page.fit, _notes(conversation))


def head(conversation: Conversation, time: Time) -> list[tuple[str, str]]:
    """Return what stands above the conversation of a session, as names and values.

    A title that is the beginning of the first prompt is left out, since that follows.
    """
    title = conversation.title if conversation.title_source not in ("prompt", "project") else None
    took = ""
    if conversation.started is not None and conversation.finished is not None:
        took = f" ({duration((conversation.finished - conversation.started).total_seconds() * 1000)})"
    entries = [
        (conversation.kind, " ".join(filter(None, (conversation.id, title)))),
        ("when", f"{time(conversation.started)} → {time(conversation.finished)}{took}"),
        ("project", conversation.project or ""),
        ("agent", conversation.agent or ""),
        ("workspace", conversation.workspace or ""),
        ("models", ", ".join(conversation.models)),
    ]
    return [(name, printable(value)) for name, value in entries if value]


def _notes(conversation: Conversation) -> Iterator[str]:
    if conversation.left_out_items:
        chars = f" ({counted(conversation.left_out_chars, 'character')})"
        yield f"… {counted(conversation.left_out_items, 'more text')}{chars}, too many for here; --raw has all lines"
    if conversation.copied_lines:
        yield (
            f"… {counted(conversation.copied_lines, 'line')} at its beginning "
            f"{'is a copy' if conversation.copied_lines == 1 else 'are copies'} of another session, which shows them"
        )


class _Page:
    """Lines of items, as wide as the page. `whole` shows all of each text."""

    def __init__(self, width: int | None, *, whole: bool, time: Time) -> None:
        self._width = width
        self._whole = whole
        self._time = time
        self._day = ""

    def fit(self, line: str) -> str:
        """Return a line that is cut where it is too wide."""
        line = printable(line)
        return line if self._width is None else cells.cut(line, self._width)

    # -- turns and items -------------------------------------------------------------------------

    def turn(self, turn: Turn) -> Iterator[str]:
        took = None
        if turn.started is not None and turn.finished is not None:
            took = (turn.finished - turn.started).total_seconds() * 1000
        number = "──" if turn.number is None else f"── turn {turn.number:,}"
        parts = [number, self._moment(turn.started), duration(took) if took else "", *_short(turn.totals)]
        yield ""
        yield click.style(self._fitting(list(filter(None, parts))), bold=True)
        yield from self._items(turn.items)

    def _fitting(self, parts: list[str]) -> str:
        """Return as many of the parts as there is space for."""
        while self._width is not None and len(parts) > 1 and cells.width("  ".join(parts)) > self._width:
            parts.pop()
        return self.fit("  ".join(parts))

    def _moment(self, moment: datetime | None) -> str:
        """Return a time; the day only where it is another one than that of the turn before."""
        text = self._time(moment)
        day, _, clock = text.partition(" ")
        if day == self._day:
            return clock
        self._day = day
        return text

    def _items(self, items: Iterable[Message | ToolUse | Branch]) -> Iterator[str]:
        for item in items:
            if isinstance(item, Message):
                yield from self._message(item)
            elif isinstance(item, ToolUse):
                yield from self._tool(item)
            else:
                yield from self._branch(item)

    def _message(self, message: Message) -> Iterator[str]:
        text = _readable(message)
        if message.kind in ("thinking", "summary") and not self._whole:
            chars = counted(message.chars, "character")
            line = f"thought for {chars}" if message.kind == "thinking" else f"summary of what was said before, {chars}"
            yield click.style(self.fit(line), dim=True)
            return
        label = {"text": message.role, "thinking": "thought"}.get(message.kind, message.kind)
        is_brief = message.kind in ("note", "error") or message.role == "system"
        rows = 1 if is_brief and not self._whole else _TEXT_ROWS
        style: dict[str, Any] = {"dim": True}
        if message.kind == "text":
            style = {"bold": message.role == "user"}
        elif message.kind == "error":
            style = {"fg": "red"}
        yield from self._labelled(label, text, message.chars - len(message.text), rows=rows, style=style)

    def _tool(self, use: ToolUse) -> Iterator[str]:
        arguments = _arguments(use.arguments)
        facts = "".join(
            (
                f"  ✗ {use.error or 'failed'}" if use.ok is False else "",
                "  (no result)" if use.result is None and use.ok is None else "",
                f"  {duration(use.duration_ms)}" if self._whole and use.duration_ms else "",
            )
        )
        colour = "red" if use.ok is False else "cyan"
        name = printable(f"▸ {use.tool}")
        if self._whole:
            yield click.style(self.fit(f"{name}{facts}"), fg=colour)
            for field, text in _fields(arguments):
                space = "\n" if "\n" in text else " "
                yield from self._indented(f"{field}:{space}{text}" if field else text)
            if len(use.arguments) < use.arguments_chars:
                yield _INDENT + self._more(use.arguments_chars - len(use.arguments))
        else:
            yield click.style(self._one_line(name, brief(arguments), printable(facts)), fg=colour)
        for branch in use.branches:
            yield from self._branch(branch, _texts_of(arguments))
        if use.result:
            yield from self._result(use)

    def _result(self, use: ToolUse) -> Iterator[str]:
        """Yield the result of a tool; what a subagent has just answered is not said again."""
        text = use.result or ""
        answers = [_last_answer(branch) for branch in use.branches]
        answer = next((each for each in answers if each and text.strip().startswith(each.strip())), None)
        if answer is not None:
            text = text.strip()[len(answer.strip()) :].strip()
            if not text:
                return
        unread = use.result_chars - len(use.result or "")
        if self._whole:
            yield from self._indented(text, unread)
            return
        for line in self._first_rows(_PREFACE.sub("", text).strip("\n"), unread):
            yield click.style((_INDENT + line).rstrip(), dim=True)

    def _branch(self, branch: Branch, arguments: list[str] | None = None) -> Iterator[str]:
        """Yield the lines of a subagent, with a bar beside them; its prompt stands among the arguments of its call."""
        inner = _Page(None if self._width is None else self._width - 4, whole=self._whole, time=self._time)
        items = list(branch.items)
        if items and isinstance(items[0], Message) and items[0].role == "user" and items[0].text in (arguments or ()):
            del items[0]
        yield click.style(self.fit(f"{_INDENT}┌ subagent {branch.subagent_id}"), dim=True)
        for line in inner._items(items):
            yield f"{_INDENT}│ {line}"
        yield click.style(self.fit(f"{_INDENT}└ {sums(branch.totals)}"), dim=True)

    # -- texts -----------------------------------------------------------------------------------

    def _labelled(self, label: str, text: str, unread: int, *, rows: int, style: dict[str, Any]) -> Iterator[str]:
        """Yield a text behind its label; further lines are indented. `unread` characters of it were not read."""
        drawn = self._rows(f"{label}: {text.strip()}", unread, rows, _ROW_CHARS)
        for number, line in enumerate(drawn):
            yield click.style((_INDENT + line).rstrip() if number else line, **style)

    def _indented(self, text: str, unread: int = 0) -> Iterator[str]:
        """Yield all of a text below a heading."""
        for line in self._rows(text.strip("\n"), unread, 0, 0):
            yield (_INDENT + line).rstrip()

    def _rows(self, text: str, unread: int, rows: int, chars_max: int) -> Iterator[str]:
        """Yield the rows of a text: all of it, or the first ones, and how much more there is."""
        shown = text if self._whole else _beginning(text, rows, chars_max)
        for row in _printable_rows(shown):
            yield from [row] if self._width is None else cells.wrapped(row, self._width - len(_INDENT))
        if len(shown) < len(text) + unread:
            yield self._more(len(text) - len(shown) + unread)

    def _first_rows(self, text: str, unread: int) -> Iterator[str]:
        """Yield the first rows of a result, cut where they are too wide, and how much more there is."""
        shown = _beginning(text, _RESULT_ROWS, _RESULT_CHARS)
        for row in _printable_rows(shown):
            yield row if self._width is None else cells.cut(row, self._width - len(_INDENT))
        if len(shown) < len(text) + unread:
            yield self._more(len(text) - len(shown) + unread)

    def _more(self, chars: int) -> str:
        return self.fit(f"… {counted(chars, 'more character')}{'; --raw has them' if self._whole else ''}")

    def _one_line(self, name: str, text: str, facts: str) -> str:
        """Return the line of a tool call; where it is too wide, the arguments are cut, not what became of it."""
        if self._width is None:
            return f"{name}  {text}{facts}".rstrip()
        left = self._width - cells.width(name) - cells.width(facts) - 2
        return cells.cut(f"{name}  {cells.cut(text, max(left, 0))}".rstrip() + facts, self._width)


def _short(totals: Totals) -> list[str]:
    """Return sums in few words, the most important ones first."""
    failures = totals.llm_failures + totals.tool_failures
    return [
        "" if totals.cost_usd is None else spent(totals.cost_usd, totals.unpriced),
        f"{tokens(totals.input_tokens)} → {tokens(totals.output_tokens)} tokens" if totals.llm_calls else "",
        counted(totals.llm_calls, "call") if totals.llm_calls else "",
        counted(totals.tool_calls, "tool") if totals.tool_calls else "",
        f"{failures:,} ✗" if failures else "",
    ]


def _printable_rows(text: str) -> list[str]:
    return [printable(row).rstrip() for row in text.replace("\r\n", "\n").split("\n")]


def _beginning(text: str, rows: int, chars_max: int) -> str:
    """Return the first rows of a text, and of these the first characters."""
    at = -1
    for _ in range(rows):
        at = text.find("\n", at + 1)
        if at < 0:
            return text[:chars_max]
    return text[: min(at, chars_max)]


def _readable(message: Message) -> str:
    """Return the text of a message; a command that a user gave as it was typed: `/review 12`."""
    if message.role != "user" or not _COMMAND.match(message.text):
        return message.text
    parts = (pattern.search(message.text) for pattern in (_COMMAND_NAME, _COMMAND_ARGUMENTS))
    return " ".join(part[1].strip() for part in parts if part and part[1].strip()) or message.text


# -- arguments of tools ----------------------------------------------------------------------


def _arguments(text: str) -> Any:
    """Return arguments as Python objects; a text that is no JSON, or only the beginning of some, as it is."""
    return payloads.decode(text.encode(errors="replace")) if text else None


def brief(arguments: Any) -> str:
    """Return arguments on one line: the first text without its name, then the others with theirs."""
    if not isinstance(arguments, dict):
        return _on_one_line("" if arguments is None else arguments)
    first = next((name for name, value in arguments.items() if isinstance(value, str) and value), None)
    parts = [] if first is None else [_on_one_line(arguments[first])]
    parts += [f"{name}: {_on_one_line(value)}" for name, value in arguments.items() if name != first]
    return _cut("  ".join(parts))


def _on_one_line(value: Any) -> str:
    text = value if isinstance(value, str) else _compact(value)
    return _cut(" ".join(text[:SHORT_CHARS].split()))


def _cut(text: str) -> str:
    return printable(text if len(text) <= _ARGUMENT_CHARS else text[: _ARGUMENT_CHARS - 1] + "…")


def _compact(value: Any) -> str:
    """Return a value in words: `a, b` for a list of texts, `name: value` for an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(_compact, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_compact(each)}" for name, each in value.items())
    return msgspec.json.encode(value).decode()


def _fields(arguments: Any) -> Iterator[tuple[str, str]]:
    """Yield arguments whole, each with its name: texts as they are, other values over several lines."""
    if not isinstance(arguments, dict):
        if arguments is not None and arguments != "":
            yield "", arguments if isinstance(arguments, str) else "\n".join(_outline(arguments))
        return
    for name, value in arguments.items():
        yield name, value if isinstance(value, str) else "\n".join(_outline(value))


def _outline(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield lists and objects as lines, indented by their depth."""
    indent = "  " * depth
    if isinstance(value, dict | list) and value and depth < 20:
        entries = value.items() if isinstance(value, dict) else (("-", each) for each in value)
        for name, each in entries:
            label = f"{name}:" if isinstance(value, dict) else "-"
            inner = list(_outline(each, depth + 1))
            if len(inner) == 1 and not isinstance(each, dict | list):
                yield f"{indent}{label} {inner[0].strip()}"
            else:
                yield f"{indent}{label}"
                yield from inner
        return
    yield from (f"{indent}{row}" for row in _compact(value).split("\n"))


def _texts_of(arguments: Any) -> list[str]:
    return [value for value in arguments.values() if isinstance(value, str)] if isinstance(arguments, dict) else []


def _last_answer(branch: Branch) -> str | None:
    texts = [item.text for item in branch.items if isinstance(item, Message) and item.kind == "text"]
    return (
        texts[-1] if texts and isinstance(branch.items[-1], Message) and branch.items[-1].role == "assistant" else None
    )
