"""
``scripts/bench [NAME ...]``: measure, print tables, and write docs/benchmarks.md.

With names (webhooks, notes, appends, seals, policy, broker, vendors, fairness, keys, erasures)
only those are measured and nothing is written. In CI (``CI=true``) the exit status is 1 if
something could not be measured.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from load import machine, page, plan
from load.figures import Section
from load.plan import FULL, Measurement
from rich.console import Console

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
WIDTH = 160


def main() -> int:
    """Run what the command line asks for."""
    known = plan.measurements(FULL, _now)
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--to", type=Path, default=PAGE, help="where to write the page")
    given = parser.parse_args()
    if unknown := set(given.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    wanted = {name: known[name] for name in given.names or known}
    with tempfile.TemporaryDirectory(prefix="vocustody-bench-") as directory:
        described = machine.describe(Path(directory))
        sections = asyncio.run(_measured(wanted, Path(directory)))
    if not given.names:
        given.to.write_text(page.render(sections, described, _now()), encoding="utf-8")
    return status(sections, os.environ)


def status(sections: Sequence[Section], environment: Mapping[str, str]) -> int:
    """Return the exit status: in CI, something that was not measured is a failure."""
    missing = any(section.missing for section in sections)
    return 1 if missing and environment.get("CI") == "true" else 0


async def _measured(wanted: Mapping[str, Measurement], directory: Path) -> list[Section]:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    found = []
    async for section in plan.run(wanted, directory):
        console.print(page.shown(section))
        found.append(section)
    return found


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
