"""The rules as OPA itself sees them: its tests, its checks, and whether each line is needed."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import regorus

from policy.bundle import SHIPPED, load

COVERAGE_FLOOR = 95.0
NO_SCHEMAS = ("--ignore", "*.json")  # they are no data, and would collide as such


def opa(binary: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run OPA on the shipped rules."""
    return subprocess.run(
        [binary, *arguments], cwd=SHIPPED, capture_output=True, text=True, timeout=60, check=False
    )


def test_rules_pass_their_tests(opa_binary: str) -> None:
    """Each rule's tests stand beside it and run on the real OPA."""
    ran = opa(opa_binary, "test", ".", *NO_SCHEMAS, "--format", "json")

    results = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert {result["package"].rpartition(".")[2] for result in results} == {
        f"{package.parent.name}_test" for package in SHIPPED.glob("*/*_test.rego")
    }


def test_rules_are_covered(opa_binary: str) -> None:
    """A rule that no test reaches is a rule that nobody knows."""
    ran = opa(opa_binary, "test", ".", *NO_SCHEMAS, "--coverage", "--format", "json")

    assert json.loads(ran.stdout)["coverage"] >= COVERAGE_FLOOR


def test_rules_are_strict_and_typed(opa_binary: str) -> None:
    """A misspelt input field is undefined at run time and an error here."""
    ran = opa(opa_binary, "check", "--strict", "--schema", "schemas", *sorted(load()))

    assert ran.returncode == 0, ran.stderr


def test_schema_catches_a_misspelt_field(opa_binary: str, tmp_path: Path) -> None:
    """The check above is worth something only if it can fail."""
    wrong = tmp_path / "wrong.rego"
    schemas = "# METADATA\n# schemas:\n#   - input: schema.question\n"
    wrong.write_text(f"{schemas}package vocustody.wrong\n\nx if input.consnt.state == 1\n")

    ran = opa(opa_binary, "check", "--strict", "--schema", "schemas", str(wrong))

    assert ran.returncode != 0
    assert "consnt" in ran.stderr


def test_rules_are_formatted(opa_binary: str) -> None:
    """One form for all, so that a diff shows what changed."""
    ran = opa(opa_binary, "fmt", "--list", ".")

    assert (ran.returncode, ran.stdout) == (0, "")


def test_every_rule_says_why() -> None:
    """The catalogue of rules is made of their annotations: title, code and article."""
    for path, text in load().items():
        annotated = text.split("# METADATA\n")[1:]

        assert annotated, path
        for block in annotated:
            head = block.partition("\npackage" if "scope: package" in block else "\n\n")[0]
            for word in ("# title: ", "# custom:\n", "#   code: ", "#   article: "):
                assert word in head, f"{path}: {head}"


def mutants(text: str) -> Iterator[tuple[int, str]]:
    """Yield *text* with one line less: a condition, a one-line rule, or a rule's whole body."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        code = line.strip()
        if not code or code.startswith(("#", "package", "import", "}", "]", ")", '"')):
            continue
        if not line.startswith("\t") and code.endswith(("{", "[", "(", "|")):
            end = next(n for n in range(number, len(lines)) if lines[n][:1] in {"}", "]", ")"})
            yield number + 1, "\n".join(lines[:number] + lines[end + 1 :])
        elif not code.endswith(("{", "[", "(", "|", ",")):
            yield number + 1, "\n".join(lines[:number] + lines[number + 1 :])


def failing(modules: Mapping[str, str]) -> bool:
    """Whether a test of *modules* is not true on the embedded engine, or they do not load."""
    engine = regorus.Engine()
    try:
        for path, text in modules.items():
            engine.add_policy(path, text)
        engine.set_input_json("{}")
        return any(
            engine.eval_rule_as_json(f"data.vocustody.{package}_test.{name}") != "true"
            for package, name in declared(modules)
        )
    except RuntimeError:
        return True


def declared(modules: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield package and name of each test."""
    for path, text in modules.items():
        for name in re.findall(r"^(test_[a-z_]+) if", text, re.MULTILINE):
            yield path.partition("/")[0], name


def sources() -> dict[str, str]:
    """Return rules and tests by path."""
    return {p.relative_to(SHIPPED).as_posix(): p.read_text() for p in SHIPPED.rglob("*.rego")}


def test_rules_pass_their_tests_embedded(opa_binary: str) -> None:
    """The same tests hold on the engine that a cell without OPA uses."""
    ran = json.loads(opa(opa_binary, "test", ".", *NO_SCHEMAS, "--format", "json").stdout)

    assert len(list(declared(sources()))) == len(ran)
    assert not failing(sources())


@pytest.mark.parametrize("path", sorted(load()))
def test_every_line_is_needed(path: str) -> None:
    """A rule or condition that can be deleted without a red test protects nobody."""
    world = sources()

    survivors = [
        number for number, mutant in mutants(world[path]) if not failing(world | {path: mutant})
    ]

    assert survivors == []
