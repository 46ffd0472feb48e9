"""Large fields of payloads, kept in chunks beside the log: the format, and reading it back.

Layout
    <root>/blobs/<2 hex digits>/<sha256 hex>    a chunk: bytes whose SHA-256 is the name; never changed
    <root>/blobs/tmp/<random>                   a chunk that is being written; a crash may leave one
    <root>/blobs/damaged/<sha256>.<random>      a file that stood at a chunk's path with other bytes; evidence only

Reference
    Where a payload is larger than `blob_min_bytes`, each top-level field whose JSON is longer than a chunk is cut
    into chunks. The cuts are at fixed distances from its beginning, moved back to the start of a character: a prompt
    that only grows is cut in the same places, so that its earlier chunks exist already. Whole chunks become files;
    the remainder stays in the event:

        "input_messages": {"$blob": {"sha256": ["9f86…", …], "bytes": 81920, "rest": "…"}}

    A field that looks like a reference when it is emitted or imported is escaped as `{"$blob": {"value": …}}`;
    reading unescapes it.

Workspaces
    The chunk of an event with a workspace begins with a header line that names the workspace (`owner_header`), and
    its hash covers the header. An event of another workspace that names the chunk, as a forged line may, gets no
    content, and does not learn that the chunk exists. So a field that two workspaces share is stored twice.

Reading
    A chunk counts only if its bytes have the hash. One that is missing or damaged raises an error that names
    the file; it never yields content.

Writing is in eventlog.log.blob_store. docs/decisions/0015-blobs.md and 0029-identity-in-a-workspace.md say why.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from eventlog.errors import BlobUnreadable
from eventlog.format import envelope, json_text

FOLDER = "blobs"
DAMAGED = "damaged"
NAME = re.compile(r"[0-9a-f]{64}")
#: Matches the JSON of a field that begins like a reference. JSON allows each character of the name to be escaped,
#: and the index resolves escapes.
looks_like_reference = re.compile(
    rb'\s*\{\s*"(?:\$|\\u0024)(?:b|\\u0062)(?:l|\\u006[cC])(?:o|\\u006[fF])(?:b|\\u0062)"\s*:'
).match
#: A line without these bytes names no chunk, whoever wrote it.
MARK = b'"$blob"'
#: The first byte of the name; most payloads do not have it.
DOLLAR = ord("$")
#: The two ways in which JSON may spell it otherwise.
BACKSLASH = ord("\\")
ESCAPED_DOLLAR = b"\\u0024"
#: Chunks that a Resolver caches: a growing prompt repeats them.
_CACHED_CHUNKS = 256

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replaces a field: the hashes of its chunks in order, the length of its JSON in bytes, and its remainder."""

    sha256: Annotated[tuple[Sha256, ...], msgspec.Meta(min_length=1)]
    bytes: Annotated[int, msgspec.Meta(ge=1, le=envelope.MAX_LINE_BYTES)]
    rest: str


class _Escaped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: msgspec.Raw


class Blob(NamedTuple):
    """A file under `blobs/` that has the name of a chunk. `size` is in bytes; 0 if it is no regular file."""

    sha256: str
    path: Path
    size: int


_decode_reference = msgspec.json.Decoder(Reference).decode
_decode_escaped = msgspec.json.Decoder(_Escaped).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def folder_of(root: str | Path) -> Path:
    """Return the folder that holds the chunks of a root: `<root>/blobs`."""
    return Path(root) / FOLDER


def damaged_of(root: str | Path) -> Path:
    """Return the folder for files that stood at a chunk's path with other bytes: `<root>/blobs/damaged`."""
    return folder_of(root) / DAMAGED


def path_of(root: str | Path, sha256: str) -> Path:
    """Return the path of a chunk, such as `<root>/blobs/9f/9f86…`."""
    return folder_of(root) / sha256[:2] / sha256


def owner_header(workspace: str | None) -> bytes:
    """Return the bytes that chunks of a workspace begin with; b"" without a workspace.

    JSON never contains a zero byte, so no chunk without a workspace begins like this.
    """
    if workspace is None:
        return b""
    return b"\0workspace %b\n" % hashlib.sha256(workspace.encode()).hexdigest().encode()


class Resolver:
    """Puts chunks back into payloads. It caches chunks that it has read: make one per answer."""

    def __init__(self, root: str | Path) -> None:
        self._left_bytes = envelope.MAX_LINE_BYTES
        self._chunk = functools.lru_cache(_CACHED_CHUNKS)(functools.partial(read_of, root))

    def resolve(self, payload: bytes, workspace: str | None, *, marked: bool = False) -> bytes:
        """Return the payload that an event of this workspace was emitted with. Raises BlobUnreadable.

        With `marked`, a field that cannot be read stays a reference, with the reason under `error` (see `error_of`).
        """
        if MARK not in payload:
            return payload
        self._left_bytes = envelope.MAX_LINE_BYTES  # no payload was longer when it was emitted
        fields = json_text.members(payload)
        resolved = {name: msgspec.Raw(self._value(bytes(raw), workspace, marked)) for name, raw in fields.items()}
        return msgspec.json.encode(resolved)

    def _value(self, value: bytes, workspace: str | None, marked: bool) -> bytes:
        try:
            return self._resolved(value, workspace)
        except BlobUnreadable as error:
            if not marked:
                raise
            inner = msgspec.json.decode(value)["$blob"]
            return msgspec.json.encode({"$blob": {**inner, "error": str(error)}})

    def _resolved(self, value: bytes, workspace: str | None) -> bytes:
        if not looks_like_reference(value):
            return value
        fields = json_text.members(value)
        if len(fields) != 1:
            return value
        inner = bytes(fields["$blob"])
        with contextlib.suppress(msgspec.MsgspecError):
            return bytes(_decode_escaped(inner).value)
        try:
            reference = _decode_reference(inner)
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
            if size > reference.bytes:  # a forged reference must not fill the memory
                break
        rest = reference.rest.encode()
        if size + len(rest) != reference.bytes:
            raise BlobUnreadable(f"a field of {reference.bytes:,} bytes does not have as many; look at its line")
        joined = b"".join([*parts, rest])
        try:
            _decode_any(joined)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BlobUnreadable(f"a field of {reference.bytes:,} bytes is not JSON: {error}") from None
        return joined


def references(payload: bytes) -> set[str]:
    """Return the hashes of the chunks that a payload refers to. Raises msgspec.MsgspecError if it is no JSON object."""
    digests: set[str] = set()
    for raw in json_text.members(payload).values():
        if looks_like_reference(bytes(raw)):
            with contextlib.suppress(msgspec.MsgspecError):
                digests.update(_decode_reference(bytes(json_text.members(raw)["$blob"])).sha256)
    return digests


def resolve(root: str | Path, payload: bytes, workspace: str | None = None) -> bytes:
    """Return the payload that an event of this workspace was emitted with. Raises BlobUnreadable."""
    return Resolver(root).resolve(payload, workspace)


def read_of(root: str | Path, sha256: str, workspace: str | None) -> bytes:
    """Return the part of a field that a chunk holds, for an event of this workspace. Raises BlobUnreadable."""
    data, header = read(root, sha256), owner_header(workspace)
    if not data.startswith(header) or (not header and data.startswith(b"\0")):
        raise _missing(path_of(root, sha256))  # it belongs to another workspace, which this one must not learn
    return data[len(header) :]


def read(root: str | Path, sha256: str) -> bytes:
    """Return the bytes of a chunk's file, header included, once their hash was checked. Raises BlobUnreadable."""
    path = path_of(root, sha256)
    try:
        for folder in (path.parent.parent, path.parent):
            if folder.is_symlink():
                raise BlobUnreadable(f"{folder} is a link, which eventlog does not follow; put a folder there")
        data = read_file(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except NotAFile:
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
    """Return all entries that have the name of a chunk, sorted by name, whether or not they can be read.

    A folder that cannot be listed is skipped: reading a chunk in it says why.
    """
    blobs = []
    for folder in _entries(folder_of(root)):
        if not folder.is_dir(follow_symlinks=False) or len(folder.name) != 2:
            continue
        for entry in _entries(Path(folder.path)):
            if NAME.fullmatch(entry.name) and entry.name.startswith(folder.name):
                with contextlib.suppress(FileNotFoundError):
                    size = entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
                    blobs.append(Blob(entry.name, Path(entry.path), size))
    return blobs


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


class NotAFile(OSError):
    """Something else than a regular file stands at the path of a chunk."""


def read_file(path: Path) -> bytes:
    """Read a regular file of at most the length of a line. Raises NotAFile and OSError."""
    fd = open_regular(path)
    try:
        return read_all(fd)
    finally:
        os.close(fd)


def open_regular(path: Path) -> int:
    """Open a regular file for reading; return the descriptor. Raises NotAFile for anything else, and OSError."""
    try:
        # Without blocking: somebody may have put a FIFO there.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise NotAFile(error.errno, "not a regular file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAFile(errno.EINVAL, "not a regular file", str(path))
    return fd


def read_all(fd: int) -> bytes:
    """Read a file of at most the length of a line from its beginning. Raises OSError."""
    size = os.fstat(fd).st_size
    if size > envelope.MAX_LINE_BYTES:
        raise OSError(errno.EFBIG, "longer than any chunk")
    parts, offset = [], 0
    while offset < size and (part := os.pread(fd, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def error_of(value: Any) -> str | None:
    """Return why a field could not be read, from a payload that was resolved with `marked`; else None."""
    inner = value.get("$blob") if isinstance(value, dict) and len(value) == 1 else None
    error = inner.get("error") if isinstance(inner, dict) and "sha256" in inner else None
    return error if isinstance(error, str) else None
