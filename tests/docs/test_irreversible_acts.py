"""
Whatever destroys is given an `AgreedTime`, or is decided by no clock; the page lists them all.

A function that deletes, destroys or trims is found by reading the source: one that is new fails
here until it takes an agreed time, or somebody says below why it needs none.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "time.md"
APART = ("gateway/demo/", "gateway/migrations/", "gateway/whatsapp/")
DESTROYS = {
    "delete", "destroy", "destroy_all", "destroy_day", "destroy_epoch", "destroy_subject",
    "discard_stale", "forget", "let_go", "prune", "trim", "unlink", "_shred",
}  # fmt: skip
PERSON = "a person asked for it, or two people decided it"
ROW = "a row says that nothing needs it any more; no clock does"
OWN = "takes back what this very call, or one that a crash cut short, had begun"
PASSES = "does what a caller with an agreed time, or by a person's wish, wants done"
SHORT = "a question and its answer, of minutes: whoever asked asks again"
EXEMPT = {
    "gateway/accounts.py:Accounts._forget": "a fault of the operator's account is over",
    "gateway/accounts.py:Accounts._keep": "the same",
    "gateway/compose/stores.py:writable": "deletes no row: it tries whether one could be",
    "gateway/crossing.py:Departures.publish": ROW,
    "gateway/erasing.py:_destroyed": PERSON,
    "gateway/erasures.py:Erasures._destroyed": PERSON,
    "gateway/erasures.py:Erasures._keys": PERSON,
    "gateway/erasures.py:Erasures._rows": PERSON,
    "gateway/erasures.py:Erasures._stopped": PERSON,
    "gateway/hearing.py:_forgotten_at_whatsapp": ROW,
    "gateway/hearing.py:keep": PERSON,
    "gateway/memory.py:forget": PERSON,
    "gateway/memory.py:forget_subjects": PERSON,
    "gateway/natsd.py:NatsServer._write_config": OWN,
    "gateway/ordered.py:drop": SHORT,
    "gateway/ordered.py:serve": SHORT,
    "gateway/pauses.py:end": PERSON,
    "gateway/persons.py:tell": "what waited for the log, which has it now",
    "gateway/requested.py:drop": SHORT,
    "gateway/requested.py:serve": SHORT,
    "gateway/rights.py:forget": PERSON,
    "gateway/rights.py:take_back": PERSON,
    "gateway/timekeeping.py:note": "what was agreed before and cannot be right any more",
    "gateway/tombstones.py:Journal.append": OWN,
    "gateway/turns.py:act": PERSON,
    "vault/custody.py:Custody._deleted": PASSES,
    "vault/custody.py:Custody._destroy": PASSES,
    "vault/custody.py:Custody._store": OWN,
    "vault/custody.py:Custody.put": OWN,
    "vault/held.py:let_go": PASSES,
    "vault/holds.py:_end": PASSES,
    "vault/keyrings/local.py:_Directory._make": OWN,
    "vault/keyrings/local.py:_Directory._unlink": PASSES,
    "vault/keys.py:Keys.destroy_subject": PERSON,
    "vault/keysheet.py:forget": PASSES,
    "vault/keysheet.py:write": OWN,
    "vault/objects/local.py:LocalObjects._delete": PASSES,
    "vault/objects/local.py:LocalObjects._finish": OWN,
    "vault/objects/local.py:LocalObjects.put": OWN,
    "vault/objects/s3.py:S3Objects._try_purge": OWN,
    "vault/objects/unfinished.py:_remove_if_left": OWN,
    "vault/retention.py:_together": PASSES,
    "vault/retention.py:_try": PASSES,
    "vault/retention.py:reconcile": ROW,
    "vault/roll.py:heal": "ends again what a restore brought back, and what a roll had ended",
}
"""Functions that destroy and are given no agreed time, each with the reason; kept sorted."""


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield each function of *tree* that stands in no other one, with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def destroys(function: ast.AST) -> bool:
    """Whether *function* calls something that destroys."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in DESTROYS:
                return True
    return False


def agreed(function: ast.AST) -> bool:
    """Whether *function* is given an agreed time, or asks for one."""
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and ast.unparse(node.annotation or node) == "AgreedTime":
            return True
        if isinstance(node, ast.Attribute) and node.attr == "agreed":
            return True
    return False


def acts() -> dict[str, ast.AST]:
    """Return every function of the product that destroys, by file and name."""
    found = {}
    for folder in ("gateway", "vault"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            if not where.startswith(APART):
                for name, function in functions(ast.parse(path.read_text())):
                    if destroys(function):
                        found[f"{where}:{name}"] = function
    return found


def test_whatever_destroys_is_given_an_agreed_time() -> None:
    """A plain clock reading once destroyed a month's keys; none reaches such an act any more."""
    found = acts()
    bare = {name for name, function in found.items() if not agreed(function)}

    assert sorted(bare - EXEMPT.keys()) == []
    assert sorted(EXEMPT.keys() - bare) == [], "exempt without need"
    assert len(found) - len(bare) >= 15, "the reading of the source finds them no more"


def test_the_page_lists_them() -> None:
    """An operator reads there what waits while clocks differ."""
    page = PAGE.read_text()
    waiting = [name.rpartition(":") for name, function in acts().items() if agreed(function)]

    missing = [f"`{name}`" for _, _, name in waiting if f"`{name}`" not in page]

    assert missing == []
