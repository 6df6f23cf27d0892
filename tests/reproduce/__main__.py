"""Try what is known: `make reproduce`, or `make reproduce ARGS="1 3 --seeds 1,2,3"`.

Trains what is missing, judges each claim, and writes docs/reproduce.md. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reproduce.claims import CLAIMS
from reproduce.page import write
from reproduce.sweeps import SWEEPS

_ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="reproduce", description=__doc__)
    parser.add_argument("claims", nargs="*", type=int, help="numbers from 1 to 8; all if none is given")
    parser.add_argument("--seeds", default="1,2,3,4,5", help="1,2,3,4,5 by default")
    parser.add_argument(
        "--folder", type=Path, default=_ROOT / "runs" / "reproduce", help="where runs are kept"
    )
    parser.add_argument("--out", type=Path, default=_ROOT / "docs" / "reproduce.md", help="the page")
    parser.add_argument("--jobs", type=int, help="trainings at once")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    given = parser.parse_args()
    numbers = given.claims or list(CLAIMS)
    if set(numbers) - set(CLAIMS):
        parser.error(f"claims are numbered {min(CLAIMS)} to {max(CLAIMS)}")
    seeds = [int(seed) for seed in given.seeds.split(",")]
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    done = {}
    needed = list(dict.fromkeys(name for number in numbers for name in CLAIMS[number].sweeps))
    for place, name in enumerate(needed, 1):
        print(f"{place}/{len(needed)}  {SWEEPS[name].command(seeds)}", file=sys.stderr, flush=True)
        done[name] = SWEEPS[name].run(folder, seeds, small=given.smoke, jobs=given.jobs)
    holds = write(given.out.resolve(), done, numbers, seeds)
    for number, held in holds.items():
        print(f"{'holds        ' if held else 'does not hold'}  {number}. {CLAIMS[number].title}")
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
