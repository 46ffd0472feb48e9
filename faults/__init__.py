"""The fault campaign: what eventlog promises, tried by breaking things on purpose.

    make faults                     all of it, about 20 minutes at most; prints its seed
    python -m faults --list         what there is
    python -m faults --only NAME --seed N
    python -m faults --resume       what there was no time for
    python -m faults --deep         many times more kills, for hours

Each fault is a function that breaks something real (kills processes, fails system calls,
flips bits), lets eventlog recover, and asks an oracle outside of the product. It returns
its figure; docs/reliability.md is written from those by `make faults`.

A module faults/fault_*.py registers its faults itself, with @fault. Counts go through `Plan.times`,
choices through `Plan.rng`, and each wait through faults.pace, which gives a busy machine more time.
"""
