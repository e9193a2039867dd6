"""Before anybody writes, the rules are asked whether each step is possible, and by whom."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.settings import Configure

from gateway import cli, settings
from gateway.compose import steps
from gateway.compose.rules import Rules, rules
from gateway.compose.steps import Step
from gateway.compose.surroundings import now
from gateway.errors import MissingPartError
from policy.model import Stage

pytestmark = pytest.mark.anyio


async def asked(config: Path, *, production: bool = False) -> tuple[list[Step], str]:
    """Return the steps of the cell, and what keeps it from starting."""
    loaded = settings.load(config)
    async with AsyncExitStack() as stack:
        ruled: Rules = await rules(loaded, stack)
        found = [step async for step in steps.steps(loaded, ruled, now())]
        if production:
            cell = loaded.cell.model_copy(update={"mode": settings.Mode.PRODUCTION})
            loaded = loaded.model_copy(update={"cell": cell})
        try:
            await steps.demand(loaded, ruled, now())
        except MissingPartError as exc:
            return found, str(exc)
    return found, ""


async def test_every_step_names_who_does_it(configure: Configure) -> None:
    """For the controller's own people, and for those of a country without a law in the table."""
    found, fault = await asked(configure(), production=True)

    assert fault == ""
    assert {(step.tenant, step.jurisdiction) for step in found} == {
        ("clinic", "DE"),
        ("clinic", "ZZ"),
    }
    assert {step.stage for step in found} == set(Stage)
    assert all(step.processors and not step.reasons for step in found)


async def test_who_declines_people_abroad_is_asked_about_its_own(configure: Configure) -> None:
    """That nobody could serve whom nobody serves is no fault."""
    found, _ = await asked(configure(tenant='abroad = "decline"'))

    assert {step.jurisdiction for step in found} == {"DE"}


async def test_production_does_not_start_where_nobody_could_be_served(
    configure: Configure,
) -> None:
    """A cell in the wrong country was ready, and refused everybody one by one."""
    config = configure(jurisdiction='"SG"')

    assert (await asked(config))[1] == ""
    _, fault = await asked(config, production=True)

    assert "clinic (SG): capture by nobody (region.foreign)" in fault
    assert "clinic (ZZ): reply by nobody (region.foreign)" in fault


async def test_a_controller_without_a_law_in_the_table_is_told_before_anybody_writes(
    configure: Configure,
) -> None:
    """Nothing says where its people's data may go."""
    _, fault = await asked(configure(jurisdiction='"TR"'), production=True)

    assert "clinic (TR): transcribe by nobody (controller.law_missing)" in fault


async def test_a_tenant_that_refuses_its_only_processor_is_told(configure: Configure) -> None:
    """Speech may be missing: the cell answers in text. Understanding may not."""
    every, _ = await asked(configure())
    speaking = [name for step in every if step.stage is Stage.SPEAK for name in step.processors]
    hearing = [name for step in every if step.stage is Stage.TRANSCRIBE for name in step.processors]

    _, mute = await asked(configure(tenant=_refusing(speaking)), production=True)
    _, deaf = await asked(configure(tenant=_refusing(hearing)), production=True)

    assert mute == ""
    assert "transcribe by nobody (processor.none)" in deaf
    assert "capture by nobody" in deaf


def _refusing(names: list[str]) -> str:
    told = ", ".join(f'"{name}"' for name in sorted(set(names)))
    return f"[tenants.policy]\nrefused_processors = [{told}]"


def test_the_doctor_shows_each_law(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever sets a cell up sees who would do what, before a person finds out."""
    cli.main(["doctor", "--config", str(configure())])

    lines = capsys.readouterr().out.splitlines()
    [own] = [line for line in lines if "clinic serves DE: " in line]
    [others] = [line for line in lines if "clinic serves any other country: " in line]
    assert own.startswith("ok")
    assert "transcribe by " in own
    assert "speak by " in others
