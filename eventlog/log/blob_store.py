"""Writing large fields beside the log: each chunk once, before the line that names it (format: eventlog.log.blobs).

Writing
    A chunk is written under a temporary name and renamed before the line that refers to it is written, so that a
    kill leaves no line without its chunks. Chunks are synced before the lines that were written after them. An
    existing file is reused only if it has the right bytes: a process reads it once, and again when its inode or
    change time differs. A field whose chunks cannot be written stays in its event, so that no event is lost.

Deleting
    Nothing deletes chunks: a line that is being written may refer to a chunk that no other line refers to any more.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from eventlog.errors import WriteFailed
from eventlog.format import envelope, json_text
from eventlog.log.blobs import (
    DAMAGED,
    MARK,
    NotAFile,
    Reference,
    folder_of,
    looks_like_reference,
    open_regular,
    owner_header,
    path_of,
    read_all,
    read_file,
)
from eventlog.log.segment import sync_folder
from eventlog.process import locks

CHUNK_MAX_BYTES = 32 * 1024
_CHUNK_MIN_BYTES = 1024
#: Beyond this many chunks the signatures are forgotten; they only save reading the files again.
_SIGNATURES_MAX = 10_000
#: Beyond this many unsynced chunks a writer syncs them itself.
_UNSYNCED_MAX = 10_000
_SYNC_TIMEOUT_S = 30.0
#: Two changes within one tick of the file system's clock may have the same time: a younger file is read again.
_TICK_NS = 100_000_000
_STALE_S = 24 * 3600.0

#: Inode, change time in ns, and size in bytes: another file, or one that was written to, has another one.
_Signature = tuple[int, int, int]


class BlobStore:
    """Takes large fields out of payloads. Threads may share it.

    With `synced`, a chunk is on disk before `put` returns; without, `sync` puts all of them there.
    `on_failure` is called with the reason when a large field has to stay in its event.
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
        # Both are dictionaries for their order, and because single operations on them need no lock.
        self._signatures: dict[str, _Signature | None] = {}
        self._unsynced: dict[str, None] = {}
        self._sync_lock = locks.Lock()
        self._swept = False

    def take_out(self, payload: bytes, workspace: str | None = None) -> bytes:
        """Return a JSON payload whose large fields are references, and whose lookalikes are escaped.

        `workspace` is that of the event: only its events can read the chunks. Raises InvalidEvent where the
        payload exceeds the limits of a line: blobs do not widen those.
        """
        large = len(payload) > self.min_bytes
        if not large and not may_have_lookalikes(payload):
            return payload
        envelope.check_limits(payload)
        changed = {}
        fields = json_text.members(payload)
        header = owner_header(workspace) if large else b""
        for name, raw in fields.items():
            value = bytes(raw)
            if large and len(value) > self.chunk_bytes:
                reference = self._put_field(value, header)
                if reference is not None:
                    changed[name] = reference
                    continue
            if looks_like_reference(value):
                changed[name] = _escaped(value)
        return msgspec.json.encode(fields | changed) if changed else payload

    def _put_field(self, value: bytes, header: bytes) -> msgspec.Raw | None:
        """Store the whole chunks of a field; return its reference as JSON, or None where that failed."""
        ends = list(_chunk_ends(value, self.chunk_bytes))
        starts = [0, *ends[:-1]]
        try:
            digests = tuple(self.put(header + value[start:end]) for start, end in zip(starts, ends, strict=True))
        except OSError as error:
            path = error.filename or folder_of(self.root)
            self._on_failure(f"{path}: {error.strerror or error}; a large field stays in its event instead")
            return None
        reference = Reference(digests, len(value), value[ends[-1] :].decode())
        return msgspec.Raw(b'{"$blob":' + msgspec.json.encode(reference) + b"}")

    def put(self, chunk: bytes) -> str:
        """Store a chunk unless it exists; return its SHA-256 in hex. Raises OSError."""
        digest = hashlib.sha256(chunk).hexdigest()
        path = path_of(self.root, digest)
        signature, was_checked = _signature(path), digest in self._signatures
        if was_checked and signature is not None and self._signatures[digest] == signature:
            return digest
        if not _holds(path, chunk):
            self._write(path, chunk)
            signature = None
        elif was_checked:
            self._signatures[digest] = _final(signature)
            return digest
        elif self._synced:  # another process may have written it a moment ago, without a sync
            self._sync_one(digest)
            _sync_folders([path])
        if not self._synced:
            self._unsynced[digest] = None
            if len(self._unsynced) > _UNSYNCED_MAX:
                with contextlib.suppress(WriteFailed):  # the next sync raises it again
                    self.sync()
        if len(self._signatures) > _SIGNATURES_MAX:
            self._signatures.clear()
        self._signatures[digest] = _final(signature)
        return digest

    def _write(self, path: Path, chunk: bytes, *, synced: bool | None = None, aside: bool = True) -> None:
        """Write a file that appears whole or not at all. A damaged one at its path is replaced, and set `aside`."""
        synced = self._synced if synced is None else synced
        temporary = _temporary_folder(path.parent.parent) / os.urandom(8).hex()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        for folder in (path.parent.parent, path.parent):
            if folder.is_symlink():
                raise OSError(errno.ELOOP, "a symbolic link, which eventlog does not follow", str(folder))
        if not self._swept:
            self._swept = True
            _remove_stale(temporary.parent)
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
            # Another process may have put a whole chunk there in the meantime.
            if aside and os.path.lexists(path) and not _holds(path, chunk):
                _set_aside(path)
            # The name is the hash, so whoever was faster has put the same bytes there.
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
        with locks.held(self._sync_lock, _SYNC_TIMEOUT_S) as acquired:
            if not acquired:
                raise WriteFailed(f"{folder_of(self.root)}: a sync has been running for {_SYNC_TIMEOUT_S:g} s")
            waiting = list(self._unsynced)
            if not waiting:  # another thread has synced them
                return
            try:
                for digest in waiting:
                    # Somebody has deleted or replaced the file: reading it will say so.
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError, NotAFile):
                        self._sync_one(digest)
                existing = [path for digest in waiting if os.path.lexists(path := path_of(self.root, digest))]
                if existing:
                    _sync_folders(existing)
            except OSError as error:
                failed = error.filename or folder_of(self.root)
                raise WriteFailed(
                    f"{failed}: cannot be synced ({error.strerror or error}); the disk may be failing"
                ) from error
            for digest in waiting:
                self._unsynced.pop(digest, None)

    def _sync_one(self, digest: str) -> None:
        path = path_of(self.root, digest)
        fd = open_regular(path)
        try:
            os.fsync(fd)
        except OSError:
            # As with segments, never sync the same file again: Linux now counts its pages as written, and they are not.
            chunk = read_all(fd)
            if hashlib.sha256(chunk).hexdigest() != digest:
                raise
            self._write(path, chunk, synced=True, aside=False)
        finally:
            os.close(fd)

    def after_fork(self) -> None:
        """In a forked child: the parent syncs what the parent wrote."""
        self._sync_lock = locks.Lock()
        # A child that uses such a chunk has to sync it all the same.
        for digest in self._unsynced:
            self._signatures.pop(digest, None)
        self._unsynced = {}


def escape_lookalikes(payload: bytes) -> bytes:
    """Return a JSON payload that refers to no chunks, with each field that looks like a reference escaped."""
    if not may_have_lookalikes(payload):
        return payload
    fields = json_text.members(payload)
    changed = {name: _escaped(bytes(raw)) for name, raw in fields.items() if looks_like_reference(bytes(raw))}
    return msgspec.json.encode(fields | changed) if changed else payload


def may_have_lookalikes(payload: bytes) -> bool:
    """Say whether a field may look like a reference: its name is there, or may be there in escapes."""
    return MARK in payload or b"\\u00" in payload


def _escaped(value: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'{"$blob":{"value":' + value + b"}}")


def _chunk_ends(value: bytes, chunk_bytes: int) -> Iterator[int]:
    """Yield the offsets at which the chunks of a UTF-8 text end; the remainder is shorter than a chunk."""
    end = 0
    while end + chunk_bytes <= len(value):
        end += chunk_bytes
        while end < len(value) and value[end] & 0xC0 == 0x80:  # inside of a character
            end -= 1
        yield end


def _holds(path: Path, chunk: bytes) -> bool:
    """Say whether a file has these bytes. After a power cut, a name may exist without them."""
    try:
        return read_file(path) == chunk
    except OSError:
        return False


def _signature(path: Path) -> _Signature | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_size


def _final(signature: _Signature | None) -> _Signature | None:
    """Return a signature that every later change will alter; None while the file is too young for that."""
    return signature if signature is not None and 0 <= signature[1] < time.time_ns() - _TICK_NS else None


def _set_aside(path: Path) -> None:
    """Keep a file with the wrong bytes as evidence. Its name stays taken: another process may be writing there."""
    evidence = path.parent.parent / DAMAGED / f"{path.name}.{os.urandom(4).hex()}"
    with contextlib.suppress(OSError):  # no hard links here: then it is replaced without evidence
        evidence.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.rename(f"{path}/", evidence)  # only a folder has to go; the slash keeps a file where it is
        except NotADirectoryError:
            os.link(path, evidence, follow_symlinks=False)


def _temporary_folder(folder: Path) -> Path:
    """Return the folder of chunks that are being written, which is made if need be. Raises OSError."""
    temporary = folder / "tmp"
    if not temporary.is_dir():
        # As with segments, for the owner alone: prompts end up here.
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for part in (folder.parent, folder, temporary):
            part.mkdir(mode=0o700, exist_ok=True)
    return temporary


def _remove_stale(temporary: Path) -> None:
    """Remove what killed processes have left, but nothing that somebody may be writing now."""
    with contextlib.suppress(OSError):
        for path in temporary.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _STALE_S:
                    path.unlink()


def _sync_folders(paths: list[Path]) -> None:
    """Make the names of chunks survive a power cut. Raises OSError."""
    for folder in dict.fromkeys(path.parent for path in paths):
        sync_folder(folder)
    for folder in paths[0].parents[1:3]:
        sync_folder(folder)
    with contextlib.suppress(PermissionError):  # the folder that holds the root may belong to somebody else
        sync_folder(paths[0].parents[3])
