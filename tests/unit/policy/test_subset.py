"""Rego that one engine would read differently, or that looks outside, is refused."""

import pytest

from policy import bundle, subset
from policy.errors import BundleError

HEAD = "package vocustody.route\n\n"


def test_the_shipped_rules_keep_to_it() -> None:
    """The list of builtins is short because the rules need no more."""
    subset.check(bundle.load())


@pytest.mark.parametrize(
    "code",
    [
        'x := http.send({"url": "u"})',
        'x := http . send ({"url": "u"})',
        'x := http["send"]({"url": "u"})',
        "x := time.now_ns()",
        'x := net.lookup_ip_addr("a")',
        "x := opa.runtime()",
        'x := rand.intn("a", 9)',
        'x := uuid.rfc4122("a")',
        'x := io.jwt.decode("a")',
        'x := crypto.sha256("a")',
        "x := sort([2, 1])",
        "x := min([2, 1])",
        'x := sprintf("%q", [1])',
        "x if {\nsort([2, 1]) == [1, 2]\n}",
        'x := $"{time.now_ns()}"',
        "x := $`{time.now_ns()}`",
        "x if y with data.z as 1",
        "x if not f(input.y)\n\nf(y) if y",
        "x if not input.y",
        "x if not data.y",
        "x if not y == 1",
        'x if not "a" in y',
        "x if {\n\tnot\n\tinput.y\n}",
        "x := [1 | not input.y; z]",
        "import data.other\n\nx := 1",
        "import data.vocustody.consent as c\n\nx := 1",
        "import input.consent\n\nx := 1",
        "default f(_) := true\n\nf(y) := false if y",
        "import rego.v1\n\nx := 1",
    ],
)
def test_what_is_outside_is_refused(code: str) -> None:
    """A clock, a socket, or a function that sorts numbers as text: each has cost somebody a law."""
    with pytest.raises(BundleError, match=r"route\.rego"):
        subset.check({"route.rego": HEAD + code})


@pytest.mark.parametrize("head", ["package other", "package vocustody", "", "package system.authz"])
def test_a_foreign_package_is_refused(head: str) -> None:
    """A module under another root could take over the server's own policy."""
    with pytest.raises(BundleError, match="package"):
        subset.check({"route.rego": f"{head}\n\nx := 1"})


@pytest.mark.parametrize(
    "code",
    [
        "x := count([1])",
        'x := object.get(input, "a", 1)',
        "# http.send(1) with $ and ](\nx := 1",
        'x := "http.send(1) with ]( \\" not a.b"',
        "x := `http.send(1)`",
        "x if y(1)\n\ny(z) if z",
        "x if {\n\tnot y\n}\n\ny if input.z",
        "x contains y if (input.y + 1) == 2",
        "x if some y in (input.a | input.b)",
    ],
)
def test_what_is_inside_passes(code: str) -> None:
    """A check that refuses good rules would soon be switched off."""
    subset.check({"route.rego": HEAD + code})


def test_a_helper_of_another_package_must_be_imported() -> None:
    """A helper called ``sort`` elsewhere must not make the builtin of that name callable here."""
    other = "package vocustody.other\n\nsort(x) := x"

    with pytest.raises(BundleError, match="call of sort"):
        subset.check({"a.rego": f"{HEAD}x := sort([1])", "b.rego": other})
    with pytest.raises(BundleError, match=r"call of other\.sort"):
        subset.check({"a.rego": f"{HEAD}x := other.sort([1])", "b.rego": other})

    imported = f"{HEAD}import data.vocustody.other\n\nx := other.sort([1])"
    subset.check({"a.rego": imported, "b.rego": other})


def test_all_faults_are_listed() -> None:
    """Whoever writes rules fixes them in one go."""
    with pytest.raises(BundleError) as caught:
        subset.check({"a.rego": HEAD + "x := sort(y)", "b.rego": "x if not input.y"})

    assert str(caught.value).count(".rego: ") == 3
