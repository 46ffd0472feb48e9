"""Destinations of backups: a folder, a file, or a bucket of a server that speaks S3.

A destination stores objects under keys of the form `a/b/c`. An object appears whole or not
at all, and is on disk, or accepted by the server, when `put` returns. All reading and
writing is in blocks: memory does not grow with the size of an object.

In a folder, objects are files. Each is written under a name in `tmp/`, synced, and renamed: a
crash leaves at most a file in `tmp/`, which a later run removes.

A bucket is reached through obstore (the extra `s3`). Endpoint, region and credentials come
from the environment, under the names that all S3 programs use (AWS_ENDPOINT_URL,
AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN).
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from eventlog.errors import BackupFailed, ConfigError, MissingExtra, ObjectMissing
from eventlog.maintenance.folder import Folder
from eventlog.maintenance.packed import PackedBackup, is_packed

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
#: Error codes of S3 servers for wrong credentials, and for missing rights.
_REFUSALS = frozenset(
    {
        "AccessDenied",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "AuthorizationHeaderMalformed",
    }
)
#: Any of these variables gives obstore credentials, or lets it do without.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
)
#: Objects travel in blocks of this size, the smallest part that S3 takes.
_BLOCK_BYTES = 5 * 1024 * 1024


class Destination(Protocol):
    """A store of objects. Each method raises BackupFailed where the store cannot do it."""

    #: For messages and events, without credentials: `/mnt/usb/eventlog`, `s3://bucket/laptop`.
    name: str

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Store an object; replace one with the same key. Raises BackupFailed."""

    def get(self, key: str) -> Iterator[bytes]:
        """Yield the blocks of an object.

        Raises ObjectMissing, at the latest with the first block; ObjectUnreadable where other objects may be
        readable; else BackupFailed.
        """

    def list(self, folder: str) -> list[str]:
        """Return the keys that begin with `folder/`, sorted. Raises BackupFailed."""

    def delete(self, key: str) -> None:
        """Remove an object. One that does not exist is fine. Raises BackupFailed."""

    def finish(self) -> None:
        """Return when all that was put is there for good. Raises BackupFailed."""


def open_destination(text: str) -> Destination:
    """Return the destination that a user named: `s3://bucket/prefix`, a folder, or a file such as `log.tar.zst`.

    Nothing is read or created yet. Raises ConfigError for a text that names neither, and MissingExtra where
    obstore is not installed.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        path = Path(text)
        return PackedBackup(path) if is_packed(path) else Folder(path)
    bucket, _, prefix = text[scheme.end() :].partition("/")
    # The error does not repeat the text, which may hold a password.
    if scheme[1] != "s3":
        raise ConfigError(f"{scheme[1]}:// is not a place for backups; use a folder or s3://bucket/prefix")
    parts = [part for part in prefix.split("/") if part]
    if not _BUCKET.fullmatch(bucket) or {".", ".."} & set(parts):
        raise ConfigError("not the name of a bucket; use s3://bucket/prefix, and give credentials as AWS_* variables")
    return Bucket(bucket, "/".join(parts))


def is_inside(destination: Destination, root: Path) -> bool:
    """Say whether a destination lies in a root, where it would be part of the log and no backup of it."""
    return isinstance(destination, Folder | PackedBackup) and destination.path.resolve().is_relative_to(root.resolve())


class Bucket:
    """A bucket of a server that speaks S3, or the objects under a prefix in one.

    Raises MissingExtra without obstore, and ConfigError where the AWS_* variables cannot be used.
    """

    #: How long a server may be silent. Parts of 5 MiB are sent one at a time: 0.7 Mbit/s is enough for each.
    _SILENCE_S = 60
    #: How long to wait for a server that cannot be reached.
    _CONNECT_TIMEOUT_S = 5
    #: The limit of one whole download.
    _DOWNLOAD_S = 6 * 3600
    _RETRIES = 4

    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            self._api: Any = importlib.import_module("obstore")
            store = importlib.import_module("obstore.store")
        except ModuleNotFoundError:
            raise MissingExtra("a backup to s3://…", "s3") from None
        self.name = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._bucket = bucket
        self._endpoint = next(
            (
                os.environ[name]
                for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
                if os.environ.get(name)
            ),
            None,
        )
        if self._endpoint is not None and not re.match(r"https?://[^/]", self._endpoint):
            # The error does not repeat it: it may hold a password. And obstore panics on such an address.
            raise ConfigError("AWS_ENDPOINT_URL is not an address like https://host or http://host:port")
        if not _has_credentials(os.environ):
            raise ConfigError(
                f"{self.name}: there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "and AWS_ENDPOINT_URL for a server that is not Amazon's"
            )
        try:
            self._store = store.S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "allow_http": (self._endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=self._CONNECT_TIMEOUT_S),
                    "read_timeout": timedelta(seconds=self._SILENCE_S),
                    "timeout": timedelta(seconds=self._DOWNLOAD_S),
                },
                retry_config={"max_retries": self._RETRIES, "retry_timeout": timedelta(seconds=self._SILENCE_S)},
            )
        except (self._api.exceptions.BaseError, ValueError) as error:
            raise ConfigError(f"{self.name}: the AWS_* variables cannot be used: {_first_line(error)}") from None

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """See Destination.put. Raises BackupFailed."""
        blocks = iter(blocks)
        first = list(itertools.islice(blocks, 2))
        try:
            if len(first) < 2:  # one request instead of three
                self._api.put(self._store, key, b"".join(first), use_multipart=False)
            else:
                self._api.put(
                    self._store,
                    key,
                    itertools.chain(first, blocks),
                    use_multipart=True,
                    chunk_size=_BLOCK_BYTES,
                    max_concurrency=1,
                )
        except (self._api.exceptions.BaseError, FileNotFoundError) as error:
            raise self._failed("cannot store", key, error) from None

    def get(self, key: str) -> Iterator[bytes]:
        """See Destination.get. Raises ObjectMissing, ObjectUnreadable and BackupFailed."""
        try:
            yield from map(bytes, self._api.get(self._store, key).stream(min_chunk_size=_BLOCK_BYTES))
        except FileNotFoundError:
            raise ObjectMissing(f"{self.name}: there is no {key}") from None
        except self._api.exceptions.BaseError as error:
            raise self._failed("cannot read", key, error) from None

    def list(self, folder: str) -> list[str]:
        """See Destination.list. Raises BackupFailed."""
        try:
            return sorted(
                entry["path"] for chunk in self._api.list(self._store, folder, chunk_size=1000) for entry in chunk
            )
        except (self._api.exceptions.BaseError, FileNotFoundError) as error:
            raise self._failed("cannot list", folder, error) from None

    def delete(self, key: str) -> None:
        """See Destination.delete. Raises BackupFailed."""
        try:
            self._api.delete(self._store, key)
        except FileNotFoundError:
            pass
        except self._api.exceptions.BaseError as error:
            raise self._failed("cannot remove", key, error) from None

    def finish(self) -> None:
        """See Destination.finish: each object is there when it was put."""

    def _failed(self, problem: str, key: str, error: Exception) -> BackupFailed:
        where = f" at {_without_password(self._endpoint)}" if self._endpoint else ""
        code = _code(error)
        if code == "NoSuchBucket":
            return BackupFailed(
                f"{self.name}: there is no bucket {self._bucket!r}{where}; create it, or check the name"
            )
        if code in _REFUSALS:
            return BackupFailed(
                f"{self.name}: {problem} {key}: the server{where} answers {code}; "
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do"
            )
        if code is not None:
            return BackupFailed(
                f"{self.name}: {problem} {key}: the server{where} answers {code}; "
                "look at its free space and its own log, and run the same again"
            )
        return BackupFailed(
            f"{self.name}: {problem} {key}{where}: {_first_line(error)}; check AWS_ENDPOINT_URL and the network"
        )


def _has_credentials(environ: Mapping[str, str]) -> bool:
    """Say whether a request could be signed: by variables, or by the service that machines of Amazon have.

    Elsewhere nobody answers at the address of that service, and asking it takes long.
    """
    return any(environ.get(name) for name in _CREDENTIALS) or _is_amazons_machine()


def _is_amazons_machine() -> bool:
    try:
        return Path("/sys/class/dmi/id/sys_vendor").read_text().startswith("Amazon")
    except OSError:
        return False


def _code(error: Exception) -> str | None:
    """Return the error code of the S3 protocol, which obstore gives only inside its message."""
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return code[1] if code else None


def _first_line(error: Exception) -> str:
    return _without_password(str(error).partition("\n")[0])


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
