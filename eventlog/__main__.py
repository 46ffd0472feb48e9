"""`python -m eventlog` is the console command.

Hooks and status lines run this file by its path, as `python -I -S …/eventlog/__main__.py hook`: without the folders of
installed packages, which take a while to find.
"""

import sys

if "site" not in sys.modules:  # -S; behind the standard library, so that nothing takes the place of a module of it
    sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from eventlog.cli import main

main()
