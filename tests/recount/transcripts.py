"""Transcripts as Claude Code, its older versions and its proxies write them, the same for a seed, with all that is odd
in real ones: docs/decisions/0034.

Sessions are forked in four ways; lines of an answer lack request ids, and their usage grows or shrinks; message and
tool ids are used again; tools are interrupted; calls fail and are tried again; subagents are in files of their own,
within other lines, and between them; summaries are in the files of others; lines have no time, or one of before.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

Line = dict[str, Any]
MODELS = ("claude-opus-4-5-20251101", "claude-haiku-4-5-20251001", "anthropic/claude-opus-4.5")
FOLDERS = ("/home/ada/engine", "/home/ada/engine/.claude/worktrees/faster/src")
FORKS = ("byte for byte", "new id", "marked", "background")
PROMPTS = (
    "Make it count. ☃",
    "<command-name>/clear</command-name>",
    "[Request interrupted by user]",
    "  go on " * 60,
    "",
)


#: When snapshots were made; a line of one has no time of its own.
EARLY = "2026-01-05T09:00:00Z"


class _Program:
    """A Claude Code that has worked for some days."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.files: dict[str, list[Line]] = {}
        self.clock = datetime(2026, 1, 5, 10)
        self.session = self.folder = ""
        self.tail: str | None = None

    def uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def write(self, kind: str, *, file: str | None = None, **fields: Any) -> Line:
        self.clock += timedelta(milliseconds=self.random.choice((0, 1, 400, 2_500, 60_000)))
        uuid = self.uuid()
        line = {
            "type": kind,
            "sessionId": self.session,
            "uuid": uuid,
            "parentUuid": self.tail,
            "cwd": "/home/ada/engine",
            "gitBranch": ("main", "fix/it", "")[self.clock.minute % 3],
        }
        moment = self.clock - timedelta(seconds=self.random.choice((0,) * 9 + (90,)))
        line["timestamp"] = moment.isoformat(timespec="milliseconds") + "Z"
        self.tail = uuid
        made = line | fields
        self.files.setdefault(file or self.session, []).append(made)
        return made

    # -- sessions ------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a session, or a fork of an earlier one."""
        earlier = [name for name in self.files if len(name) == 36]
        self.session, self.tail = self.uuid(), None
        self.folder = self.random.choice(FOLDERS)
        if not earlier or self.random.random() < 0.4:
            return
        parent = self.random.choice(earlier)
        own: Line = {"sessionId": self.session}
        mark = {"forkedFrom": {"sessionId": parent, "messageUuid": "m"}}
        more = dict(zip(FORKS, ({}, own, own | mark, own | {"sessionKind": "bg"}), strict=True))[
            self.random.choice(FORKS)
        ]
        copied = self.files[parent][: self.random.randrange(1, len(self.files[parent]) + 1)]
        self.files[self.session] = [line | {name: more[name] for name in more if "uuid" in line} for line in copied]

    def work(self) -> None:
        """One turn: a prompt, and what comes of it."""
        if self.random.random() < 0.8:
            self.ask()
        for _ in range(self.random.randrange(1, 4)):
            self.random.choices((self.answer, self.fail, self.inline_subagent, self.subagent), (8, 1, 1, 2))[0]()
        if self.random.random() < 0.5:
            self.name_it()

    def ask(self) -> None:
        text = self.random.choice(PROMPTS)
        content: Any = text if self.random.random() < 0.5 else [{"type": "text", "text": text}]
        extra = self.random.choice(({}, {}, {"isMeta": True}, {"isCompactSummary": True}, {"cwd": "/tmp/elsewhere"}))
        self.write("user", message={"role": "user", "content": content}, **extra)

    # -- answers -------------------------------------------------------------------------

    def message_id(self) -> str:
        long = f"msg_{self.random.getrandbits(60):015x}"
        return self.random.choice((long, long, "m1", f"chatcmpl-{self.random.getrandbits(64):016x}"))

    def tool_id(self) -> str:
        return self.random.choice((f"toolu_{self.random.getrandbits(60):015x}", "Bash:0", "Bash:1"))

    def answer(self, **where: Any) -> None:
        """An answer of several lines, with calls of tools, whose results follow, or do not."""
        message_id, model = self.message_id(), self.random.choice(MODELS)
        request_id, tools = f"req_{self.random.getrandbits(40):010x}", []
        count = self.random.randrange(1, 4)
        counts = [self.random.choice((0, 1, 37, 420, 9_000)) for _ in range(count)]
        for number, output in enumerate(counts):
            content: Line = {"type": "text", "text": "so be it"}
            if self.random.random() < 0.5:
                tools.append(self.tool_id())
                content = {"type": "tool_use", "id": tools[-1], "name": "Bash", "input": {"command": "make"}}
            message = {
                "id": message_id, "role": "assistant", "model": model, "content": [content],
                "usage": self.usage(output),
                "stop_reason": "tool_use" if number == count - 1 and self.random.random() < 0.5 else None,
            }  # fmt: skip
            named = {"requestId": request_id} if self.random.random() < 0.7 else {}
            self.write("assistant", message=message, **named, **where)
        for tool in tools:
            self.result(tool, **where)

    def usage(self, output: int) -> Line:
        short, long = self.random.choice(((0, 0), (50, 0), (50, 200), (0, 700)))
        rest = self.random.choice((0, 0, 0, 11))
        split = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
        usage = {
            "input_tokens": self.random.choice((0, 3, 12)),
            "cache_read_input_tokens": self.random.choice((0, 1500)),
            "cache_creation_input_tokens": short + long + rest,
            "output_tokens": output,
            "service_tier": "standard",
        }
        searches = self.random.choice((None, None, None, 0, 2))
        place = self.random.choice((None, None, "not_available", "us"))
        return (
            usage
            | ({"cache_creation": split} if self.random.random() < 0.8 else {})
            | ({} if searches is None else {"server_tool_use": {"web_search_requests": searches}})
            | ({} if place is None else {"inference_geo": place})
        )

    def result(self, tool: str, **where: Any) -> None:
        for _ in range(self.random.choice((0, 1, 1, 1, 2))):
            block: Line = {"type": "tool_result", "tool_use_id": tool, "content": "make: done"}
            block |= self.random.choice(({}, {"is_error": False}, {"is_error": True}))
            self.write("user", message={"role": "user", "content": [block]}, **where)

    def fail(self) -> None:
        """Retries, and perhaps Claude Code's own words that it gave up."""
        error = self.random.choice(
            ({"status": 529, "error": {"type": "error", "error": {"type": "overloaded_error"}}}, {"status": 502}, {})
        )
        for _ in range(self.random.randrange(3)):
            self.write("system", subtype="api_error", error=error, retryInMs=500)
        message = {"id": self.uuid(), "role": "assistant", "model": "<synthetic>", "content": [], "usage": {}}
        self.write("assistant", message=message, isApiErrorMessage=self.random.random() < 0.5)

    # -- subagents -----------------------------------------------------------------------

    def inline_subagent(self) -> None:
        """As older versions wrote it: between the lines of the conversation, without an id."""
        tail, self.tail = self.tail, None
        self.write("user", message={"role": "user", "content": "Find it"}, isSidechain=True)
        self.answer(isSidechain=True)
        self.tail = tail

    def subagent(self) -> None:
        """Within `progress` lines, in a file of its own, or both."""
        agent = f"a{self.random.getrandbits(28):07x}"
        self.answer(agentId=agent, isSidechain=True, file=f"{self.session}/subagents/agent-{agent}")
        for line in self.files[f"{self.session}/subagents/agent-{agent}"]:
            if self.random.random() < 0.5:
                within = {name: line[name] for name in ("type", "message", "requestId", "uuid") if name in line}
                self.write("progress", data={"type": "agent_progress", "agentId": agent, "message": within})

    # -- titles --------------------------------------------------------------------------

    def name_it(self) -> None:
        own = self.files.setdefault(self.session, [])
        leaf = self.random.choice([*own, {}]).get("uuid") or "nobody"
        summary = {"type": "summary", "summary": f"About {self.random.randrange(99)}", "leafUuid": leaf}
        snapshot = {
            "type": "file-history-snapshot",
            "messageId": leaf,
            "snapshot": {"timestamp": "2026-01-05T09:00:00Z"},
        }
        named = {"type": "custom-title", "customTitle": "Of mine", "sessionId": self.session}
        by_model = {"type": "ai-title", "aiTitle": f"Of a model {self.random.randrange(9)}", "sessionId": self.session}
        line = self.random.choice((summary, summary, snapshot, named, by_model))
        place = self.random.choice([own, own, *self.files.values(), self.files.setdefault("summaries", [])])
        (own if "sessionId" in line else place).append(line)


def write(folder: Path, seed: int, *, sessions: int = 12) -> list[Path]:
    """Write transcripts into a folder, and return their paths."""
    program = _Program(seed)
    for _ in range(sessions):
        program.begin()
        for _ in range(program.random.randrange(1, 5)):
            program.work()
    paths = []
    for name, lines in program.files.items():
        paths.append(folder / "-home-ada-engine" / f"{name}.jsonl")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return [path for path in paths if path.stat().st_size]
