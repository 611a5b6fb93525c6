"""Bugs in what becomes of attempts that did not finish, and in how workflows end."""

from .harnesses import play, play_in_trouble
from .planting import Edit, Mutation

__all__ = ["BUGS"]

_ENDING = "exoflow.engine.ending:Ending"
_FAILING = "exoflow.engine.failing:Failing"

BUGS = [
    Mutation(
        name="a failed workflow is not undone",
        breaks="rollback: undone if the workflow is rolled back",
        edits=(Edit(f"{_ENDING}._roll_back_if_idle", "if self.to_undo:", "if False:"),),
        play=play,
        shows="something is left to do|was not rolled back",
        within=250,
    ),
    Mutation(
        name="undoing goes in causal order",
        breaks="undo goes in reverse causal order",
        edits=(
            Edit(
                f"{_ENDING}._undo_next",
                "next(reversed(self.to_undo.items()))",
                "next(iter(self.to_undo.items()))",
            ),
            Edit(
                f"{_ENDING}._rolled_one_back",
                "attempt, (node, _) = self.to_undo.popitem()",
                "attempt = self._undoing\n    node, _ = self.to_undo.pop(attempt)",
            ),
        ),
        play=play,
        shows="is undone before",
        within=1200,
    ),
    Mutation(
        name="undoing starts before the end is durable",
        breaks="ends: undoing starts when the end is durable",
        edits=(Edit(f"{_ENDING}._roll_back_if_idle", "not self.idle", "self._running"),),
        play=play,
        shows="is undone before the end is durable",
        within=500,
    ),
    Mutation(
        name="undoing starts while other attempts run",
        breaks="ends: undoing starts when all attempts have ended",
        edits=(Edit(f"{_ENDING}._roll_back_if_idle", "not self.idle", "self._acks"),),
        play=play,
        shows="is rolled back while .* runs",
        within=1500,
    ),
    Mutation(
        name="undoing does not wait for attempts that were given up",
        breaks="ended: an attempt past its timeout may still act",
        edits=(Edit(f"{_ENDING}._roll_back_if_idle", "if not self._abandoned:", "if True:"),),
        play=play_in_trouble,
        shows="is rolled back while .* runs",
        within=2000,
    ),
    Mutation(
        name="an undo is recorded before it is done",
        breaks="rollback: an undo is recorded when it is done",
        edits=(
            Edit(
                f"{_ENDING}._undo_next",
                "self._running += 1",
                "self._running += 1\n    self._log(UndoRecord(self.workflow_id, node.task_id, attempt), None, None)",
            ),
        ),
        play=play_in_trouble,
        shows="was not (undone|rolled back)",
        within=3500,
    ),
    Mutation(
        name="that something was undone is not recorded",
        breaks="ends: asking again gives the same, and does nothing",
        edits=(
            Edit(
                f"{_ENDING}._rolled_one_back",
                "self._log(UndoRecord(self.workflow_id, node.task_id, attempt), None, None)",
                "pass",
            ),
        ),
        play=play,
        shows="asked again",
        within=250,
    ),
    Mutation(
        name="an attempt past its timeout is undone, or asked about, while it runs",
        breaks="ended: undo, resolve and a second attempt wait for that",
        edits=(
            Edit(f"{_FAILING}._on_failed", "if not event.ended and not node.spec.task.policy.fences:", "if False:"),
        ),
        play=play,
        shows="is (undone|resolved) while it runs",
        within=700,
    ),
    Mutation(
        name="a failed rollback attempt is not undone before the next one",
        breaks="failures: a failed rollback attempt is undone before its retry",
        edits=(Edit(f"{_FAILING}._on_failed", "(lost or node.effects is Effects.ROLLBACK)", "lost"),),
        play=play,
        shows="was not undone before .* starts",
        within=1200,
    ),
    Mutation(
        name="a once task that was lost runs again without anybody being asked",
        breaks="once: not re-run before resolve has said that it did not happen",
        edits=(
            Edit(
                f"{_FAILING}._on_failed",
                "if node.effects in INTENDED and (lost or node.effects is Effects.ROLLBACK):",
                "if node.effects is Effects.ROLLBACK:",
            ),
        ),
        play=play,
        shows="happened, and .* starts|nobody said that .* did not happen",
        within=700,
    ),
    Mutation(
        name="a once task is retried after its exception",
        breaks="failures: once is not retried, its exception is its outcome",
        edits=(
            Edit(
                f"{_FAILING}._retry_or_fail",
                "isinstance(error, TaskTimeoutError) and node.failures <= policy.retries",
                "node.failures <= policy.retries",
            ),
        ),
        play=play,
        shows="happened, and .* starts|nobody said that .* did not happen",
        within=1100,
    ),
    Mutation(
        name="a once task is tried again under a key that its receiver refuses",
        breaks="ended: where resolve fences, the next attempt has another key",
        edits=(Edit("exoflow.engine.machine:Machine.key_of", 'return f"{key}/{node.attempt}"', "return key"),),
        play=play,
        shows="refused",
        within=1000,
    ),
    Mutation(
        name="a caught failure counts as deterministic",
        breaks="failures are nondeterministic outcomes",
        edits=(
            Edit(f"{_FAILING}._retry_or_fail", "node.deterministic = False", "pass"),
            Edit(
                "exoflow.engine.node_state:NodeState.__init__",
                "policy.deterministic and not policy.catch_exceptions",
                "policy.deterministic",
            ),
        ),
        play=play,
        shows="starts on .*, which a crash could take away",
        within=400,
    ),
    Mutation(
        name="something starts although the workflow has ended",
        breaks="ends: the first end is the end",
        edits=(Edit("exoflow.engine.starting:Starting._ready", "if self.ended is not None:", "if False:"),),
        play=play,
        shows="starts after the end",
        within=600,
    ),
    Mutation(
        name="the answer is given before the end is durable",
        breaks="the workflow's result is settled and committed before the caller has it",
        edits=(Edit(f"{_ENDING}._succeed", "self._succeeded, node)", "None, None)\n    self._succeeded(node)"),),
        play=play,
        shows="is told, and not durable",
        within=10,
    ),
    Mutation(
        name="a message is deleted before the record that took it is durable",
        breaks="the owner records which wait took a message, then deletes it",
        edits=(
            Edit(
                "exoflow.engine.finishing:Finishing._on_received",
                "node.message_key = event.key",
                "node.message_key = event.key\n    self._out.append(ev.Discard(event.key))",
            ),
        ),
        play=play,
        shows="is deleted, and no durable record took it",
        within=60,
    ),
    Mutation(
        name="the wish to cancel is deleted before the end is durable",
        breaks="ends: who has cancelled is heard, whatever crashes",
        edits=(
            Edit(
                f"{_ENDING}._on_cancelled",
                'self._end("cancelled", "", None, None)',
                'self._end("cancelled", "", None, None)\n        self._discard_cancel()',
            ),
        ),
        play=play,
        shows="the wish to cancel is deleted before the end is durable",
        within=100,
    ),
]
