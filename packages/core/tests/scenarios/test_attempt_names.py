"""Scenario 4: numbers that repeat after a crash, keys that mean two things, and an undo that does not know what to undo.

Every start has an id that begins with its journal, and journals are never the same: no id is used twice by
construction. Records name what they read by these ids; `t#2` is for people. An idempotent or once task has one set of
inputs for ever and so one key; each attempt of a rollback task has its own, and its intent holds what undo will be given.
"""

from exoflow.journal.layout import blob_key, journal_of, new_journal_id
from exoflow.journal.records import Intent, Outcome, UndoRecord

from .stage import Stage, book, draw, pay, pure, send


def test_a_record_that_read_a_lost_attempt_is_not_mistaken_for_one_that_read_its_successor() -> None:
    u = draw("u", "skip").bind()
    stage = Stage(draw("h").bind(draw("a").bind(u), draw("b").bind(u)))
    stage.returns("u", "a")
    stage.flush()
    stage.crash()
    stage.returns("u")

    first, second = stage.attempts("u")
    assert first.attempt != second.attempt
    assert stage.records(Outcome, "a")[0].reads == (first.attempt,)
    assert "a" in stage.running, "what it read was another value"
    stage.to_the_end()
    assert stage.explains("u") == [second.attempt]


def test_controllers_that_go_on_from_the_same_records_never_use_the_same_name() -> None:
    zombie = Stage(draw("h").bind(draw("u", "skip").bind()))
    zombie.returns("u")
    zombie.flush()
    heir = zombie.world.branch(zombie.world.log, zombie.world.outside)
    heir.crash()
    heir.resume()
    zombie.is_lost("h")
    zombie.is_retried()

    theirs = [s.attempt for s in heir.outside.starts.values() if s.life == heir.lives]
    ours = [s.attempt for s in zombie.attempts("h")]
    assert theirs
    assert not set(theirs) & set(ours)
    assert not {blob_key("w", a) for a in theirs} & {blob_key("w", a) for a in ours}, "nor the same blob"


def test_journals_opened_in_the_same_moment_have_different_names_and_attempts_begin_with_them() -> None:
    made = {new_journal_id(1_000_000.0) for _ in range(1000)}
    assert len(made) == 1000
    some = made.pop()
    assert journal_of(f"{some}.1.1") == some


# --- keys -------------------------------------------------------------------------------------------------------------


def test_the_key_of_an_idempotent_task_and_of_a_once_task_survives_every_crash() -> None:
    stage = Stage(draw("h").bind(pay("charge").bind(), send("mail").bind()))
    stage.flush()
    for _ in range(2):
        stage.crash(happened=["charge"])
        stage.flush()
        if stage.asking:
            stage.is_resolved("mail")
            stage.flush()
    stage.to_the_end()

    assert {start.key for start in stage.attempts("charge")} == {"w/1/charge"}
    assert {start.key for start in stage.attempts("mail")} == {"w/1/mail"}
    assert len(stage.attempts("charge")) == len(stage.attempts("mail")) == 3


def test_each_attempt_of_a_rollback_task_has_its_own_key() -> None:
    stage = Stage(book("reserve", retries=1).bind())
    stage.flush()
    stage.raises("reserve", happened=True)
    stage.is_undone("reserve")
    stage.is_retried()
    stage.flush()
    stage.crash(happened=["reserve"])
    stage.to_the_end()

    starts = stage.attempts("reserve")
    assert [start.key for start in starts] == [start.attempt for start in starts]
    assert len(starts) == 3


# --- what undo is given -----------------------------------------------------------------------------------------------


def test_an_undo_is_given_the_inputs_of_its_own_attempt_though_they_are_lost_and_made_anew() -> None:
    u = draw("u", "skip").bind()
    stage = Stage(book("reserve").bind(u))
    stage.returns("u")
    stage.flush()
    seat = stage.attempts("reserve")[0].inputs
    stage.crash(happened=["reserve"])

    assert "u" in stage.reruns()
    assert stage.undoing == ["reserve"]
    (intent,) = stage.records(Intent)
    assert intent.payload is not None
    assert stage.world.vault.thaw(intent.payload) == seat
    stage.is_undone("reserve")
    stage.returns("u")
    stage.flush()
    assert stage.attempts("reserve")[-1].inputs != seat
    stage.to_the_end()


def test_the_intent_is_durable_before_the_start() -> None:
    stage = Stage(draw("h").bind(book("reserve").bind(), send("mail").bind()))
    assert stage.running == set()
    stage.world.flush()
    assert stage.running == set()
    stage.flush()
    assert stage.running == {"reserve", "mail"}
    assert {i.task_id for i in stage.records(Intent)} == {"reserve", "mail"}


def test_a_crash_after_an_undo_and_before_its_record_repeats_it() -> None:
    stage = Stage(book("reserve").bind())
    stage.flush()
    stage.crash(happened=["reserve"])
    stage.is_undone("reserve")
    stage.crash()

    assert stage.undoing == ["reserve"]
    assert not stage.records(UndoRecord)
    stage.is_undone("reserve")
    stage.flush()
    stage.crash()
    first, second = (intent.attempt for intent in stage.records(Intent))
    assert [attempt for _, attempt in stage.world.undoing] == [second]
    stage.is_undone("reserve")
    assert stage.undoing == [], f"the undo of {first} is recorded: it is not repeated"
    stage.to_the_end()


def test_a_deterministic_task_that_runs_again_on_the_same_inputs_keeps_its_name() -> None:
    tidy = pure("tidy", "skip").bind()
    stage = Stage(draw("h").bind(draw("a").bind(tidy), draw("b").bind(tidy)))
    stage.returns("tidy", "a")
    stage.flush()
    stage.crash()
    stage.to_the_end()

    assert len(stage.attempts("tidy")) == 2, "its value was lost, and wanted"
    assert len(stage.attempts("a")) == 1, "and is the same value"
