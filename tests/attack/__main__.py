"""Attack an app and print what it took. The exit status is 1 if it gave in.

python -m tests.attack [--kind bodies|timing|paths|cross_site|all]
"""

from __future__ import annotations

import argparse
import importlib
import sys

KINDS = ("bodies", "timing", "paths", "cross_site")
"""Modules of this package, each with a ``run()``."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all")
    given = parser.parse_args()
    failures = []
    for kind in KINDS if given.kind == "all" else (given.kind,):
        print(f"{kind}:", flush=True)
        failures += [f"{kind}: {failure}" for failure in importlib.import_module(f"{__package__}.{kind}").run()]
    print("\n".join(["failures:", *failures]) if failures else "no failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
