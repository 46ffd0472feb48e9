"""`tail --since` goes by the lines, and by what seals say of them: never by the times of files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import InvalidEvent
from eventlog.format import envelope
from eventlog.log import layout, times
from eventlog.log.layout import SegmentFile
from eventlog.maintenance import sealing
from eventlog.maintenance.archiving import archive_sealed
from tests.conftest import Run

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def stamp(seconds: int) -> str:
    return f"{T0 + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def line(seconds: int, payload: object = None, **more: object) -> bytes:
    fields = {
        "event_id": f"00000000-0000-4000-8000-{seconds:012}", "event_type": "t", "timestamp": stamp(seconds),
        **more, "payload": {} if payload is None else payload,
    }  # fmt: skip
    return json.dumps(fields).encode()


#: Ways in which a producer may write a timestamp; each is a valid event of second 5.
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "as eventlog does": lambda plain: plain.replace(b": ", b":"),
    "with spaces": lambda plain: plain.replace(b'"timestamp":', b'"timestamp"  :\t'),
    "with an escaped name": lambda plain: plain.replace(b'"timestamp"', b'"times\\u0074amp"'),
    "with an escaped digit": lambda plain: plain.replace(b"05.000000Z", b"0\\u0035.000000Z"),
    "with an escaped colon": lambda plain: plain.replace(b"00:00:05", b"00\\u003a00:05"),
    "at the end": lambda plain: plain[:-1].replace(b'"timestamp": "' + stamp(5).encode() + b'", ', b"")
    + b', "timestamp":"' + stamp(5).encode() + b'"}',
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_event_is_passed_over(spelling: str) -> None:
    """However its timestamp is written, behind others that are older."""
    data = line(1) + b"\n" + SPELLINGS[spelling](line(5)) + b"\n"
    found = [envelope.decode(each).envelope.timestamp for each in data.splitlines()]
    assert found == [stamp(1), stamp(5)]
    assert times.may_reach(data, stamp(5))
    assert times.may_reach(data, stamp(2))


def test_what_is_older_is_passed_over() -> None:
    """A payload may hold other times, in other forms."""
    data = line(1, {"timestamp": "2099-01-01T00:00:00Z", "at": stamp(9), "text": "\x00 é \\u00"}) + b"\n"
    assert not times.may_reach(data, stamp(2))
    assert times.may_reach(line(1, {"timestamp": stamp(9)}), stamp(2))  # it might be the event's, for all that is read
    assert not times.may_reach(b"", "")


@given(
    st.lists(st.one_of(
        st.builds(line, st.integers(0, 90), st.dictionaries(st.text(max_size=12), st.text(max_size=9), max_size=3)),
        st.builds(line, st.integers(0, 90), st.builds(dict, timestamp=st.integers(0, 90).map(stamp))),
        st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")),
    ), max_size=8),
    st.integers(0, 91),
)  # fmt: skip
def test_events_from_a_time_on_are_in_blocks_that_may_reach_it(lines: list[bytes], start: int) -> None:
    """And if a block may not, none of its events is that late."""
    late = [each for each in lines if _timestamp(each) >= stamp(start)]
    assert not late or times.may_reach(b"\n".join(lines) + b"\n", stamp(start))


def _timestamp(data: bytes) -> str:
    try:
        return envelope.decode(data).envelope.timestamp
    except InvalidEvent:
        return ""


# -- tail ------------------------------------------------------------------------------------


def _forget(root: Path) -> None:
    for path in (root / "log" / "segment_sealed").iterdir():
        mode = path.stat().st_mode
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b'"latest_timestamp"', b'"another_timestamp"'))
        path.chmod(mode)


WAYS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "as they are": (),
    "sealed": (sealing.seal,),
    "archived": (sealing.seal, archive_sealed),
    "archived by a version whose seals say no time": (sealing.seal, _forget, archive_sealed),
}


@pytest.mark.parametrize("way", WAYS)
def test_times_of_files_do_not_count(root: Path, run: Run, way: str) -> None:
    """An event ahead of the clock, files of long ago and of tomorrow; with --since, and of the newest events."""
    run("emit", "a", '{"n": 1}', "--timestamp", "2099-06-01T00:00:00Z")
    run("emit", "b", '{"n": 2}')
    run("emit", "c", '{"n": 3}', "--timestamp", "2001-01-01T00:00:00Z")
    for step in WAYS[way]:
        step(root)
    for mtime in (datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)):
        for path in (root / "log").glob("*/*"):
            os.utime(path, (mtime.timestamp(), mtime.timestamp()))

        def ns(*options: str) -> list[int]:
            shown = run("tail", "a", "b", "c", *options).stdout.splitlines()
            return [json.loads(each)["payload"]["n"] for each in shown]

        assert ns("--since", "2099-01-01") == [1]
        assert ns("--since", "1h") == [2, 1]
        assert ns("--since", "1h", "-n", "1") == [1]
        assert ns("--since", "2000-01-01") == [3, 2, 1]
        assert ns("-n", "1") == [1]
        assert ns("-n", "2") == [2, 1]


def segments(root: Path) -> dict[str, SegmentFile]:
    return {each.event_type: each for each in layout.list_log(root).segments}


def test_a_seal_says_how_late_events_are(root: Path, run: Run) -> None:
    """And a reader passes over the segment without a look; it counts only for the file that was sealed."""
    run("emit", "old", "-", "--timestamp", "2001-01-01T00:00:00Z", stdin='{"n":1}\n{"n":2}\n')
    run("emit", "new", "{}")
    sealing.seal(root)
    found = segments(root)
    latest = times.latest_sealed(str(root), found.values())
    assert latest[found["old"].name] == "2001-01-01T00:00:00.000000Z"
    assert latest[found["new"].name] > "2026"
    assert times.latest_sealed(str(root), [found["old"]._replace(size=9)]) == {}
    assert times.latest_sealed(str(root), [found["old"]._replace(sealed=False)]) == {}
    path = found["old"].path
    path.chmod(0o600)
    path.write_bytes(b"\0" * path.stat().st_size)
    path.chmod(0o444)
    assert len(run("tail", "--since", "2002-01-01", "new", "old").stdout.splitlines()) == 1


def test_seals_that_say_no_time_are_no_reason_to_pass_over(root: Path, run: Run) -> None:
    """Nor are two of which one says none; of two that differ, the later one counts."""
    run("emit", "t", "{}")
    sealing.seal(root)
    file = segments(root)["t"]
    (link,) = [each for each in sealing.read_chain(root) if each.seal.segment == file.name]
    path = layout.segment_path(root, "segment_sealed", link.seal_segment)
    first = path.read_bytes().splitlines()[0]

    def with_latest(*latest: str | None) -> dict[str, str]:
        path.chmod(0o600)
        lines = []
        for number, each in enumerate(latest):
            event = json.loads(first) | {"event_id": f"00000000-0000-4000-8000-{number:012}"}
            event["payload"]["latest_timestamp"] = each
            lines.append(json.dumps(event).encode() + b"\n")
        path.write_bytes(b"".join(lines))
        return times.latest_sealed(str(root), [file])

    assert link.seal.latest_timestamp is not None
    assert with_latest(stamp(1)) == {file.name: stamp(1)}
    assert with_latest(stamp(2), stamp(1)) == {file.name: stamp(2)}
    assert with_latest(stamp(2), None) == {}
    assert with_latest(None) == {}


def test_the_latest_time_of_a_segment(tmp_path: Path) -> None:
    """Of all lines, in whatever order; unknown where one may be hidden, and where there is none."""
    path = tmp_path / "20260101T000000000000Z-0000000000000000.jsonl"

    def latest(*lines: bytes) -> str | None:
        path.write_bytes(b"".join(each + b"\n" for each in lines))
        return times.latest(SegmentFile(path.stem, "t", path, path.stat().st_size, 0, False))

    assert latest(line(7), line(9), line(8)) == stamp(9)
    assert latest(line(7), SPELLINGS["with an escaped digit"](line(5))) is None
    assert latest(b"nonsense") is None
    assert latest() is None


def test_a_seal_is_decoded_whatever_it_holds(root: Path, run: Run) -> None:
    """What is no seal is passed over."""
    run("emit", "t", "{}")
    sealing.seal(root)
    file = segments(root)["t"]
    path = next((root / "log" / "segment_sealed").iterdir())
    path.chmod(0o600)
    with path.open("ab") as seals:
        for payload in ({}, {"segment": 1}, {"segment": file.name, "segment_type": "t", "size_bytes": "x"}):
            made = {"event_id": "00000000-0000-4000-8000-000000000001", "event_type": "segment_sealed",
                    "timestamp": stamp(0), "payload": payload}  # fmt: skip
            seals.write(msgspec.json.encode(made) + b"\n")
    assert list(times.latest_sealed(str(root), [file])) == [file.name]
