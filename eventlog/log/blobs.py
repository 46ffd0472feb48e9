"""Large fields of payloads, kept beside the log: each chunk once, under the hash of its bytes.

Layout
    <root>/blobs/<2 hex digits>/<sha256 hex>    bytes whose SHA-256 is the name; never changed
    <root>/blobs/tmp/<random>                   in the making; a crash may leave one
    <root>/blobs/damaged/<sha256>.<random>      what stood in a chunk's place without its bytes; only evidence

What is taken out
    Where a payload is larger than `blob_min_bytes`, the JSON of each of its fields (those at its
    top) that is longer than a chunk. It is cut at fixed distances from its beginning, moved back to
    where a character begins, so that a prompt that only grows is cut in the same places: the chunks
    that were there are there already. Whole chunks become files; the rest stays in the event:

        "input_messages": {"$blob": {"sha256": ["9f86…", …], "bytes": 81920, "rest": "…"}}

    A field that looks like this when it is emitted or imported goes into `{"$blob": {"value": …}}`,
    which reading takes off again.

Whose it is
    A chunk of an event with a workspace begins with a line that says of which (`_owner`), and its hash is over
    that, too. An event of another workspace that names it, as a line that somebody forged may, gets no content
    and is not told that the chunk is there. So the same field in two workspaces is there twice.

Writing
    Before the line that names it, a chunk is written under another name and renamed, so that a kill
    leaves no line without its chunks. It is synced before lines are that were written after it. One that
    is there is used only if it has the right bytes: a process reads it once, and again when its inode or
    change time is another. What cannot be written stays in the event, which is never lost for it.

Reading
    A chunk counts only if its bytes have the hash. One that is missing or damaged is an error that
    says which, and never content.

Deleting
    Nobody does: a line that is being written may be about to use a chunk that no other line names any more.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from eventlog.errors import BlobUnreadable, WriteFailed
from eventlog.format import envelope
from eventlog.log.segment import sync_folder
from eventlog.process import locks

CHUNK_MAX_BYTES = 32 * 1024
_CHUNK_MIN_BYTES = 1024
FOLDER = "blobs"
_DAMAGED = "damaged"
NAME = re.compile(r"[0-9a-f]{64}")
#: In JSON each character of the name may be escaped, and the index resolves that.
_LOOKS_LIKE_ONE = re.compile(
    rb'\s*\{\s*"(?:\$|\\u0024)(?:b|\\u0062)(?:l|\\u006[cC])(?:o|\\u006[fF])(?:b|\\u0062)"\s*:'
).match
#: Lines without these bytes name no chunk, whoever wrote them.
MARK = b'"$blob"'
#: A byte that most payloads do not have.
DOLLAR = ord("$")
#: And how else it may stand in JSON.
BACKSLASH = ord("\\")
ESCAPED_DOLLAR = b"\\u0024"
#: What is known of chunks is forgotten beyond this many; it is only there to save looking.
_KNOWN_MAX = 10_000
#: So many chunks may wait for a sync before a writer does it itself.
_UNSYNCED_MAX = 10_000
_SYNC_TIMEOUT_S = 30.0
#: Two changes within a tick of the file system's clock may have one time: a younger one is looked at again.
_TICK_NS = 100_000_000
_STALE_S = 24 * 3600.0
#: Chunks kept while one answer is read: a growing prompt repeats them.
_CACHED_CHUNKS = 256

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands for a field: its chunks in order, its length in bytes, and the rest of its JSON."""

    sha256: Annotated[tuple[Sha256, ...], msgspec.Meta(min_length=1)]
    bytes: Annotated[int, msgspec.Meta(ge=1, le=envelope.MAX_LINE_BYTES)]
    rest: str


class _Escaped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: msgspec.Raw


class Blob(NamedTuple):
    """A file under `blobs/`, named by the hash that its bytes should have."""

    sha256: str
    path: Path
    size: int


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_reference = msgspec.json.Decoder(Reference)
_escaped = msgspec.json.Decoder(_Escaped)
#: Inode, change time in ns, and size of a file.
_Signature = tuple[int, int, int]
_any_json = msgspec.json.Decoder(msgspec.Raw)


def folder_of(root: str | Path) -> Path:
    """Return the folder that holds the chunks of a root."""
    return Path(root) / FOLDER


def damaged_of(root: str | Path) -> Path:
    """Return the folder of what stood in the place of chunks without their bytes."""
    return folder_of(root) / _DAMAGED


def path_of(root: str | Path, sha256: str) -> Path:
    """Return where the chunk of this hash is."""
    return folder_of(root) / sha256[:2] / sha256


# -- writing -----------------------------------------------------------------------------------


class BlobStore:
    """Takes large fields out of payloads. Threads may share it.

    With `synced`, a chunk is on disk before `put` returns; else `sync` sees to those that were written.
    Why something stayed in its event is given to `on_failure`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        min_bytes: int,
        synced: bool = False,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.min_bytes = min_bytes or envelope.MAX_LINE_BYTES  # no payload is larger
        self.chunk_bytes = max(_CHUNK_MIN_BYTES, min(CHUNK_MAX_BYTES, self.min_bytes // 2))
        self._synced = synced
        self._on_failure = on_failure
        # Both are dictionaries for their order, and since single steps on them need no lock.
        self._known: dict[str, _Signature | None] = {}
        self._unsynced: dict[str, None] = {}
        self._syncing = locks.lock()
        self._swept = False

    def take_out(self, payload: bytes, workspace: str | None = None) -> bytes:
        """Return a payload of JSON with what is large, and what looks like a reference, replaced.

        `workspace` is that of the event: only its events can refer to what is taken out. Raises InvalidEvent where
        the payload is over the limits of a line: blobs do not widen those.
        """
        large = len(payload) > self.min_bytes
        if not large and not may_look_like_one(payload):
            return payload
        envelope.check_limits(payload)
        changed = {}
        fields = _fields.decode(payload)
        owner = _owner(workspace) if large else b""
        for name, raw in fields.items():
            value = bytes(raw)
            if large and len(value) > self.chunk_bytes:
                reference = self._put(value, owner)
                if reference is not None:
                    changed[name] = reference
                    continue
            if _LOOKS_LIKE_ONE(value):
                changed[name] = _wrapped(value)
        return msgspec.json.encode(fields | changed) if changed else payload

    def _put(self, value: bytes, owner: bytes) -> msgspec.Raw | None:
        """Store the whole chunks of a field, and return what stands for it; None where that failed."""
        ends = list(_ends(value, self.chunk_bytes))
        starts = [0, *ends[:-1]]
        try:
            digests = tuple(self.put(owner + value[start:end]) for start, end in zip(starts, ends, strict=True))
        except OSError as error:
            place = error.filename or folder_of(self.root)
            self._on_failure(f"{place}: {error.strerror or error}; a large field stays in its event instead")
            return None
        reference = Reference(digests, len(value), value[ends[-1] :].decode())
        return msgspec.Raw(b'{"$blob":' + msgspec.json.encode(reference) + b"}")

    def put(self, chunk: bytes) -> str:
        """Store a chunk, unless it is there; return its hash. Raises OSError."""
        digest = hashlib.sha256(chunk).hexdigest()
        path = path_of(self.root, digest)
        signature, known = _signature(path), digest in self._known
        if known and signature is not None and self._known[digest] == signature:
            return digest
        if not _holds(path, chunk):
            self._write(path, chunk)
            signature = None
        elif known:
            self._known[digest] = _settled(signature)
            return digest
        elif self._synced:  # perhaps somebody else has written it a moment ago
            self._sync_one(digest)
            _sync_folders([path])
        if not self._synced:
            self._unsynced[digest] = None
            if len(self._unsynced) > _UNSYNCED_MAX:
                with contextlib.suppress(WriteFailed):  # whoever syncs next is told
                    self.sync()
        if len(self._known) > _KNOWN_MAX:
            self._known.clear()
        self._known[digest] = _settled(signature)
        return digest

    def _write(self, path: Path, chunk: bytes, *, synced: bool | None = None, aside: bool = True) -> None:
        """Write a file that appears whole or not at all, in place of one that is damaged and is set `aside`."""
        synced = self._synced if synced is None else synced
        temporary = _making(path.parent.parent) / os.urandom(8).hex()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        for folder in (path.parent.parent, path.parent):
            if folder.is_symlink():
                raise OSError(errno.ELOOP, "a symbolic link, which eventlog does not follow", str(folder))
        if not self._swept:
            self._swept = True
            _sweep(temporary.parent)
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
            try:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                if synced:
                    os.fsync(fd)
            finally:
                os.close(fd)
            # What is there now may be somebody's who was faster, and whole.
            if aside and os.path.lexists(path) and not _holds(path, chunk):
                _set_aside(path)
            # The hash is its name, so whoever was faster has put the same bytes there.
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if synced:
            _sync_folders([path])

    # -- syncing -----------------------------------------------------------------------

    @property
    def is_synced(self) -> bool:
        """Whether all chunks that were stored would survive a power cut."""
        return not self._unsynced

    def sync(self) -> None:
        """Make all chunks that were stored before the call survive a power cut. Raises WriteFailed."""
        if not self._unsynced:
            return
        with locks.held(self._syncing, _SYNC_TIMEOUT_S) as mine:
            if not mine:
                raise WriteFailed(f"{folder_of(self.root)}: a sync has been running for {_SYNC_TIMEOUT_S:g} s")
            waiting = list(self._unsynced)
            if not waiting:  # somebody else has seen to it
                return
            try:
                for digest in waiting:
                    # Somebody has deleted it, or put something else there: reading says so.
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError, _NotAFile):
                        self._sync_one(digest)
                there = [path for digest in waiting if os.path.lexists(path := path_of(self.root, digest))]
                if there:
                    _sync_folders(there)
            except OSError as error:
                place = error.filename or folder_of(self.root)
                raise WriteFailed(
                    f"{place}: cannot be synced ({error.strerror or error}); the disk may be failing"
                ) from error
            for digest in waiting:
                self._unsynced.pop(digest, None)

    def _sync_one(self, digest: str) -> None:
        path = path_of(self.root, digest)
        fd = _opened(path)
        try:
            os.fsync(fd)
        except OSError:
            # As with segments, never again on the same file: its pages now count as written, and are not.
            chunk = _read_all(fd)
            if hashlib.sha256(chunk).hexdigest() != digest:
                raise
            self._write(path, chunk, synced=True, aside=False)
        finally:
            os.close(fd)

    def after_fork(self) -> None:
        """Start afresh in a child: what the parent wrote is the parent's to sync."""
        self._syncing = locks.lock()
        # A child that uses such a chunk has to sync it all the same.
        for digest in self._unsynced:
            self._known.pop(digest, None)
        self._unsynced = {}


def wrap_lookalikes(payload: bytes) -> bytes:
    """Return a payload of JSON that names no chunks, with what looks like a reference wrapped."""
    if not may_look_like_one(payload):
        return payload
    fields = _fields.decode(payload)
    changed = {name: _wrapped(bytes(raw)) for name, raw in fields.items() if _LOOKS_LIKE_ONE(bytes(raw))}
    return msgspec.json.encode(fields | changed) if changed else payload


def may_look_like_one(payload: bytes) -> bool:
    """Say whether a field may look like a reference: the name is there, or what it may be once escapes are resolved."""
    return MARK in payload or b"\\u00" in payload


def _wrapped(value: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'{"$blob":{"value":' + value + b"}}")


def _owner(workspace: str | None) -> bytes:
    """Return what the chunks of a workspace begin with. No JSON has a byte of 0, so no other chunk begins so."""
    if workspace is None:
        return b""
    return b"\0workspace %b\n" % hashlib.sha256(workspace.encode()).hexdigest().encode()


def _ends(value: bytes, chunk_bytes: int) -> Iterator[int]:
    """Yield where the chunks of a text end; what is behind the last is shorter than a chunk."""
    end = 0
    while end + chunk_bytes <= len(value):
        end += chunk_bytes
        while end < len(value) and value[end] & 0xC0 == 0x80:  # inside of a character
            end -= 1
        yield end


def _holds(path: Path, chunk: bytes) -> bool:
    """Say whether a file has these bytes. After a power cut, a name may be there without them."""
    try:
        return _read_file(path) == chunk
    except OSError:
        return False


def _signature(path: Path) -> _Signature | None:
    """Return what another file, or a file that was written to since, has otherwise."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns, found.st_size


def _settled(signature: _Signature | None) -> _Signature | None:
    """Return a signature that no change from now on leaves as it is; None while there may be one."""
    return signature if signature is not None and 0 <= signature[1] < time.time_ns() - _TICK_NS else None


def _set_aside(path: Path) -> None:
    """Keep what stands in a chunk's place as evidence. Its name stays taken, as others may be writing it, too."""
    kept = path.parent.parent / _DAMAGED / f"{path.name}.{os.urandom(4).hex()}"
    with contextlib.suppress(OSError):  # no hard links here: then it is replaced without
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.rename(f"{path}/", kept)  # a folder has to go; the slash keeps anything else from being taken for one
        except NotADirectoryError:
            os.link(path, kept, follow_symlinks=False)


def _making(folder: Path) -> Path:
    """Return the folder of files in the making, which is there from now on. Raises OSError."""
    making = folder / "tmp"
    if not making.is_dir():
        # As with segments: prompts end up here, so it is for its owner alone.
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for part in (folder.parent, folder, making):
            part.mkdir(mode=0o700, exist_ok=True)
    return making


def _sweep(making: Path) -> None:
    """Remove what was killed in the making, but nothing that somebody may be writing now."""
    with contextlib.suppress(OSError):
        for path in making.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _STALE_S:
                    path.unlink()


def _sync_folders(paths: list[Path]) -> None:
    """Make the names of chunks survive a power cut. Raises OSError."""
    for folder in dict.fromkeys(path.parent for path in paths):
        sync_folder(folder)
    for folder in paths[0].parents[1:3]:
        sync_folder(folder)
    with contextlib.suppress(PermissionError):  # the root's own name, in a folder that need not be ours
        sync_folder(paths[0].parents[3])


# -- reading -----------------------------------------------------------------------------------


class Resolver:
    """Puts chunks back into payloads. It keeps some of those that it has read: make one per answer."""

    def __init__(self, root: str | Path) -> None:
        self._left_bytes = envelope.MAX_LINE_BYTES
        self._chunk = functools.lru_cache(_CACHED_CHUNKS)(functools.partial(read_of, root))

    def resolve(self, payload: bytes, workspace: str | None, *, marked: bool = False) -> bytes:
        """Return a payload as it was emitted, by an event of this workspace. Raises BlobUnreadable.

        With `marked`, a field that cannot be read stays a reference, with the reason under `error`.
        """
        if MARK not in payload:
            return payload
        self._left_bytes = envelope.MAX_LINE_BYTES  # no payload was longer when it was emitted
        fields = _fields.decode(payload)
        changed = {name: msgspec.Raw(self._value(bytes(raw), workspace, marked)) for name, raw in fields.items()}
        return msgspec.json.encode(changed)

    def _value(self, value: bytes, workspace: str | None, marked: bool) -> bytes:
        try:
            return self._resolved(value, workspace)
        except BlobUnreadable as error:
            if not marked:
                raise
            inner = msgspec.json.decode(value)["$blob"]
            return msgspec.json.encode({"$blob": {**inner, "error": str(error)}})

    def _resolved(self, value: bytes, workspace: str | None) -> bytes:
        if not _LOOKS_LIKE_ONE(value):
            return value
        fields = _fields.decode(value)
        if len(fields) != 1:
            return value
        inner = bytes(fields["$blob"])
        with contextlib.suppress(msgspec.MsgspecError):
            return bytes(_escaped.decode(inner).value)
        try:
            reference = _reference.decode(inner)
        except msgspec.MsgspecError:
            return value  # another program's own idea of a $blob
        return self._joined(reference, workspace)

    def _joined(self, reference: Reference, workspace: str | None) -> bytes:
        self._left_bytes -= reference.bytes
        if self._left_bytes < 0:
            raise BlobUnreadable(f"the payload has over {envelope.MAX_LINE_BYTES:,} bytes, which none had when emitted")
        parts: list[bytes] = []
        size = 0
        for digest in reference.sha256:
            parts.append(self._chunk(digest, workspace))
            size += len(parts[-1])
            if size > reference.bytes:  # not one of ours; do not fill the memory with it
                break
        rest = reference.rest.encode()
        if size + len(rest) != reference.bytes:
            raise BlobUnreadable(f"a field of {reference.bytes:,} bytes does not have as many; look at its line")
        joined = b"".join([*parts, rest])
        try:
            _any_json.decode(joined)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BlobUnreadable(f"a field of {reference.bytes:,} bytes is not JSON: {error}") from None
        return joined


def references(payload: bytes) -> set[str]:
    """Return the hashes of the chunks that a payload refers to. Raises what decoding raises."""
    found: set[str] = set()
    for raw in _fields.decode(payload).values():
        if _LOOKS_LIKE_ONE(bytes(raw)):
            with contextlib.suppress(msgspec.MsgspecError):
                found.update(_reference.decode(bytes(_fields.decode(raw)["$blob"])).sha256)
    return found


def resolve(root: str | Path, payload: bytes, workspace: str | None = None) -> bytes:
    """Return a payload of an event of this workspace as it was emitted, its chunks put back. Raises BlobUnreadable."""
    return Resolver(root).resolve(payload, workspace)


def read_of(root: str | Path, sha256: str, workspace: str | None) -> bytes:
    """Return what a chunk has of a field, for an event of this workspace. Raises BlobUnreadable."""
    data, owner = read(root, sha256), _owner(workspace)
    if not data.startswith(owner) or (not owner and data.startswith(b"\0")):
        raise _missing(path_of(root, sha256))  # there, but of another: which is not for this one to know
    return data[len(owner) :]


def read(root: str | Path, sha256: str) -> bytes:
    """Return the bytes of a chunk's file, which have this hash. Raises BlobUnreadable."""
    path = path_of(root, sha256)
    try:
        for folder in (path.parent.parent, path.parent):
            if folder.is_symlink():
                raise BlobUnreadable(f"{folder} is a link, which eventlog does not follow; put a folder there")
        data = _read_file(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except _NotAFile:
        raise BlobUnreadable(
            f"{path} is not a regular file; move it away, and bring the file back with: eventlog restore"
        ) from None
    except OSError as error:
        raise BlobUnreadable(f"{path} cannot be read: {error.strerror}; check its permissions and the disk") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BlobUnreadable(
            f"{path} is damaged: its bytes do not have the hash that is its name; "
            "move it away, and bring it back with: eventlog restore"
        )
    return data


def _missing(path: Path) -> BlobUnreadable:
    return BlobUnreadable(f"{path} is missing; bring it back with: eventlog restore")


def list_blobs(root: str | Path) -> list[Blob]:
    """Return all that has the name of a chunk, in order of their names, whatever it is: reading tells.

    A folder that cannot be listed is passed over; reading what lines name in there tells why.
    """
    found = []
    for folder in _entries(folder_of(root)):
        if not folder.is_dir(follow_symlinks=False) or len(folder.name) != 2:
            continue
        for entry in _entries(Path(folder.path)):
            if NAME.fullmatch(entry.name) and entry.name.startswith(folder.name):
                with contextlib.suppress(FileNotFoundError):
                    size = entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
                    found.append(Blob(entry.name, Path(entry.path), size))
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _read_file(path: Path) -> bytes:
    """Read a regular file that is no longer than a line may be. Raises OSError."""
    fd = _opened(path)
    try:
        return _read_all(fd)
    finally:
        os.close(fd)


class _NotAFile(OSError):
    """Something else stands where a chunk should."""


def _opened(path: Path) -> int:
    """Open a regular file, and nothing else. Raises OSError."""
    try:
        # Not blocking, since somebody may have put a pipe there.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise _NotAFile(error.errno, "not a regular file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _NotAFile(errno.EINVAL, "not a regular file", str(path))
    return fd


def _read_all(fd: int) -> bytes:
    found = os.fstat(fd)
    if found.st_size > envelope.MAX_LINE_BYTES:
        raise OSError(errno.EFBIG, "longer than any chunk")
    parts, offset = [], 0
    while offset < found.st_size and (part := os.pread(fd, found.st_size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def error_of(value: Any) -> str | None:
    """Return why a field is not there, for a value of a payload that was resolved with `marked`."""
    inner = value.get("$blob") if isinstance(value, dict) and len(value) == 1 else None
    error = inner.get("error") if isinstance(inner, dict) and "sha256" in inner else None
    return error if isinstance(error, str) else None
