"""
The part of Rego that every engine evaluates alike, checked in a module's text.

- Calls go to the helpers of the bundle or to `BUILTINS`, nothing else: no clock, network,
  randomness or runtime, and none of the functions on which engines were seen to differ.
- ``not`` stands before a bare helper only: engines disagree on ``not f(input.absent)``, and
  what is undefined must deny.
- A default function gives false: with another value the engines were seen to differ where a
  rule of that function gives false.
- What would hide a call from this reader (``f["x"](...)``, interpolated strings, ``with``,
  aliases) is refused rather than understood.
"""

import re
from collections.abc import Iterator, Mapping

from policy.errors import BundleError

BUILTINS = frozenset({"concat", "count", "object.get", "split"})
"""Seen to give the same answers on OPA and the embedded engine; add one only with that proof."""

ROOT = "vocustody"

_WORDS = frozenset({"contains", "every", "if", "in", "some"})
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*')
_NAME = r"[A-Za-z_][A-Za-z0-9_]*(?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)*"
_CALL = re.compile(rf"({_NAME})\s*\(")
_INNER = re.compile(r"\{[^{}]*\}")
_HELPER = re.compile(r"^(?:default[ ]+)?([a-z_][a-z0-9_]*)\(", re.MULTILINE)
_PACKAGE = re.compile(r"^\s*package\b[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_OUR_PACKAGE = re.compile(rf"{ROOT}\.([a-z_]+)")
_IMPORT = re.compile(r"^\s*import\b[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_OUR_IMPORT = re.compile(rf"data\.{ROOT}\.([a-z_]+)")
_NOT = re.compile(r"\bnot\b\s*([^\n};]*)")
_BARE = re.compile(r"(?!(?:input|data)\b)[a-z_]+(?:\.[a-z_]+)?")
_DEFAULT = re.compile(r"^default\s+[a-z_]+\([^)]*\)\s*:=\s*+(?!false\s*$)", re.MULTILINE)
_HIDING = re.compile(r"\$|\]\s*\(|\bwith\b")


def check(modules: Mapping[str, str]) -> None:
    """
    Return if every module of *modules* (path to text) keeps to the subset.

    Raises:
        BundleError: listing every fault as ``path: fault``.

    """
    code = {path: _QUOTED.sub(_blank, text) for path, text in modules.items()}
    helpers = {path: _helpers(text) for path, text in code.items()}
    packages = {path: _package(text) for path, text in code.items()}
    faults = []
    for path, text in sorted(code.items()):
        near = {
            name for other in code if packages[other] == packages[path] for name in helpers[other]
        }
        far = {
            f"{packages[other]}.{name}"
            for other in code
            if packages[other] in _imports(text)
            for name in helpers[other]
        }
        faults += [f"{path}: {fault}" for fault in _faults(text, BUILTINS | near | far)]
    if faults:
        raise BundleError("; ".join(faults))


def _blank(match: re.Match[str]) -> str:
    return "" if match[0].startswith("#") else '""'


def _package(text: str) -> str:
    """Return the one package's last name, or nothing if it is not one of ours."""
    found = _PACKAGE.findall(text)
    ours = _OUR_PACKAGE.fullmatch(found[0]) if len(found) == 1 else None
    return ours[1] if ours else ""


def _imports(text: str) -> set[str]:
    return {ours[1] for name in _IMPORT.findall(text) if (ours := _OUR_IMPORT.fullmatch(name))}


def _helpers(text: str) -> set[str]:
    """Return the functions defined at top level: what stands in braces defines none."""
    count = 1
    while count:
        text, count = _INNER.subn("", text)
    return set(_HELPER.findall(text))


def _faults(text: str, callable_names: frozenset[str]) -> Iterator[str]:
    if not _package(text):
        yield f"its package is not one of {ROOT}"
    for name in _IMPORT.findall(text):
        if not _OUR_IMPORT.fullmatch(name):
            yield f"import of {name} (only data.{ROOT}.<package>)"
    for found in sorted(set(_CALL.findall(text))):
        name = re.sub(r"\s", "", found)
        if name not in callable_names and name not in _WORDS:
            yield f"call of {name} (not in the portable subset)"
    if _DEFAULT.search(text):
        yield "a default function that does not give false"
    for operand in _NOT.findall(text):
        if not _BARE.fullmatch(operand.strip()):
            yield "'not' before something else than a bare helper"
    for hidden in sorted(set(_HIDING.findall(text))):
        yield f"{hidden!r} (would hide a call from this check)"
