"""The page and the tables: results in, Markdown or a terminal's table out."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from load.figures import Aim, Section, figure
from rich.table import Table

HEADING = """\
# Benchmarks

Written by `scripts/bench`; run it again on your machine. Every figure stands beside a yardstick
that was measured in the same run, so read the ratios first: the absolute figures belong to this
machine. A *floor* does less than we do and cannot be reached; it shows what the machine gives.
p50 is what half of the values did not exceed, p95 what 95 in 100 did not. An aim that was missed
is named below with what the same run shows of its cause. Nothing here is asserted by a test.
"""


def render(sections: Sequence[Section], machine: Mapping[str, str], at: datetime) -> str:
    """Return the whole page."""
    aims = [aim for section in sections for aim in section.aims]
    parts = [
        HEADING,
        "## Machine\n",
        _table(("What", "This run"), [("date", f"{at:%Y-%m-%d %H:%M} UTC"), *machine.items()]),
        "## What is compared\n",
        _compared(sections),
        "## Aims\n",
        f"{_count(aims)}\n",
        _table(("Aim", "Bound", "Measured", "Met"), [_aim(aim) for aim in aims]),
        "## What was missed, and why\n",
        _missed(aims, [text for section in sections for text in section.missing]),
        *(part for section in sections for part in _section(section)),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def shown(section: Section) -> Table:
    """Return *section* as a terminal's table."""
    table = Table(title=section.title, title_justify="left", caption_justify="left")
    table.caption = "\n".join(section.missing) or None
    for index, name in enumerate(section.head):
        table.add_column(name, justify="right" if index else "left")
    for row in section.rows:
        table.add_row(*row)
    return table


def _compared(sections: Sequence[Section]) -> str:
    return "".join(f"- **{one.title}**: {one.compared}\n" for one in sections)


def _count(aims: Sequence[Aim]) -> str:
    missed = sum(not aim.met for aim in aims)
    return f"{len(aims) - missed} met, {missed} missed." if aims else "None was measured."


def _section(section: Section) -> list[str]:
    return [f"## {section.title}\n", f"{section.said}\n", _table(section.head, section.rows)]


def _aim(aim: Aim) -> tuple[str, ...]:
    return aim.what, aim.bound, f"{figure(aim.measured)}{aim.unit}", "yes" if aim.met else "**no**"


def _missed(aims: Iterable[Aim], missing: Sequence[str]) -> str:
    lines = [
        f"- **{aim.what}**: {figure(aim.measured)}{aim.unit}, not {aim.bound}. {aim.why}".rstrip()
        for aim in aims
        if not aim.met
    ]
    lines += [f"- {text}" for text in missing]
    return "\n".join(lines or ["Nothing."]) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    return "\n".join(lines + [_line(row) for row in rows]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
