"""The fault campaign: what eventlog promises, tried by breaking things on purpose.

    make faults                     all of it, at most 15 minutes; prints its seed
    python -m faults --list         what there is
    python -m faults --only NAME --seed N

Each fault is a function that breaks something real (kills processes, fails system calls,
flips bits), lets eventlog recover, and asks an oracle outside of the product. It returns
its figure; docs/reliability.md is written from those by `make faults`.
"""
