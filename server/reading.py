"""A reader process: it answers one question at a time, for as long as the server lives.

    frame ──→ ReadStore of the workspace ──→ struct ──→ JSON ──→ frame

It indexes first what is new, as the commands do, if that is quick; a reader of one workspace does not (it is not to
learn how much others write), and the server sees to it afterwards. DuckDB is loaded here and nowhere else: what it does
to a process it does to one that can be replaced.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import traceback
from collections import OrderedDict
from datetime import UTC, datetime
from typing import NoReturn

import msgspec

from eventlog.cli.text import harmless_json
from eventlog.errors import IndexBusy, IndexFailed, QueryFailed
from eventlog.indexer.index import index_file
from eventlog.indexer.index.engine import fingerprint
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from eventlog.queries.access import sandbox
from eventlog.queries.access.freshness import Behind
from eventlog.queries.access.sandbox import OverTime
from eventlog.queries.identity import NotFound
from eventlog.queries.store import ReadStore
from eventlog.server import frames, openapi, parameters, sql_rows
from eventlog.server.answers import ANSWERS, Line
from eventlog.server.endpoints import BY_NAME, SQL, SqlQuestion
from eventlog.server.frames import Question, Reply, Setup
from eventlog.server.problems import Problem

#: Asked by the server itself.
CATCH_UP, OPENAPI = "catch_up", "openapi"
BEHIND, SEGMENT, OFFSET, SHA256 = "eventlog-behind", "eventlog-segment", "eventlog-offset", "eventlog-sha256"
ROWS, CUT = "eventlog-rows", "eventlog-cut"
#: How long another process may hold the index, as a share of the time of an answer; and catching up in between.
_WAIT_SHARE, _CATCH_UP_SHARE = 0.25, 0.25
_STORES_MAX = 32
_TAG_CHARS = 32
_MEDIA_TYPES = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
#: The process is replaced.
_EXIT_STUCK = 3


def main() -> None:
    """Answer questions from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else is printed between the frames
    sandbox.bound_process()
    reader = Reader(msgspec.msgpack.decode(frames.read(sys.stdin.buffer), type=Setup))
    answers.write(frames.encode(Reply()))
    answers.flush()
    while frame := frames.read(sys.stdin.buffer):
        answers.write(frames.encode(reader.reply(msgspec.msgpack.decode(frame, type=Question))))
        answers.flush()


class Reader:
    """Answers questions about one root."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._index = index_file.index_path(setup.root)
        self._stores: OrderedDict[str | None, ReadStore] = OrderedDict()

    def reply(self, question: Question) -> Reply:
        """Answer a question; every error becomes a reply, too."""
        try:
            return self._reply(question)
        except Problem as problem:
            return _problem(problem.status, problem.code, problem.detail)
        except NotFound as error:
            return _problem(404, "not_found", self._harmless(error))
        except OverTime as error:
            return _problem(504, "timed_out", self._harmless(error))
        except sql_rows.TooLarge as error:
            return _problem(422, "answer_too_large", self._harmless(error))
        except QueryFailed as error:
            return _problem(400, "bad_query", self._harmless(error))
        except IndexBusy:
            return _problem(503, "index_busy", "another process holds the index; ask again")
        except (IndexFailed, OSError) as error:
            sys.stderr.write(f"WARNING: the index cannot be read: {error}\n")
            detail = "there is no index yet that can be read; one is made if it can be"
            return _problem(503, "no_index", detail, is_behind=True)
        except MemoryError:
            return _problem(422, "answer_too_large", "the answer does not fit into memory; narrow the question")
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and the next question is answered
            traceback.print_exc()
            return _problem(500, "internal_error", "this is a fault of ours; the server's log has more")

    def _reply(self, question: Question) -> Reply:
        if question.endpoint == OPENAPI:
            return Reply(body=openapi.document())
        if question.endpoint == CATCH_UP:
            self._catch_up(self._setup.timeout_s * _CATCH_UP_SHARE)
            return Reply()
        is_scoped = question.workspace is not None
        behind = self._catch_up(0.0 if is_scoped else self._setup.catch_up_s)
        headers = {}
        if behind is not None:
            size = None if is_scoped else behind.bytes
            headers[BEHIND] = "unknown" if size is None else f"{size}"
        store = self._store(question.workspace)
        if question.endpoint == SQL:
            reply = self._sql(store, msgspec.json.decode(question.body, type=SqlQuestion), headers)
        else:
            reply = self._ask(store, question, headers)
        if len(reply.body) > self._setup.answer_max_bytes:
            raise sql_rows.too_large(self._setup.answer_max_bytes)
        return msgspec.structs.replace(reply, is_behind=behind is not None)

    # -- the index ---------------------------------------------------------------------------------

    def _catch_up(self, within_s: float) -> Behind | None:
        if not self._index.exists() and not layout.list_log(self._setup.root).segments:
            Indexer(self._setup.root, timeout_s=1.0).catch_up()  # nothing is recorded yet, which can be asked, too
        return self._store(None).catch_up(within_s, say=_warn)

    def _store(self, workspace: str | None) -> ReadStore:
        store = self._stores.pop(workspace, None)
        if store is None:
            timeout_s = self._setup.timeout_s
            store = ReadStore(
                self._setup.root, workspace=workspace, wait_s=timeout_s * _WAIT_SHARE, timeout_s=timeout_s,
                on_stuck=_give_up,
            )  # fmt: skip
        self._stores[workspace] = store
        while len(self._stores) > _STORES_MAX:
            self._stores.popitem(last=False)
        return store

    # -- answers -----------------------------------------------------------------------------------

    def _ask(self, store: ReadStore, question: Question, headers: dict[str, str]) -> Reply:
        endpoint = BY_NAME[question.endpoint]
        every = (*endpoint.of_path, *endpoint.all_parameters)
        arguments = parameters.read(every, question.texts, datetime.now(UTC))
        of_index = None
        # In a workspace, such a tag would tell when others write.
        if endpoint.depends_on == "index" and store.workspace is None and not headers:
            of_index = fingerprint(self._index)
            tag = None if of_index is None else self._tag(question, of_index, repr(sorted(arguments.items())).encode())
            if tag is not None and tag in question.tags:
                return Reply(status=304, headers={"etag": tag})
        budgets = self._setup.budgets if store.workspace is None else {}
        answer = ANSWERS[endpoint.name].answer(store, {**arguments, "budgets": budgets})
        if isinstance(answer.content, Line):
            return _line(answer.content, headers, question)
        body = harmless_json(msgspec.json.encode(answer.content)) + b"\n"
        if of_index is None or not answer.is_of_index or fingerprint(self._index) != of_index:
            tag = self._tag(question, b"", body)
        assert tag is not None
        headers["etag"] = tag
        if tag in question.tags:
            return Reply(status=304, headers=headers)
        if answer.next is not None:
            headers["link"] = answer.next
        return Reply(body=body, headers=headers)

    def _tag(self, question: Question, of_index: bytes, content: bytes) -> str:
        """Return the tag of an answer: of the index and the arguments, or, without `of_index`, of its bytes."""
        parts = (self._setup.edition, question.workspace, question.endpoint, of_index, content)
        return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:_TAG_CHARS]}"'

    def _sql(self, store: ReadStore, question: SqlQuestion, headers: dict[str, str]) -> Reply:
        timeout_s = min(question.timeout_s or self._setup.timeout_s, self._setup.timeout_s)
        body, count = sql_rows.rows(store, question, max_bytes=self._setup.answer_max_bytes, timeout_s=timeout_s)
        headers[ROWS] = f"{count}"
        if count == question.limit:
            headers[CUT] = "1"
        return Reply(body=body, headers=headers, media_type=_MEDIA_TYPES[question.format])

    def _harmless(self, error: Exception) -> str:
        """Return what an error says, without the path of the root."""
        return str(error).replace(os.path.abspath(self._setup.root), "…").replace(self._setup.root, "…")


def _line(line: Line, headers: dict[str, str], question: Question) -> Reply:
    tag = f'"{line.sha256[:_TAG_CHARS]}"'
    headers |= {"etag": tag, SEGMENT: line.segment, OFFSET: f"{line.offset}", SHA256: line.sha256}
    if tag in question.tags:
        return Reply(status=304, headers=headers)
    return Reply(body=line.line, headers=headers, media_type="application/octet-stream")


def _problem(status: int, code: str, detail: str, *, is_behind: bool = False) -> Reply:
    return Reply(status=status, code=code, detail=detail, is_behind=is_behind)


def _warn(text: str) -> None:
    sys.stderr.write(f"WARNING: {text}\n")


def _give_up(error: QueryFailed) -> NoReturn:
    """End the process, whatever DuckDB is doing; the server sees that, and says why."""
    _warn(str(error))
    os._exit(_EXIT_STUCK)
