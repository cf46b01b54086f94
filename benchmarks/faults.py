"""Fail or kill every write, flush and rename of the commands that write, and say how many points there were.

    python -m benchmarks.faults --output benchmarks/results/faults.json
    python -m benchmarks.faults --every 5 --scenario predict render --output benchmarks/results/faults.json

Needs Linux and a C compiler. The scenarios are in tests/faults/scenarios.py, and what counts as wrong is in
tests/faults/inject.py. Each scenario adds to the file when it is through; with --every N, only every N-th call fails.
Ends with status 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from tests.faults.inject import KINDS, compiled, inject

from benchmarks.measuring import machine

SCENARIOS = ("export", "export-openvino", "predict", "predict-new", "render", "report", "train")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the counts as JSON, beside those that are there already")
    arguments = parser.parse_args()
    wrong = 0
    for name in arguments.scenario:
        with tempfile.TemporaryDirectory(prefix="crosspol-faults-") as folder:
            found = inject(compiled(Path(folder)), Path(folder), {name: dict.fromkeys(KINDS, arguments.every)})[name]
        row = {**dataclasses.asdict(found), "every": arguments.every, "machine": machine()}
        print(
            f"{name}: {found.calls} calls, faults met {sum(found.points.values())}, wrong {len(found.wrong)}",
            flush=True,
        )
        print("\n".join(found.wrong), file=sys.stderr, flush=True)
        wrong += len(found.wrong)
        if arguments.output is not None:
            known = json.loads(arguments.output.read_text()) if arguments.output.exists() else {"scenarios": {}}
            known["scenarios"][name] = row
            arguments.output.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
