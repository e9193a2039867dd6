"""The long run, as a table: ``scripts/fuzz``. Exit status 1 where anything was found."""
# ruff: noqa: T201 - it prints a table

import asyncio
import sys
import time

from borders import namespace, worlds
from borders.agreement import fuzz

QUESTIONS, NOTES = 20_000, 300


def _line(what: str, count: object, found: object, seconds: float) -> None:
    print(f"{what:<44} {count!s:>8} {found!s:>10} {seconds:>8.1f} s", flush=True)


def main() -> int:
    """Run all; return the exit status."""
    print(f"seed {worlds.SEED} (VOCUSTODY_SEED replays it)\n")
    print(f"{'what':<44} {'cases':>8} {'found':>10} {'time':>10}")
    began = time.monotonic()
    tally = asyncio.run(fuzz(QUESTIONS))
    faults = [*tally.wrong]
    _line(
        "questions: oracle against rules", tally.cases, len(tally.wrong), time.monotonic() - began
    )
    if not namespace.entrance():
        print("NOT PROVEN: no network namespace is permitted here; no packet was counted")
        return 1
    control = namespace.inside("control")
    exact = control["idle"] == {} and control["sent"] == control["wanted"]
    _line(
        "counters: packets sent on purpose, all seen",
        56,
        "exact" if exact else "WRONG",
        control["seconds"],
    )
    notes = namespace.inside("cases", str(NOTES), str(worlds.SEED))
    faults += notes["faults"]
    _line(
        "notes: packets where none may go",
        notes["cases"],
        notes["tally"]["strays"],
        notes["seconds"],
    )
    leaks = namespace.inside("leaks")
    seen = [name for name, strays in leaks["strays"].items() if strays and name != "nothing"]
    _line("planted leaks: seen", len(leaks["strays"]) - 1, len(seen), leaks["seconds"])
    print(f"\nquestions {dict(tally.met)}\nnotes {notes['tally']}")
    for fault in faults:
        print(fault)
    whole = exact and len(seen) == len(leaks["strays"]) - 1 and not leaks["strays"]["nothing"]
    return 0 if whole and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
