"""Simulation is itself tested: a library with one planted flaw is found out, and the message says how to see it again."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.starting import Starting
from exoflow.journal import claims, creation, writer
from exoflow.tasks.policy import Effects
from exoflow.testing.simulation import SimulationError, play

ENOUGH = 600


def a_writer_does_not_look_whether_it_was_taken_over(planted: pytest.MonkeyPatch) -> None:
    planted.setattr(writer.JournalWriter, "_look", lambda self: None)


def a_claim_that_somebody_else_has_is_taken_for_ours(planted: pytest.MonkeyPatch) -> None:
    planted.setattr(claims, "create_exactly", _always_won)


def an_attempt_starts_before_its_intent_is_durable(planted: pytest.MonkeyPatch) -> None:
    intend = Starting._intend

    def intend_and_start(self: Starting, node: NodeState) -> None:
        intend(self, node)
        self._intended(node)

    planted.setattr(Starting, "_intend", intend_and_start)


def an_idempotent_effect_does_not_wait_for_what_it_reads(planted: pytest.MonkeyPatch) -> None:
    await_settled = Starting._await_settled

    def start(self: Starting, node: NodeState) -> None:
        if node.effects is Effects.IDEMPOTENT and node is not self._answer_node and self.ended is None:
            if node.phase in (Phase.WAITING, Phase.PARKED):
                self._start(node)
        else:
            await_settled(self, node)

    planted.setattr(Starting, "_await_settled", start)


def _always_won(*args: Any, **kwargs: Any) -> creation.Creation:
    creation.create_exactly(*args, **kwargs)
    return creation.Won()


PLANTED = [
    a_writer_does_not_look_whether_it_was_taken_over,
    a_claim_that_somebody_else_has_is_taken_for_ours,
    an_attempt_starts_before_its_intent_is_durable,
    an_idempotent_effect_does_not_wait_for_what_it_reads,
]


def play_all() -> None:
    for seed in range(ENOUGH):
        play(seed)


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_flaw_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    with pytest.raises(SimulationError) as found:
        play_all()

    message = str(found.value)
    named = re.match(r"play\((\d+)\) shows it: ", message)
    assert named is not None, message
    with pytest.raises(SimulationError) as again:
        play(int(named[1]))
    assert str(again.value) == message
