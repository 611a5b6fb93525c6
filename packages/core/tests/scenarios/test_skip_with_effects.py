"""Scenario 13: a skipped checkpoint forgets that the effect happened.

With effects, completion is always recorded; `skip` leaves out the value alone. Should the value be wanted after a crash,
an idempotent task is run again under its key. A rollback or once task could not be: it refuses `skip` when it is
declared.
"""

import pytest

import exoflow
from exoflow.errors import UnknownOptionError
from exoflow.journal.records import Outcome

from .stage import Stage, draw, pay


def test_a_skipped_idempotent_task_is_not_run_again_when_nobody_asks_for_its_value() -> None:
    charged = pay("charge", "skip").bind()
    stage = Stage(draw("h").bind(draw("receipt").bind(charged)))
    stage.flush()
    stage.returns("charge")
    stage.flush()
    assert [(r.completed, r.payload) for r in stage.records(Outcome, "charge")] == [(True, None)], "at once"
    stage.returns("receipt")
    stage.flush()

    stage.crash()

    assert "charge" not in stage.reruns()
    stage.to_the_end()
    assert len(stage.attempts("charge")) == 1


def test_a_skipped_idempotent_task_is_run_again_under_its_key_when_its_value_is_wanted() -> None:
    charged = pay("charge", "skip").bind()
    stage = Stage(draw("h").bind(draw("receipt").bind(charged), charged))
    stage.flush()
    stage.returns("charge")
    stage.flush()

    stage.crash()

    assert "charge" in stage.reruns()
    stage.to_the_end()
    first, second = stage.attempts("charge")
    assert first.key == second.key
    assert first.inputs == second.inputs


def test_a_completion_is_recorded_for_an_effect_nobody_reads() -> None:
    quiet = pay("notify", "skip").bind()
    stage = Stage(draw("h").options(after=[quiet]).bind())
    stage.flush()
    stage.returns("notify")
    stage.flush()
    stage.crash()

    assert [r.completed for r in stage.records(Outcome, "notify")] == [True]
    stage.to_the_end()


@pytest.mark.parametrize("mode", ["skip", "auto"])
@pytest.mark.parametrize("kind", ["once", "rollback"])
def test_what_may_not_be_repeated_refuses_to_forget_its_outcome(kind: str, mode: str) -> None:
    options = {"effects": "once"} if kind == "once" else {"rollback": print}

    with pytest.raises(UnknownOptionError, match=f"checkpoint='{mode}' with effects='{kind}'"):
        exoflow.task(checkpoint=mode, **options)
    with pytest.raises(UnknownOptionError, match="use 'sync' or 'async'"):
        exoflow.task(**options)(print).options(checkpoint=mode)
