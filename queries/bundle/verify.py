#!/usr/bin/env python3
"""Verify a bundle that `eventlog export bundle` wrote. It needs Python 3.8 or later and nothing else.

    unzip nightly-7.zip -d nightly-7 && python3 nightly-7/verify.py
    python3 verify.py nightly-7.zip --head 12:9f86d0...

It checks the hash of every file, the hash of every line, that every line is where the manifest says, and the proof that
it is in its sealed segment. With `--head`, a head of the log that was printed by `eventlog seal` and kept elsewhere, it
says which lines that head proves. The exit code is 0 where nothing is wrong, 1 where something is, 2 for a bad option.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from typing import Any

FORMAT = "eventlog-bundle"
USAGE = "usage: verify.py [BUNDLE] [--head NUMBER:SHA256]"
#: The type of the events that are seals.
SEAL_EVENT = "segment_sealed"


class Wrong(Exception):
    """Something in the bundle is not what it was when it was exported."""


def main(arguments: list[str]) -> int:
    """Verify what the command line names, and print what was found; return the exit code."""
    path, head = os.path.dirname(os.path.abspath(__file__)), None
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--head" and left:
            head = left.pop(0).lower()
        elif argument.startswith("-"):
            print(USAGE)
            return 2
        else:
            path = argument
    result = verify(path, head)
    print("\n".join(report(result)))
    return 1 if result["wrong"] else 0


def report(result: dict[str, list[str]]) -> list[str]:
    """Return what `verify` found as lines of text."""
    verdict = (
        "this bundle is NOT as it was exported, or not as it was sealed" if result["wrong"] else "nothing is wrong"
    )
    return result["said"] + ["WRONG  " + problem for problem in result["wrong"]] + [verdict]


def has_program(path: str, program: bytes) -> bool:
    """Say whether the bundle has this program as its verify.py."""
    try:
        return read_files(path).get("verify.py") == program
    except Wrong:
        return False


def verify(path: str, head: str | None = None) -> dict[str, list[str]]:
    """Return what is proven as lines of text under "said", and what is wrong under "wrong"."""
    result: dict[str, list[str]] = {"said": [], "wrong": []}
    try:
        files = read_files(path)
        manifest = read_manifest(files)
        check_files(files, manifest, result["wrong"])
        check(files, manifest, head, result)
    except Wrong as error:
        result["wrong"].append(str(error))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        result["wrong"].append(f"the bundle cannot be read: {type(error).__name__}: {error}")
    return result


# -- files -----------------------------------------------------------------------------------


def read_files(path: str) -> dict[str, bytes]:
    """Return the files of a bundle by name, of a ZIP file or an unpacked folder. Raises Wrong."""
    if os.path.isdir(path):
        files = {}
        for folder, _, names in os.walk(path):
            for name in names:
                full = os.path.join(folder, name)
                with open(full, "rb") as file:
                    files[os.path.relpath(full, path).replace(os.sep, "/")] = file.read()
        return {name: data for name, data in files.items() if not name.startswith("__pycache__/")}
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) != len(names):
                raise Wrong("a file is in the bundle twice")
            return {name: archive.read(name) for name in names}
    except FileNotFoundError:
        raise Wrong(f"there is no bundle {path}") from None
    except Wrong:
        raise
    except Exception as error:  # noqa: BLE001 - zipfile raises whatever the damage makes of it
        raise Wrong(f"{path} is damaged: {error}") from None


def read_manifest(files: dict[str, bytes]) -> dict[str, Any]:
    """Return the manifest, once its hash was compared. Raises Wrong."""
    for name in ("manifest.json", "manifest.sha256"):
        if name not in files:
            raise Wrong(f"{name} is missing")
    if files["manifest.sha256"] != f"{sha256(files['manifest.json'])}  manifest.json\n".encode():
        raise Wrong("manifest.json does not have the hash in manifest.sha256")
    manifest: dict[str, Any] = json.loads(files["manifest.json"].decode("utf-8"))
    if (manifest["format"], manifest["version"]) != (FORMAT, 1):
        raise Wrong("this is no bundle of version 1")
    return manifest


def check_files(files: dict[str, bytes], manifest: dict[str, Any], wrong: list[str]) -> None:
    """Compare the files with their hashes in the manifest."""
    surplus = set(files) - set(manifest["files"]) - {"manifest.json", "manifest.sha256"}
    wrong += [f"{name} does not belong to the bundle" for name in sorted(surplus)]
    for name, digest in sorted(manifest["files"].items()):
        if name not in files:
            wrong.append(f"{name} is missing")
        elif sha256(files[name]) != digest:
            wrong.append(f"{name} was changed")
        elif name.startswith("blobs/") and name != "blobs/" + digest:
            wrong.append(f"{name} does not have the hash that is its name")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


# -- lines, seals and proofs -----------------------------------------------------------------


def check(files: dict[str, bytes], manifest: dict[str, Any], head: str | None, result: dict[str, list[str]]) -> None:
    """Check lines, seals and proofs, and say what is proven."""
    said, wrong = result["said"], result["wrong"]
    subject = manifest["what"]
    workspace = subject["workspace"]
    said.append(
        f"{subject['kind']} {subject['id']}, " + ("no workspace" if workspace is None else f"workspace {workspace}")
    )
    seals = read_seals(files, manifest, wrong)
    proven: dict[str, int] = {}
    unsealed: dict[str, list[int]] = {}
    lines = 0
    for segment in manifest["segments"]:
        data = files.get(f"lines/{segment['name']}.jsonl", b"")
        count = check_lines(data, segment, subject, wrong)
        lines += count
        seal = seals.get(segment.get("seal"))
        if seal is None or segment.get("why_not") is not None:
            unsealed.setdefault(segment.get("why_not") or "its seal is not in the bundle", []).append(count)
            if seal is None and segment.get("seal") is not None:
                wrong.append(f"the seal of {segment['name']} is missing")
        elif check_proofs(data, segment, seal, wrong):
            proven[seal["sha256"]] = proven.get(seal["sha256"], 0) + count
    said.append(f"{number(lines, 'line')} as exported, in {number(len(manifest['segments']), 'segment')}")
    if lines != manifest["line_count"]:
        wrong.append(f"the manifest counts {manifest['line_count']} lines, and lists {lines}")
    check_summary(files, manifest, wrong)
    in_sealed = number(sum(proven.values()), "line")
    said.append(f"{in_sealed} proven to be in sealed segments, by {number(len(proven), 'seal')}")
    for why, counts in sorted(unsealed.items()):
        said.append(f"{number(sum(counts), 'line')} NOT proven: {why}")
    said += [f"{count} NOT in this bundle: {why}" for why, count in sorted(manifest["left_out"].items())]
    check_head(seals, proven, head, result)
    said.append(
        "no hash proves that the summary is right, that the log has no other events of it, or when they were written"
    )


def number(count: int, noun: str) -> str:
    """Return a count with its noun: `1 line`, `2 lines`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_lines(data: bytes, segment: dict[str, Any], subject: dict[str, Any], wrong: list[str]) -> int:
    """Check that the lines of a segment are whole, unchanged and of what was exported; return how many there are."""
    position = 0
    for line in segment["lines"]:
        raw = data[position : position + line["length"]]
        position += line["length"]
        place = f"the line at byte {line['offset']} of {segment['name']}"
        if sha256(raw) != line["sha256"]:
            wrong.append(f"{place} was changed")
            continue
        event = json.loads(raw.decode("utf-8"))
        if event["event_id"].lower() != line["event_id"] or event["event_type"] != segment["event_type"]:
            wrong.append(f"{place} is another event than the manifest says")
        if event.get("workspace") != subject["workspace"] or event.get(subject["column"]) != subject["id"]:
            wrong.append(f"{place} belongs to another {subject['kind']}")
    if position != len(data):
        wrong.append(f"lines/{segment['name']}.jsonl has other lines than the manifest says")
    return len(segment["lines"])


def read_seals(files: dict[str, bytes], manifest: dict[str, Any], wrong: list[str]) -> dict[str | None, Any]:
    """Return the seals by their hash: what each says, and what proves itself."""
    raw = files.get("seals.jsonl", b"").split(b"\n")[:-1]
    if len(raw) != len(manifest["seals"]):
        wrong.append("seals.jsonl has other seals than the manifest says")
        return {}
    seals: dict[str | None, Any] = {}
    for line, listed in zip(raw, manifest["seals"]):  # noqa: B905 - Python 3.8 has no strict
        if sha256(line) != listed["sha256"]:
            wrong.append(f"the seal {listed['sha256']} was changed")
            continue
        event = json.loads(line.decode("utf-8"))
        if event["event_type"] != SEAL_EVENT:
            wrong.append(f"the seal {listed['sha256']} is no seal")
        seals[listed["sha256"]] = dict(event["payload"], sha256=listed["sha256"], listed=listed, line=line + b"\n")
    for seal in seals.values():
        before = seals.get(seal["previous"])
        if before is not None and seal["number"] != before["number"] + 1:
            wrong.append(f"seal {seal['number']} does not follow seal {before['number']}, which it names")
    return seals


def check_proofs(data: bytes, segment: dict[str, Any], seal: dict[str, Any], wrong: list[str]) -> bool:
    """Check that each line of a segment is in the tree whose root its seal has; return whether all are."""
    if seal["segment"] != segment["name"] or seal["segment_type"] != segment["event_type"]:
        wrong.append(f"the seal of {segment['name']} is that of another segment")
        return False
    position, fine = 0, True
    for line in segment["lines"]:
        raw = data[position : position + line["length"]]
        position += line["length"]
        if not in_tree(raw, line["index"], line["proof"], seal):
            wrong.append(f"the line at byte {line['offset']} of {segment['name']} is not in the sealed segment")
            fine = False
    return fine


def in_tree(raw: bytes, index: int, proof: list[str], seal: dict[str, Any]) -> bool:
    """Follow a proof to the root (RFC 9162, section 2.1.3.2)."""
    size = seal["lines"] + (1 if seal["torn_bytes"] else 0)
    if not 0 <= index < size:
        return False
    node, last = hashlib.sha256(b"\0" + raw).digest(), size - 1
    for beside in map(bytes.fromhex, proof):
        if last == 0:
            return False
        if index % 2 or index == last:
            node = hashlib.sha256(b"\1" + beside + node).digest()
            while not index % 2 and index:
                index, last = index >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + beside).digest()
        index, last = index >> 1, last >> 1
    return last == 0 and node.hex() == seal.get("tree_sha256")


def check_summary(files: dict[str, bytes], manifest: dict[str, Any], wrong: list[str]) -> None:
    """Check the counts of the summary, which can be counted again."""
    counts: dict[str, int] = {}
    for segment in manifest["segments"]:
        counts[segment["event_type"]] = counts.get(segment["event_type"], 0) + len(segment["lines"])
    if json.loads(files["summary.json"].decode("utf-8"))["events_by_type"] != counts:
        wrong.append("summary.json counts other events than there are")


def check_head(
    seals: dict[str | None, Any], proven: dict[str, int], head: str | None, result: dict[str, list[str]]
) -> None:
    """Say which lines a head proves, or with what to compare the newest seal."""
    said = result["said"]
    if head is None:
        newest = max(seals.values(), key=lambda seal: int(seal["number"]), default=None)
        if newest is not None:
            said.append(f"the newest seal in this bundle is {newest['number']}:{newest['sha256']}")
            said.append("compare it with a head that was kept elsewhere, or give that one as --head:")
            said.append("without it, whoever made this bundle may have made its seals as well")
        return
    named = [seal for seal in seals.values() if f"{seal['number']}:{seal['sha256']}" == head]
    if not named:
        result["wrong"].append(
            f"the head {head} is not among the seals of this bundle; exported with --chain, it has all later ones"
        )
        return
    trusted = trusted_by(named[0], seals)
    by_head = sum(count for sha, count in proven.items() if sha in trusted)
    said.append(f"{number(by_head, 'line')} proven by the head {head}")
    if by_head < sum(proven.values()):
        said.append(
            f"{number(sum(proven.values()) - by_head, 'line')} in sealed segments that this head does NOT prove"
        )


def trusted_by(head: dict[str, Any], seals: dict[str | None, Any]) -> set[str]:
    """Return the hashes of the seals that a seal proves: those before it, and those in the segments that they seal."""
    trusted: set[str] = set()
    waiting = [head]
    while waiting:
        seal = waiting.pop()
        if seal["sha256"] in trusted:
            continue
        trusted.add(seal["sha256"])
        waiting += [other for other in seals.values() if other["sha256"] == seal["previous"] or is_in(other, seal)]
    return trusted


def is_in(seal: dict[str, Any], outer: dict[str, Any]) -> bool:
    """Say whether a seal is proven to stand in the segment that another one seals."""
    listed = seal["listed"]
    if outer["segment_type"] != SEAL_EVENT or listed["segment"] != outer["segment"] or listed.get("proof") is None:
        return False
    return in_tree(seal["line"], listed["index"], listed["proof"], outer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
