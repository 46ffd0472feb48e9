"""The process that eventlog lives in: bounded locks, forks, threads, guards, and files opened with care."""
