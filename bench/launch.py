"""Start a command from the smallest possible Python process, and report its time and memory.

    python -I -S bench/launch.py FD COMMAND...

The kernel counts the parent's memory at the fork as part of the child's peak, so the memory of the harness would be a
lower bound of every figure. Writes seconds and peak (as in ru_maxrss) to FD.
"""

import os
import sys
import time

_fd, _command = int(sys.argv[1]), sys.argv[2:]
os.set_inheritable(_fd, False)
_started = time.perf_counter()
_, _status, _usage = os.wait4(os.posix_spawnp(_command[0], _command, os.environ), 0)
_elapsed_s = time.perf_counter() - _started
os.write(_fd, b"%.9f %d" % (_elapsed_s, _usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(_status) % 256)
