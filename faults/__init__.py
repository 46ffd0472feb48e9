"""The fault campaign: eventlog's promises, tested by breaking things on purpose.

    make faults                     all faults, about 20 minutes at most; prints its seed
    python -m faults --list         list the faults
    python -m faults --only NAME --seed N
    python -m faults --resume       the faults that the last campaign had no time for
    python -m faults --deep         many times more kills, for hours

Each fault is a function that breaks something real (kills processes, fails system calls, flips bits), lets eventlog
recover, and asks an oracle outside of the product. It returns its figure; `make faults` writes docs/reliability.md from
the figures.

A module faults/fault_*.py registers its faults with @fault. Counts go through `Plan.times`, random choices through
`Plan.rng`, and each wait through faults.pace, which gives a busy machine more time.
"""
