"""
Countries that people write from and the table of laws does not have: named once, as a finding.

They are served all the same, under the strictest ceilings. Who runs the cell learns of which
country to ask counsel; how many people wrote from there is not counted.
"""

from gateway import log
from gateway.note import Note
from gateway.ports import Ports
from policy.model import Allowed, Stage
from residency.drift import Finding, Kind, Severity

DECLARED = "each country that people write from has a law in the table"
MESSAGING = frozenset({Stage.CAPTURE, Stage.NOTICE, Stage.REPLY})


def find(note: Note, stage: Stage, decision: Allowed, ports: Ports) -> None:
    """Report each country of *note*'s author that no law of the bundle in force is of."""
    if stage not in MESSAGING:
        return  # before or after it comes one that is
    for code in ports.unlisted(note.jurisdiction.code.split("+")):
        row = ports.processors[decision.processors[0]]
        finding = Finding(
            processor=row.id,
            kind=Kind.LAW,
            declared=DECLARED,
            observed=code,
            basis="observed",
            at=ports.now(),
            severity=Severity.WARN,
        )
        if ports.findings.report_once(finding, row):
            log.get().warning("law.unlisted", jurisdiction=code)
