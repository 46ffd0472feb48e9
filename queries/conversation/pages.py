"""A conversation as one page to share: Markdown or HTML, without secrets, and with the hashes of its lines.

What was recorded is redacted already; lines of other programs are stored as they were, so the whole conversation is
redacted here, by the same rules. A page needs nothing from elsewhere. Every text in it, whoever wrote it, is text: in
HTML it is escaped, in Markdown it stands in a fenced block. No script is in the page, and none may run in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from html import escape
from typing import Any, Literal

import msgspec

from eventlog.cli.text import counted, printable_lines
from eventlog.queries.conversation.lines import Hashes
from eventlog.queries.conversation.structs import Branch, Conversation, Message, ToolUse, Totals, Turn
from eventlog.queries.text.units import duration, tokens, usd
from eventlog.record.redaction import redact

PageFormat = Literal["markdown", "html"]
Time = Callable[[datetime | None], str]
Item = Message | ToolUse | Branch
_TITLE_CHARS = 100


def redacted(conversation: Conversation) -> Conversation:
    """Return a conversation with each recognized secret in it replaced by `[redacted:<kind>]`."""
    turns = [msgspec.structs.replace(turn, items=list(map(_redacted_item, turn.items))) for turn in conversation.turns]
    texts = {name: _redacted(getattr(conversation, name)) for name in ("title", "project", "agent")}
    return msgspec.structs.replace(conversation, turns=turns, **texts)


def _redacted_item(item: Item) -> Any:
    if isinstance(item, Branch):
        return msgspec.structs.replace(item, items=list(map(_redacted_item, item.items)))
    if isinstance(item, Message):
        text = _redacted(item.text) or ""
        return msgspec.structs.replace(item, text=text, chars=item.chars - len(item.text) + len(text))
    arguments, result = _redacted_json(item.arguments), _redacted(item.result)
    return msgspec.structs.replace(
        item, arguments=arguments, arguments_chars=item.arguments_chars - len(item.arguments) + len(arguments),
        result=result, result_chars=item.result_chars - len(item.result or "") + len(result or ""),
        error=_redacted(item.error), branches=list(map(_redacted_item, item.branches)),
    )  # fmt: skip


def _redacted(text: str | None) -> str | None:
    """Redact a text as what it would be in a payload."""
    return text if text is None else str(msgspec.json.decode(redact(msgspec.json.encode([text])))[0])


def _redacted_json(text: str) -> str:
    """Redact JSON, where names say what is secret; what is no JSON, such as the beginning of some, as a text."""
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return _redacted(text) or ""
    return redact(text.encode()).decode()


def page(conversation: Conversation, hashes: Hashes, format_: PageFormat, time: Time) -> str:
    """Return the page of a conversation, redacted. `time` shows times."""
    write = {"markdown": _markdown, "html": _html}[format_]
    lines = "\n".join(write(redacted(conversation), hashes, time))
    return printable_lines(lines.replace("\r\n", "\n") + "\n")


def _title(conversation: Conversation) -> str:
    title = " ".join((conversation.title or f"{conversation.kind} {conversation.id}").split())
    return title if len(title) <= _TITLE_CHARS else title[: _TITLE_CHARS - 1] + "…"


def _facts(conversation: Conversation, time: Time) -> Iterator[tuple[str, str]]:
    yield conversation.kind, conversation.id
    yield "when", f"{time(conversation.started)} → {time(conversation.finished)}"
    for name, value in (("project", conversation.project), ("agent", conversation.agent),
                        ("workspace", conversation.workspace), ("models", ", ".join(conversation.models)),
                        ("status", conversation.run and conversation.run.status)):  # fmt: skip
        if value:
            yield name, value
    yield "in all", sums(conversation.totals)


def sums(totals: Totals) -> str:
    """Return sums in words: `3 model calls, 2 tool calls (1 failed), 3.6k → 561 tokens, $0.0204`."""
    parts = [
        counted(totals.llm_calls, "model call") + _ends(totals.llm_failures, 0),
        counted(totals.tool_calls, "tool call") + _ends(totals.tool_failures, totals.tool_unknown),
    ]
    parts.append(f"{tokens(totals.input_tokens)} → {tokens(totals.output_tokens)} tokens")
    if totals.cost_usd is not None:
        parts.append(usd(totals.cost_usd) + (f" ({totals.unpriced:,} without a price)" if totals.unpriced else ""))
    elif totals.unpriced:
        parts.append("no price is known")
    return ", ".join(parts)


def _ends(failures: int, unknown: int) -> str:
    named = {"failed": failures, "without a result": unknown}
    notes = ", ".join(f"{number:,} {word}" for word, number in named.items() if number)
    return f" ({notes})" if notes else ""


def _turn_title(turn: Turn, time: Time) -> str:
    number = "Before the first turn" if turn.number is None else f"Turn {turn.number:,}"
    return ", ".join(filter(None, (number, time(turn.started), sums(turn.totals))))


def _label(message: Message) -> str:
    labels = {
        "text": message.role, "thinking": f"thought, {counted(message.chars, 'character')}",
        "summary": "summary of what was said before",
    }  # fmt: skip
    return labels.get(message.kind, message.kind)


def _tool_title(use: ToolUse) -> str:
    went = {True: "", None: "" if use.result is not None else ", no result", False: f", {use.error or 'failed'}"}[
        use.ok
    ]
    took = f", {duration(use.duration_ms)}" if use.duration_ms else ""
    return f"{use.tool}{went}{took}"


def _arguments(use: ToolUse) -> str:
    """Return arguments as JSON over several lines; what is no JSON, or the beginning of some, as it is."""
    try:
        return msgspec.json.format(use.arguments, indent=2)
    except msgspec.MsgspecError:
        return use.arguments


def _left_out(conversation: Conversation) -> Iterator[str]:
    if conversation.left_out_items:
        chars = counted(conversation.left_out_chars, "character")
        yield f"{counted(conversation.left_out_items, 'more text')} ({chars}) are left out: too many for one page."
    if conversation.copied_lines:
        yield f"{counted(conversation.copied_lines, 'line')} at its beginning are copies of another session."


def _proof(conversation: Conversation, hashes: Hashes) -> Iterator[str]:
    yield (
        "Secrets of known shapes were removed from this page. It is made from "
        f"{counted(len(hashes.lines), 'line')} of the log, whose SHA-256 is {hashes.sha256}. "
        "Whoever has the log checks that with:"
    )
    yield f"eventlog show {conversation.id} --raw | sha256sum"
    yield "Below are the hashes of the single lines (with their newlines), in the order of that command."
    if hashes.missing:
        yield f"The log has {counted(hashes.missing, 'line')} no more."


# -- Markdown --------------------------------------------------------------------------------


def _markdown(conversation: Conversation, hashes: Hashes, time: Time) -> Iterator[str]:
    yield f"# {_inline(_title(conversation))}"
    yield ""
    yield from (f"- {name}: {_inline(value)}" for name, value in _facts(conversation, time))
    for turn in conversation.turns:
        yield ""
        yield f"## {_inline(_turn_title(turn, time))}"
        yield from _markdown_items(turn.items)
    yield from (f"\n{sentence}" for sentence in _left_out(conversation))
    yield "\n## Proof\n"
    sentence, command, *more = _proof(conversation, hashes)
    yield sentence
    yield from _fenced(command)
    yield from more
    yield from _fenced("\n".join(f"{each.sha256}  {each.segment}:{each.offset}" for each in hashes.lines))


def _markdown_items(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        yield ""
        if isinstance(item, Message):
            yield f"**{_inline(_label(item))}**"
            yield from _fenced(item.text, item.chars)
        elif isinstance(item, ToolUse):
            yield f"**tool {_inline(_tool_title(item))}**"
            yield from _fenced(_arguments(item), item.arguments_chars)
            yield from _markdown_items([*item.branches])
            if item.result:
                yield "result:"
                yield from _fenced(item.result, item.result_chars)
        else:
            yield f"**subagent {_inline(item.subagent_id)}**: {sums(item.totals)}"
            yield from (f"> {line}" for part in _markdown_items(item.items) for line in part.split("\n"))


#: Characters that begin something in Markdown or HTML.
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|!&~])")


def _inline(text: str) -> str:
    """Return a text on one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str, chars: int = 0) -> list[str]:
    """Return a text in a block with a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return ["", f"{fence}text", text, fence, *_cut(text, chars)]


def _cut(text: str, chars: int) -> list[str]:
    return [f"… {counted(chars - len(text), 'more character')}"] if chars > len(text) else []


# -- HTML ------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --quiet: #59636e; --page: #fff; --box: #f6f8fa; --line: #d1d9e0;
  --user: #0969da; --failed: #b35900 }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --quiet: #9198a1; --page: #0d1117; --box: #151b23;
  --line: #3d444d; --user: #58a6ff; --failed: #f0883e } }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem } dt, summary, .label { color: var(--quiet) }
dd { margin: 0; overflow-wrap: anywhere } .label { font-size: .85rem; margin: 1rem 0 .2rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: inherit }
.user pre { border-left: 3px solid var(--user); padding-left: .8rem } .failed > summary { color: var(--failed) }
details { margin: .4rem 0; font-size: .9rem } details pre, .proof { font: .85rem/1.4 ui-monospace, monospace }
details > pre { background: var(--box); padding: .5rem .7rem; margin: .3rem 0; border-radius: 4px }
.subagent { border-left: 1px solid var(--line); margin: .5rem 0 .5rem 1rem; padding-left: 1rem }
"""
#: Whatever might slip through: nothing is loaded, and no script runs.
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    """content="default-src 'none'; style-src 'unsafe-inline'">"""
)


def _html(conversation: Conversation, hashes: Hashes, time: Time) -> Iterator[str]:
    title = escape(_title(conversation))
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield _POLICY
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(conversation, time))
    yield "</dl>"
    for turn in conversation.turns:
        yield f"<h2>{escape(_turn_title(turn, time))}</h2>"
        yield from _html_items(turn.items)
    yield from (f"<p>{escape(sentence)}</p>" for sentence in _left_out(conversation))
    yield "<h2>Proof</h2>"
    sentence, command, *more = _proof(conversation, hashes)
    yield f'<p>{escape(sentence)}</p>\n<pre class="proof">{escape(command)}</pre>'
    yield from (f"<p>{escape(each)}</p>" for each in more)
    rows = "\n".join(f"{each.sha256}  {each.segment}:{each.offset}" for each in hashes.lines)
    count = counted(len(hashes.lines), "hash", "hashes")
    yield f"<details><summary>{count}</summary><pre>{escape(rows)}</pre></details>"
    yield "</body>\n</html>"


def _html_items(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Branch):
            yield f'<div class="subagent"><p class="label">subagent {escape(item.subagent_id)}: {sums(item.totals)}</p>'
            yield from _html_items(item.items)
            yield "</div>"
        elif isinstance(item, ToolUse):
            kind = ' class="failed"' if item.ok is False else ""
            yield f"<details{kind}><summary>▸ {escape(_tool_title(item))}</summary>"
            yield _pre(_arguments(item), item.arguments_chars)
            yield from _html_items([*item.branches])
            if item.result:
                yield _pre(item.result, item.result_chars)
            yield "</details>"
        elif item.kind in ("thinking", "summary"):
            yield f"<details><summary>{escape(_label(item))}</summary>{_pre(item.text, item.chars)}</details>"
        else:
            opened = '<div class="user">' if item.role == "user" and item.kind == "text" else "<div>"
            yield f'{opened}<p class="label">{escape(_label(item))}</p>{_pre(item.text, item.chars)}</div>'


def _pre(text: str, chars: int) -> str:
    return f"<pre>{escape(text)}</pre>{''.join(f'<p>{each}</p>' for each in _cut(text, chars))}"
