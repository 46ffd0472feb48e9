"""Payloads that Python has no number for, or that are odd in another way: every reader shows them, and the rest."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.errors import QueryFailed
from eventlog.format import payloads
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index, line, segment


@pytest.mark.parametrize(("payload", "decoded"), [
    (b'{"n":1e400,"m":-1e400,"x":1.5,"i":7}', {"n": "1e400", "m": "-1e400", "x": 1.5, "i": 7}),
    (b'{"n":%s}' % (b"9" * 5000), {"n": "9" * 5000}),
    (b'{"n":12345678901234567890123}', {"n": 12345678901234567890123}),
    (b'["\\ud800"]', ["\ufffd"]),
    (b'{"a":1,"a":2,"b":{"c":3,"c":4}}', {"a": 1, "b": {"c": 3}}),
    (b"[" * 100_000 + b"]" * 100_000, "[" * 100_000 + "]" * 100_000),
    (b"\xff", "\ufffd"),
])  # fmt: skip
def test_any_payload_can_be_read(payload: bytes, decoded: Any) -> None:
    """As what Python has for it, or as its text; and encoded again."""
    assert payloads.decode(payload) == decoded
    assert msgspec.json.encode(payloads.decode(payload))
    assert payloads.fields(payload) == (decoded if isinstance(decoded, dict) else {"payload": decoded})


def test_a_number_beyond_a_float_breaks_no_reader(root: Path, run: Run) -> None:
    """It is shown as its text, and what is sound beside it is found."""
    odd, sound = (
        line(1, run_id="r", payload=msgspec.Raw(b'{"word":"shelf","n":1e400}')),
        line(2, run_id="r", payload={"word": "shelf"}),
    )
    segment(root, odd, sound)
    index(root)
    store = ReadStore(root)
    ids = [msgspec.json.decode(each, type=dict[str, msgspec.Raw])["event_id"] for each in (odd, sound)]
    odd_id, sound_id = (msgspec.json.decode(each, type=str) for each in ids)
    assert {hit.event_id for hit in store.search("shelf").hits} == {odd_id, sound_id}
    assert [hit.field for hit in store.search("1e400").hits] == ["n"]
    assert store.payloads([odd_id, sound_id])[odd_id] == {"word": "shelf", "n": "1e400"}
    found = store.event(odd_id)
    assert found is not None
    assert found.event.data() == {"word": "shelf", "n": "1e400"}
    shown = run("show", odd_id)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert '"n": "1e400"' in shown.stdout
    assert "same as the row: yes" in shown.stdout
    as_json = msgspec.json.decode(run("show", odd_id, "--json").stdout.replace("1e400", "1"))
    assert as_json["evidence"]["same"] is True
    assert "n: 1e400" in run("show", "r", "--verbose").stdout.replace('"', "")


@pytest.mark.parametrize("method", [
    "costs", "recomputed_costs", "prices_in_use", "alerts", "alert_rules", "alert_deliveries", "metrics", "runs",
])  # fmt: skip
def test_every_answer_has_a_time_limit(root: Path, method: str) -> None:
    """One that is over it ends as any query does."""
    segment(root, *(line(n, "llm_call", payload={"request_model": f"m{n}"}) for n in range(50)), event_type="llm_call")
    index(root)
    arguments = [datetime(2026, 6, 1)] if method == "recomputed_costs" else []
    with pytest.raises(QueryFailed, match=r"^the query was stopped after 0\.001 s"):
        getattr(ReadStore(root, timeout_s=0.001), method)(*arguments)
    assert getattr(ReadStore(root), method)(*arguments) is not None


def test_what_is_no_text_cannot_be_searched_for(root: Path, run: Run) -> None:
    """It is the reader's mistake, and says so."""
    segment(root, line(1))
    index(root)
    done = run("search", "\udcff")
    assert (done.returncode, done.stderr) == (2, "error: the search is not UTF-8; no text of the log has such bytes\n")
