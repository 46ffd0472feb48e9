"""Rollouts as Codex writes them, the same for a seed, and what was really used: docs/codex.md.

What a session used is known when it is written, and never counted from the lines. Sums are repeated, rate limits change
without a call, calls are interrupted before they are told of, counting begins anew, and sessions are forked, with all
that was said so far under new times.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from tests.recount.calls import LlmCall

Line = dict[str, Any]
Counts = tuple[int, ...]
MODELS = ("gpt-5.5", "gpt-5.3-codex-spark", "kiln-private-1")
#: What a usage object counts; cached input is in the input, reasoning in the output.
FIELDS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
NOTHING = (0,) * len(FIELDS)


class _Session:
    """A session: its lines, the last sum that they tell, and what they do not tell yet."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.lines: list[Line] = []
        self.told = self.last = self.untold = NOTHING
        self.model: str | None = None
        self.searches = 0


class _Program:
    """A Codex that has worked for some hours."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = datetime(2026, 6, 17, 10)
        self.sessions: list[_Session] = []
        self.used: list[LlmCall] = []

    def tick(self) -> str:
        self.clock += timedelta(milliseconds=self.random.choice((1, 400, 2_500)))
        return self.clock.isoformat(timespec="milliseconds") + "Z"

    def uuid(self) -> str:
        """An id that begins with the time."""
        self.tick()
        ms = int((self.clock - datetime(1970, 1, 1)) / timedelta(milliseconds=1))
        rest = self.random.getrandbits(12), self.random.getrandbits(48)
        return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{rest[0]:03x}-8000-{rest[1]:012x}"

    def write(self, session: _Session, kind: str, **payload: Any) -> None:
        session.lines.append({"timestamp": self.tick(), "type": kind, "payload": payload})

    def begin(self) -> _Session:
        """Begin a session, or a fork of an earlier one."""
        settled = [each for each in self.sessions if each.untold == NOTHING != each.told]
        parent = self.random.choice(settled) if settled and self.random.random() < 0.5 else None
        session = _Session(self.uuid())
        named = {} if parent is None else {"forked_from_id": parent.session_id}
        self.write(session, "session_meta", id=session.session_id, cwd="/srv", model_provider="openai", **named)
        if parent is not None:
            stamp = self.tick()
            session.lines += [line | {"timestamp": stamp} for line in parent.lines]
            session.told, session.last = parent.told, parent.last
        self.sessions.append(session)
        return session

    def turn(self, session: _Session) -> None:
        """A prompt, searches, calls, and the noise between them."""
        chance = self.random.random
        session.model = self.random.choice(MODELS)
        self.write(session, "turn_context", turn_id=self.uuid(), model=session.model)
        self.write(session, "event_msg", type="user_message", message="go on")
        for _ in range(self.random.randrange(1, 4)):
            if chance() < 0.2:
                self.search(session)
            self.call(session)
            if chance() < 0.3:
                self.tell(session)
            if chance() < 0.2:
                self.write(session, "event_msg", type="token_count", info=None)

    def search(self, session: _Session) -> None:
        action = {"type": self.random.choice(("search", "open_page")), "query": "kiln"}
        self.write(session, "response_item", type="web_search_call", status="completed", action=action)
        session.searches += action["type"] == "search"

    def call(self, session: _Session) -> None:
        """A call; of one that is interrupted only the sum of the next one tells."""
        input_, output = self.random.randrange(1, 50_000), self.random.randrange(1, 5_000)
        used = (input_, self.random.randrange(input_), output, self.random.randrange(output))
        if self.random.random() < 0.1:
            session.untold = _sum(session.untold, used)
            return
        anew = session.untold == NOTHING and any(one < before for one, before in zip(used, session.told, strict=True))
        begins_anew = anew and self.random.random() < 0.1
        used_in_all = _sum(session.untold, used)
        session.told = used if begins_anew else _sum(session.told, used_in_all)
        session.last, session.untold = used, NOTHING
        self.tell(session)
        self.used.append(_llm_call(session, used_in_all, self.clock))
        session.searches = 0

    def tell(self, session: _Session) -> None:
        """Write the last sum, once more or for the first time."""
        sums = {"total_token_usage": session.told, "last_token_usage": session.last}
        if session.told != NOTHING:
            info = {name: dict(zip(FIELDS, counts, strict=True)) for name, counts in sums.items()}
            self.write(session, "event_msg", type="token_count", info=info)


def _sum(one: Counts, other: Counts) -> Counts:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _llm_call(session: _Session, used: Counts, at: datetime) -> LlmCall:
    input_, cached, output, reasoning = used
    return LlmCall(
        message_id="",
        workspace=None,
        agent=None,
        run_id=None,
        session_id=session.session_id,
        subagent_id=None,
        source="codex",
        provider="openai",
        model=session.model,
        tier=None,
        tokens=(input_ - cached, cached, 0, 0, output),
        reasoning=reasoning,
        latency_ms=None,
        ttft_ms=None,
        error_type=None,
        ok=True,
        reported=None,
        timestamp=at,
        last_timestamp=at,
        searches=session.searches,
    )


def write(folder: Path, seed: int, *, sessions: int = 8) -> tuple[list[Path], list[LlmCall]]:
    """Write rollouts into a folder; return their paths, and the calls that were made."""
    program = _Program(seed)
    for _ in range(sessions):
        program.begin()
        for _ in range(program.random.randrange(1, 4)):
            program.turn(program.random.choice(program.sessions))
    paths = []
    for session in program.sessions:
        paths.append(folder / f"rollout-{session.session_id}.jsonl")
        folder.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in session.lines), encoding="utf-8")
    return paths, program.used
