"""Importers: every trap that real files hold, and the same events however often they run."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import zstandard

from eventlog.config import Config
from eventlog.errors import ImportFailed, InvalidEvent, WriteFailed
from eventlog.format import timestamps
from eventlog.format.control import Role
from eventlog.importers.claude_code import SOURCE, ClaudeCode
from eventlog.importers.engine import Imported, Importer, follow, importing
from eventlog.importers.jsonl import Jsonl, guess_time_field
from eventlog.importers.sources import Format
from eventlog.record.recorder import Recorder
from fixtures import transcripts
from tests.conftest import lines_of


def import_(root: Path, *paths: Path, format_: Format | None = None) -> Imported:
    """Import files with an importer of their own, as one run of the command does."""
    total = Imported()
    with importer_of(root, format_) as importer:
        for path in paths:
            total.add(importer.run(path))
    return total


def importer_of(root: Path, format_: Format | None = None) -> AbstractContextManager[Importer]:
    return importing(Config(root=str(root), strict=True), format_ or ClaudeCode())


def events(root: Path, event_type: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(root, event_type)]


def payloads(root: Path, event_type: str) -> list[Any]:
    return [event["payload"] for event in events(root, event_type)]


def ids(root: Path, *event_types: str) -> set[str]:
    """The distinct ids in the log: the rows that an index would have."""
    return {event["event_id"] for name in event_types for event in events(root, name)}


def test_the_fixtures_are_what_their_program_makes() -> None:
    """Change them with `python -m fixtures.transcripts`."""
    assert {path.name: path.read_text() for path in transcripts.FOLDER.iterdir()} == transcripts.files()


def test_each_line_is_kept_verbatim(root: Path) -> None:
    """Byte for byte, as the payload; glued records as two events."""
    done = import_(root, *SOURCE.find([transcripts.FOLDER]))
    assert (done.sources, done.rejected) == (3, transcripts.UNREADABLE)
    kept = b"\n".join(lines_of(root, "claude_code"))
    for name, text in transcripts.files().items():
        for line in text.splitlines():
            if line.startswith("{") and name != "glued.jsonl":
                assert line.encode() in kept
    texts = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in payloads(root, "claude_code")]
    glued = transcripts.files()["glued.jsonl"].splitlines()[0]
    assert "".join(text for text in texts if text in glued) == glued
    assert len([text for text in texts if text in glued]) == 2


def test_what_cannot_be_read_is_kept_with_a_reason(root: Path) -> None:
    """The line itself is in the event."""
    import_(root, transcripts.FOLDER / "glued.jsonl")
    rejected = payloads(root, "import_rejected")
    assert [(each["raw"], each["reason"][:20]) for each in rejected] == [
        ('{"type":"user","sessionId":"glued","message":{"role":"user","cont', "not JSON: Input data"),
        ('"massive error"', "not a JSON object"),
        ("42", "not a JSON object"),
    ]


def test_times_and_sessions_come_from_the_line_itself(root: Path) -> None:
    """A line without its own time has none, whatever its neighbours; without a session, the file's."""
    import_(root, transcripts.FOLDER / "main.jsonl")
    by_type = {event["payload"]["type"]: event for event in events(root, "claude_code")}
    assert by_type["summary"]["timestamp"] == timestamps.UNKNOWN
    assert by_type["summary"]["session_id"] == "main"
    assert by_type["file-history-snapshot"]["timestamp"] == "2026-01-05T10:00:00.500000Z"
    assert by_type["assistant"]["timestamp"] == "2026-01-05T10:00:15.000000Z"
    assert by_type["quantum-entanglement"]["timestamp"] == timestamps.UNKNOWN


def test_importing_again_appends_nothing(root: Path) -> None:
    """The log remembers how far each file was read; files without a final newline too."""
    paths = SOURCE.find([transcripts.FOLDER])
    first = import_(root, *paths)
    size = sum(path.stat().st_size for path in (root / "log").rglob("*.jsonl"))
    again = import_(root, *reversed(paths))
    assert again.events == 0
    unterminated = 82  # the last line of one file
    assert again.skipped_bytes == sum(path.stat().st_size for path in paths) - unterminated
    assert sum(path.stat().st_size for path in (root / "log").rglob("*.jsonl")) == size
    assert first.events == len(ids(root, "claude_code", "import_rejected"))


def _formats(workspace: str | None) -> list[Format]:
    by_id = Jsonl(type_="foreign", id_field="uuid", workspace=workspace)
    return [ClaudeCode(workspace=workspace), Jsonl(type_="whole", workspace=workspace), by_id]


@pytest.mark.parametrize("which", range(3))
def test_each_workspace_gets_all_of_a_file(root: Path, tmp_path: Path, which: int) -> None:
    """Under ids of its own, what is rejected too; and a second import appends nothing to any of them."""
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"uuid":"1","type":"user"}\n{"uuid":"2"}\nno JSON\n')
    workspaces = [None, "", "a", "b"]
    done = [import_(root, path, format_=_formats(each)[which]) for each in workspaces]
    assert [(each.events, each.rejected) for each in done] == [(3, 1)] * 4
    assert [import_(root, path, format_=_formats(each)[which]).events for each in workspaces] == [0] * 4
    imported = [*events(root, ("claude_code", "whole", "foreign")[which]), *events(root, "import_rejected")]
    assert len({event["event_id"] for event in imported}) == len(imported) == 12
    for each in workspaces:
        assert sum(event.get("workspace") == each for event in imported) == 3


def test_imports_without_a_workspace_keep_the_ids_of_earlier_versions() -> None:
    """Else a file that was rewritten would be imported a second time."""
    record = b'{"uuid":"1","timestamp":"2026-01-02T03:04:05Z"}'
    made = [format_.envelopes(record, "s", 0)[0].event_id for format_ in _formats(None)]
    assert made == [
        "019b7ca9-8c88-867f-9e96-28411a1e49be", "00000000-0000-8ea1-8c6f-92dc394fe578",
        "00000000-0000-8148-a39e-74ff306a97e0",
    ]  # fmt: skip


@pytest.mark.parametrize("odd", ["\udcff", "x" * 10_001])
def test_names_that_no_event_can_have_are_refused_first(odd: str) -> None:
    """Before anything is read: a line could be kept neither as an event nor as rejected."""
    for make in (ClaudeCode, lambda **names: Jsonl(type_="t", **names)):
        for name in ("workspace", "agent"):
            with pytest.raises(InvalidEvent):
                make(**{name: odd})


def test_no_two_imports_have_one_key() -> None:
    """Or one of them would be taken for done when the other is."""
    names = [None, "", "a", "a agent=b", "b", '"a"', "a agent=", " "]
    keys = {ClaudeCode(workspace=one, agent=other).key for one in names for other in names}
    assert len(keys) == len(names) * (len(names) - 1)  # an empty agent is none
    assert ClaudeCode().key == "claude_code workspace= agent="
    assert ClaudeCode(workspace="acme", agent="ci").key == "claude_code workspace=acme agent=ci"


GROWTH: dict[str, list[bytes]] = {
    "lines": [b'{"a":1}\n', b'{"a":2}\n{"a":3}\n'],
    "no newline, then a newline": [b'{"a":1}', b"\n", b'{"a":2}', b'\n{"a":3}'],
    "half a line, then the rest": [b'{"a":1}\n{"a"', b":2}\n"],
    "a number that goes on": [b'{"a":1}\n4', b"2\n"],
    "the same line again and again": [b'{"a":1}\n', b'{"a":1}\n{"a":1}\n', b'{"a":1}\n'],
    "empty lines": [b"\n\n", b'\n{"a":1}\n\n', b"\n"],
}


@pytest.mark.parametrize("case", GROWTH)
def test_a_growing_file_gives_what_the_whole_would(root: Path, tmp_path: Path, case: str) -> None:
    """Imported after each growth, with a new importer or the same one; nothing twice, nothing missed."""
    path, whole = tmp_path / "s.jsonl", b"".join(GROWTH[case])
    path.write_bytes(b"")
    for part in GROWTH[case]:
        with path.open("ab") as file:
            file.write(part)
        import_(tmp_path / "steps", path)
    import_(root, path)
    assert ids(root, "claude_code") <= ids(tmp_path / "steps", "claude_code")
    assert ids(root, "claude_code") == ids(tmp_path / "steps", "claude_code")
    path.write_bytes(b"")
    with importer_of(tmp_path / "live") as importer:
        for part in GROWTH[case]:
            with path.open("ab") as file:
                file.write(part)
            importer.run(path, following=True)
        importer.run(path)
    assert ids(tmp_path / "live", "claude_code") == ids(root, "claude_code")
    assert payloads(tmp_path / "live", "import_rejected") == payloads(root, "import_rejected")
    assert path.read_bytes() == whole


REWRITES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "first line dropped": lambda lines: lines[1:],
    "a line changed": lambda lines: [lines[0], b'{"a":"changed"}', *lines[2:]],
    "cut": lambda lines: lines[:3],
    "reversed": lambda lines: lines[::-1],
    "prepended": lambda lines: [b'{"a":"new"}', *lines],
    "same size, other bytes": lambda lines: [lines[1], lines[0], *lines[2:]],
}


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("case", REWRITES)
def test_a_rewritten_file_adds_only_what_is_new(tmp_path: Path, root: Path, case: str, following: bool) -> None:
    """Old lines keep their ids wherever they stand now."""
    lines = [b'{"a":%d}' % i for i in range(6)] + [b'{"a":0}']
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    changed = REWRITES[case](lines)
    with importer_of(root) as importer:
        importer.run(path, following=following)
        before = ids(root, "claude_code")
        path.write_bytes(b"\n".join(changed) + b"\n")
        if following:
            importer.run(path, following=True)
    if not following:
        import_(root, path)
    new = {line for line in changed if line not in lines}
    assert len(ids(root, "claude_code") - before) == len(new)
    assert len(before) == 7
    assert len(events(root, "claude_code")) == len(ids(root, "claude_code"))  # in the log once, as well


def test_repeated_lines_of_one_file_are_events_of_their_own(root: Path, tmp_path: Path) -> None:
    """And the same ones each time."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"t":20}\n{"t":21}\n{"t":20}\n')
    import_(root, path, format_=Jsonl(type_="temp"))
    shutil.rmtree(root / "log/import_checkpoint")
    import_(root, path, format_=Jsonl(type_="temp"))
    assert len(events(root, "temp")) == 6
    assert len(ids(root, "temp")) == 3


def test_any_order_and_number_of_imports_gives_the_same_events(tmp_path: Path) -> None:
    """Ids and contents depend on what was imported only."""
    paths = SOURCE.find([transcripts.FOLDER])
    found = []
    for n in range(4):
        root = tmp_path / f"root{n}"
        for _ in range(n + 1):
            random.Random(n).shuffle(paths)
            import_(root, *paths)
        names = ("claude_code", "import_rejected", "import_checkpoint")
        found.append({line for name in names for line in lines_of(root, name)})
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_compressed_files_are_the_same_events(root: Path, tmp_path: Path, suffix: str) -> None:
    """The name without its ending is the source, offsets are of uncompressed bytes."""
    data = b"".join(b'{"n":%d,"when":"2026-01-01T00:00:%02dZ"}\n' % (i, i) for i in range(60))
    format_ = Jsonl(type_="t", time_field="when")
    plain = tmp_path / "f.jsonl"
    plain.write_bytes(data)
    import_(root, plain, format_=format_)
    path = tmp_path / f"f.jsonl{suffix}"
    packs: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }
    pack = packs[suffix]
    path.write_bytes(pack(data[:100]) + pack(data[100:]))
    done = import_(root, path, format_=format_)
    assert (len(ids(root, "t")), len(events(root, "t")), done.events) == (60, 60, 0)
    plain.unlink(missing_ok=suffix == "")
    assert [import_(root, each, format_=format_).events for each in (path, path) if each.exists()] in ([0, 0], [])


@pytest.mark.parametrize("name", ["f.gz", "f.zst"])
def test_a_damaged_archive_says_so(root: Path, tmp_path: Path, name: str) -> None:
    """With the byte up to which it was good."""
    path = tmp_path / name
    path.write_bytes(b"nonsense" if name == "f.zst" else gzip.compress(b'{"a":1}\n' * 99)[:-12])
    (failure,) = import_(root, path, format_=Jsonl(type_="t")).failures
    assert re.search(r"damaged (after|before) byte \d+", failure)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b'{"a":"\xff"}', "not UTF-8"),
    "NUL": (b'{"a":"\0"}', "malformed"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
    "rather deep": (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", "nested deeper"),
    "NaN": (b'{"a":NaN}', "malformed"),
    "no object": (b"[1]", "not a JSON object"),
    "too long": (b'{"a":"' + b"x" * (16 * 1024 * 1024) + b'"}', "over the limit"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_lines_are_kept_and_the_import_goes_on(root: Path, tmp_path: Path, case: str) -> None:
    """The line before and the line after are events."""
    line, reason = HOSTILE[case]
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"n":1}\n' + line + b'\n{"n":2}\n')
    done = import_(root, path, format_=Jsonl(type_="t"))
    assert [payload["n"] for payload in payloads(root, "t")] == [1, 2]
    (kept,) = payloads(root, "import_rejected")
    assert reason in kept["reason"]
    assert kept["length"] == len(line)
    raw = kept["raw"].encode() if "raw" in kept else base64.b64decode(kept["raw_base64"])
    assert raw == (line if len(line) < 1_000_000 else line[: 64 * 1024])
    assert done.rejected == 1


def test_a_byte_order_mark_and_crlf_are_no_obstacle(root: Path, tmp_path: Path) -> None:
    """Windows programs write them."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n":1}\r\n{"n":2}\r\n')
    import_(root, path, format_=Jsonl(type_="t"))
    assert payloads(root, "t") == [{"n": 1}, {"n": 2}]


TIMES: dict[str, tuple[object, str | None]] = {
    "iso": ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678000Z"),
    "iso with zone": ("2026-01-02T03:04:05+0100", "2026-01-02T02:04:05.000000Z"),
    "iso without": ("2020-09-21 19:18:44", "2020-09-21T19:18:44.000000Z"),
    "seconds": (1588316522.186129, "2020-05-01T07:02:02.186129Z"),
    "seconds as text": ("1588316522", "2020-05-01T07:02:02.000000Z"),
    "milliseconds as text": ("1701010110000", "2023-11-26T14:48:30.000000Z"),
    "a date of digits": ("20260102", "2026-01-02T00:00:00.000000Z"),
    "milliseconds": (1588316522186, "2020-05-01T07:02:02.186000Z"),
    "microseconds": (1588316522186129, "2020-05-01T07:02:02.186129Z"),
    "nanoseconds": (1588316522186129000, "2020-05-01T07:02:02.186129Z"),
    "nonsense": ("soon", None),
    "null": (None, None),
    "true": (True, None),
    "too large": (1e40, None),
    "negative": (-5, None),
}


@pytest.mark.parametrize("case", TIMES)
def test_times_are_read_in_the_forms_that_programs_write(root: Path, tmp_path: Path, case: str) -> None:
    """What is not a time is kept as unreadable, with the value in the reason."""
    value, expected = TIMES[case]
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"at": {"t": value}}) + "\n")
    import_(root, path, format_=Jsonl(type_="t", time_field="at.t"))
    assert [event["timestamp"] for event in events(root, "t")] == ([expected] if expected else [])
    if expected is None:
        reason = "there is no time field 'at.t'" if value is None else "time field 'at.t' holds"
        assert payloads(root, "import_rejected")[0]["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("PushEvent", "push_event"),
        ("HTTPRequest", "httprequest"),
        ("a b/c", "a_b_c"),
        ("x.y-z", "x.y-z"),
        ("9x", None),
        (7, None),
    ],
)
def test_the_type_may_come_from_a_field(root: Path, tmp_path: Path, value: object, expected: str | None) -> None:
    """Made to fit the rules for event types where that is possible."""
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"type": value}) + "\n")
    done = import_(root, path, format_=Jsonl(type_field="type"))
    assert done.rejected == (expected is None)
    if expected:
        assert payloads(root, expected) == [{"type": value}]


def test_an_id_field_identifies_across_files(root: Path, tmp_path: Path) -> None:
    """Without it, equal lines of two files are two events: two devices may say the same."""
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"id":"x1","v":1}\n')
    paths = (tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    import_(root, *paths, format_=Jsonl(type_="by_id", id_field="id"))
    import_(root, *paths, format_=Jsonl(type_="by_content"))
    import_(root, *paths, format_=Jsonl(type_="by_name", source="s"))
    assert [len(ids(root, name)) for name in ("by_id", "by_content", "by_name")] == [1, 2, 1]


def test_a_type_or_a_field_and_not_both() -> None:
    """Said by the class itself, too."""
    with pytest.raises(InvalidEvent):
        Jsonl()
    with pytest.raises(InvalidEvent):
        Jsonl(type_="a", type_field="b")
    with pytest.raises(InvalidEvent):
        Jsonl(type_="Bad Type")


def test_following_finds_new_files_and_leaves_half_lines(root: Path, tmp_path: Path) -> None:
    """Each line appears once, when it is whole; stopping notes how far it got."""
    folder = tmp_path / "projects"
    folder.mkdir()
    steps: list[Callable[[], object]] = [
        lambda: (folder / "a.jsonl").write_bytes(b'{"n":1}\n{"n":'),
        lambda: (folder / "a.jsonl").write_bytes(b'{"n":1}\n{"n":2}\n'),
        lambda: (folder / "b.jsonl").write_bytes(b'{"n":3}'),
        (folder / "a.jsonl").unlink,
    ]

    def wait() -> bool:
        if steps:
            steps.pop(0)()
            return True
        return False

    with importer_of(root) as importer:
        rounds = list(follow(importer, lambda: SOURCE.find([folder]), wait, print))
    assert [each.events for each in rounds] == [0, 1, 1, 1, 0]
    assert [payload["n"] for payload in payloads(root, "claude_code")] == [1, 2, 3]
    assert payloads(root, "import_rejected") == []
    assert [Path(each["source"]).name for each in payloads(root, "import_checkpoint")] == ["a.jsonl"]


def test_small_things(tmp_path: Path) -> None:
    """What is missing, and what looks like a time."""
    with pytest.raises(ImportFailed, match="does not exist"):
        SOURCE.find([tmp_path / "nowhere"])
    assert guess_time_field(b'{"a":1,"ts":1588316522.1}') == "ts"
    assert guess_time_field(b'{"a":1,"time":"never"}') is None
    assert guess_time_field(b"nonsense") is None


def test_a_failed_write_is_not_taken_for_an_import(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint goes past what was written; the next run imports it all."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"n":1}\n{"n":2}\n')
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)

    def fail(*arguments: object) -> None:
        raise WriteFailed("disk full")

    with monkeypatch.context() as patch, Importer(recorder, ClaudeCode()) as importer:
        patch.setattr(recorder, "record_lines", fail)
        with pytest.raises(WriteFailed):
            list(follow(importer, lambda: [path], lambda: False, print))
    assert lines_of(root, "import_checkpoint") == []
    recorder.shutdown()
    import_(root, path)
    assert [payload["n"] for payload in payloads(root, "claude_code")] == [1, 2]


def test_a_cut_archive_is_imported_up_to_the_cut(root: Path, tmp_path: Path) -> None:
    """With an error all the same."""
    path = tmp_path / "f.jsonl.gz"
    lines = [json.dumps({"n": n, "noise": random.Random(n).random()}) + "\n" for n in range(5000)]
    path.write_bytes(gzip.compress("".join(lines).encode())[:-1000])
    done = import_(root, path, format_=Jsonl(type_="t"))
    assert "damaged after byte" in done.failures[0]
    assert done.events == len(payloads(root, "t"))
    again = import_(root, path, format_=Jsonl(type_="t"))
    assert (again.events, again.failures) == (0, done.failures)
    assert 1000 < len(payloads(root, "t")) < 5000


def test_following_many_files_keeps_few_in_memory(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those let go of are read on from their checkpoint; one that fails is reported once."""
    monkeypatch.setattr("eventlog.importers.followed._HELD_MAX", 3)
    paths = [tmp_path / f"{n}.jsonl" for n in range(10)]
    for path in paths:
        path.write_text('{"n":0}\n{"n":0}\n')
    damaged = tmp_path / "damaged.jsonl.gz"
    damaged.write_bytes(b"nonsense")
    (tmp_path / "folder.jsonl").mkdir()
    rounds_left = [4]

    def wait() -> bool:
        for path in paths:
            with path.open("a") as file:
                file.write('{"n":0}\n')
        rounds_left[0] -= 1
        return rounds_left[0] > 0

    said: list[str] = []
    with importer_of(root) as importer:
        found = [*paths, damaged, tmp_path / "folder.jsonl"]
        counts = [round_.events for round_ in follow(importer, lambda: found, wait, said.append)]
        assert len(importer._followed._held) <= 3
    assert counts == [20, 10, 10, 10]
    assert len(ids(root, "claude_code")) == 50
    assert len(said) == 1
    assert said[0].startswith(f"{damaged}: damaged")


@pytest.mark.parametrize("bad", ['{"a":NaN}', '{"a":' + "[" * 2000 + "]" * 2000 + "}"])
def test_a_bad_record_glued_to_a_good_one(root: Path, tmp_path: Path, bad: str) -> None:
    """Python's own parser takes apart what msgspec would not; each part is judged by itself."""
    path = tmp_path / "f.jsonl"
    path.write_text(f'{bad}{{"n":1}}\n{{"n":2}}{{"big":{"9" * 4000}}}\n{{"n":3}}\n')
    done = import_(root, path, format_=Jsonl(type_="t"))
    assert [payload["n"] for payload in payloads(root, "t") if "n" in payload][-2:] == [2, 3]
    assert done.rejected == 1
    (kept,) = payloads(root, "import_rejected")
    assert kept["raw"].startswith(bad)


def test_a_file_is_the_same_by_whatever_path(root: Path, tmp_path: Path) -> None:
    """Relative, absolute, through a link."""
    folder = tmp_path / "real"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    (folder / "f.jsonl").write_text('{"n":1}\n')
    for path in (folder / "f.jsonl", tmp_path / "link" / "f.jsonl", folder / ".." / "real" / "f.jsonl"):
        import_(root, path, format_=Jsonl(type_="t"))
    assert len(events(root, "t")) == 1


def test_a_file_name_that_is_not_unicode(root: Path, tmp_path: Path) -> None:
    """Linux allows any bytes."""
    path = tmp_path / os.fsdecode(b"g\xff.jsonl")
    path.write_text('{"n":1}\n')
    for _ in range(2):
        import_(root, path)
        import_(root, path, format_=Jsonl(type_="t"))
    assert (len(events(root, "t")), len(events(root, "claude_code"))) == (1, 1)


def test_a_line_that_went_on_is_read_again_as_a_whole(root: Path, tmp_path: Path) -> None:
    """It looked complete, but what came next was no newline."""
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"n":1}')
    with importer_of(root) as importer:
        importer.run(path, following=True)
        path.write_bytes(b'{"n":1}xyz\n{"n":2}\n')
        importer.run(path, following=True)
    assert [payload["raw"] for payload in payloads(root, "import_rejected")] == ['{"n":1}xyz']
    assert [payload["n"] for payload in payloads(root, "claude_code")] == [1, 2]


@pytest.mark.parametrize("cuts", [(3, 30, 31, 95), (15, 60, 61, 62, 63, 99), (1, 2, 3)])
def test_a_file_that_is_imported_again_and_again_while_it_grows(
    root: Path, tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    """Its last line is left alone until it is complete: each line is in the log once, and none in quarantine."""
    whole = b"".join(json.dumps({"n": n, "text": "häuser漢"}, ensure_ascii=False).encode() + b"\n" for n in range(100))
    path = tmp_path / "growing.jsonl"
    unfinished = 0
    for cut in (*(len(whole) * percent // 100 + 1 for percent in cuts), len(whole)):
        path.write_bytes(whole[:cut])
        done = import_(root, path, format_=Jsonl(type_="g"))
        unfinished += done.unfinished
        assert (done.rejected, done.unfinished) == (0, int(not whole[:cut].endswith((b"\n", b"}"))))
    assert unfinished > 0
    assert [each["n"] for each in payloads(root, "g")] == list(range(100))


def test_a_last_line_that_is_cut_off_in_an_archive_is_kept_for_quarantine(root: Path, tmp_path: Path) -> None:
    """What is compressed does not grow."""
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"n": 1}\n{"n": '))
    done = import_(root, path, format_=Jsonl(type_="g"))
    assert (done.events, done.rejected, done.unfinished) == (2, 1, 0)
