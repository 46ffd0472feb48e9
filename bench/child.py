"""`python -m bench.child module:function {"argument": value}`: what measure.call runs."""

from __future__ import annotations

import importlib
import json
import sys


def main(name: str, arguments: str) -> None:
    """Call the function and print its result as JSON. Nothing is imported that it does not need."""
    module, _, function = name.partition(":")
    returned = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    print(json.dumps(returned))


if __name__ == "__main__":
    main(*sys.argv[1:])
