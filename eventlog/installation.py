"""What is installed as eventlog: whether all files are there, and whether another package has written over them.

Other projects have a distribution called `eventlog`; a Django app of 2015 is one. pip installs its files into the same
folder as ours and removes them again without a warning: `eventlog/__init__.py` is then theirs, or gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

DISTRIBUTION, PACKAGE = "agent-eventlog", "eventlog"
FOLDER = Path(__file__).parent


def repair() -> str:
    """Return the commands that make the installation whole: `pip uninstall -y eventlog && pip install …`."""
    others = " ".join(sorted({other.name for other in other_distributions()}))
    install = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
    return f"pip uninstall -y {others} && {install}" if others else install


def other_distributions() -> Iterator[metadata.Distribution]:
    """Yield each distribution but ours that is called eventlog, or has files in a folder of that name."""
    for distribution in metadata.distributions():
        try:
            named = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
            records = "\n" + (distribution.read_text("RECORD") or "")
        except Exception:  # noqa: BLE001, S112 - the remains of one, or files that are malformed in whatever way
            continue
        if named == PACKAGE or (named != DISTRIBUTION and f"\n{PACKAGE}/" in records):
            yield distribution


def missing_files() -> list[str]:
    """Return the files that were installed and are gone, such as `eventlog/indexer/cli.py`. None in a checkout."""
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        return []
    own = [file for file in files if file.parts[0] == PACKAGE and file.suffix != ".pyc"]
    return [str(file) for file in own if not Path(file.locate()).exists()]
