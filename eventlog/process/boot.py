"""The scope in which a pid means one process."""

from __future__ import annotations

import functools
import os
from pathlib import Path

#: PROC_PID_INIT_INO of Linux (include/linux/proc_ns.h): the pid namespace of processes outside of containers.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def boot() -> str | None:
    """Return the machine's boot id, and in a container its pid namespace; None where /proc does not say."""
    try:
        boot_id = _BOOT_ID.read_bytes().decode().strip()  # text would import its encoding
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except (OSError, ValueError):
        return None
    return boot_id if namespace == _FIRST_PID_NAMESPACE else f"{boot_id}/{namespace}"
