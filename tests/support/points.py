"""The crash points by what reaches them: answering a person, or erasing one."""

from gateway import crashpoint
from gateway.erasure import STEPS

ERASING = tuple(f"erasure.{step}" for step in STEPS)
ANSWERING = tuple(sorted(crashpoint.POINTS - set(ERASING)))
