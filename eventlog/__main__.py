"""`python -m eventlog` is the console command."""

from eventlog.cli import main

main()
