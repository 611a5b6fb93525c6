"""Bugs in what starts when, what is kept for it, and under which key it acts."""

from .harnesses import decide, play
from .planting import Edit, Mutation

__all__ = ["BUGS"]

_STARTING = "exoflow.engine.starting:Starting"
_KEEPING = "exoflow.engine.keeping:Keeping"
_SETTLED = "exoflow.engine.settled"
_KEY_OF = "exoflow.engine.machine:Machine.key_of"

BUGS = [
    Mutation(
        name="an effect starts before what it reads is settled",
        breaks="output commit",
        edits=(Edit(f"{_STARTING}._await_settled", "if blocker is not None:", "if False:"),),
        play=play,
        shows="starts on .*, which a crash could take away",
        within=20,
    ),
    Mutation(
        name="an effect does not wait for the records that its past rests on",
        breaks="output commit: settled is worth what is durable of it",
        edits=(
            Edit(
                f"{_STARTING}._await_settled",
                "if node.effects is Effects.IDEMPOTENT and self._acked < needed:",
                "if False:",
            ),
        ),
        play=play,
        shows="starts on .*, which a crash could take away",
        within=50,
    ),
    Mutation(
        name="the log position of what was closed is forgotten",
        breaks="output commit: the records that closed a value must be durable too",
        edits=(Edit(f"{_SETTLED}:Walk.go_on", "and (node.committed or not node.deterministic)", "and node.committed"),),
        play=play,
        shows="starts on .*, which a crash could take away",
        within=1500,
    ),
    Mutation(
        name="one look behind a committed value is believed to be the whole past",
        breaks="output commit: committed is not settled",
        edits=(Edit(f"{_SETTLED}:needed_for", "if not before.settled:", "if False:"),),
        play=play,
        shows="(starts on|waits after) .*, which a crash could take away",
        within=400,
    ),
    Mutation(
        name="the search for what is open does not go on to what was read",
        breaks="output commit: the whole past counts",
        edits=(Edit(f"{_SETTLED}:Walk.go_on", "stack.extend([(read, node) for read in node.reads])", "pass"),),
        play=play,
        shows="(starts on|waits after) .*, which a crash could take away",
        within=250,
    ),
    Mutation(
        name="the search for what is open does not go on to those who read an uncommitted value",
        breaks="output commit: readers of a value become orphans together",
        edits=(Edit(f"{_SETTLED}:Walk.go_on", "if crosses:", "if False:"),),
        play=decide,
        shows="starts that a crash makes wrong",
        within=8000,
    ),
    Mutation(
        name="a value is closed while somebody may still ask for it",
        breaks="output commit: open until nobody can ask again",
        edits=(Edit(f"{_KEEPING}._close", "if at.open_readers or at.is_result:", "if at.is_result:"),),
        play=play,
        shows="is closed: True|which a crash could take away",
        within=100,
    ),
    Mutation(
        name="a message is taken and a deadline set before what they follow is settled",
        breaks="output commit: a message is taken for good",
        edits=(Edit(f"{_STARTING}._ready", 'not (node.spec.deps or kind == "event")', "True"),),
        play=play,
        shows="waits after .*, which a crash could take away",
        within=200,
    ),
    Mutation(
        name="an attempt starts before its intent is durable",
        breaks="rollback and once: an intent is recorded first",
        edits=(
            Edit(
                f"{_STARTING}._intend",
                "self._log(node.intent, self._intended, node)",
                "self._log(node.intent, None, None)\n    self._intended(node)",
            ),
        ),
        play=play,
        shows="starts before its intent is durable",
        within=20,
    ),
    Mutation(
        name="a sync value reaches its readers before its record is durable",
        breaks="sync: dependents start after the commit",
        edits=(
            Edit(
                f"{_STARTING}._deliver",
                "for reader in node.readers:",
                "if intending is False:\n        return\n    intending = None\n    for reader in node.readers:",
            ),
        ),
        play=play,
        shows="starts before the sync .* is durable",
        within=20,
    ),
    Mutation(
        name="wait_until_committed is not waited for",
        breaks="wait_until_committed",
        edits=(
            Edit(
                "exoflow.engine.growth:Growth._add",
                "self.commit_readers.setdefault(made[at], []).append(node)\n                node.waiting += 1",
                "pass",
            ),
        ),
        play=play,
        shows="starts before .* is committed",
        within=200,
    ),
    Mutation(
        name="a value is let go of while a reader has not had it",
        breaks="a task is given what it was bound to",
        edits=(
            Edit(
                "exoflow.engine.finishing:Finishing._finish", "read.pending_readers == 0", "read.pending_readers <= 1"
            ),
            Edit(f"{_KEEPING}._release", "node.pending_readers == 0", "node.pending_readers <= 1"),
        ),
        play=play,
        shows="is given the value of .*, which was released",
        within=20,
    ),
    Mutation(
        name="a record names incarnations that no record tells of",
        breaks="one incarnation: what a record read must be known",
        edits=(Edit(f"{_KEEPING}._trace", "if not all(read.traced for read in node.reads):", "if False:"),),
        play=play,
        shows="which a crash could take away",
        within=100,
    ),
    Mutation(
        name="a trace is logged without those of what it read",
        breaks="one incarnation: the past is known back to its beginning",
        edits=(Edit(f"{_KEEPING}._tell_of", "if before:", "if False:"),),
        play=play,
        shows="which a crash could take away",
        within=600,
    ),
    Mutation(
        name="an effect of a continuation starts before any record tells who made it",
        breaks="keys: a child is named after the incarnation that made it",
        edits=(
            Edit(
                f"{_STARTING}._await_settled",
                "if node.parent is not None and node.effects is Effects.IDEMPOTENT:",
                "if False:",
            ),
        ),
        play=play,
        shows="and nothing says who made it",
        within=400,
    ),
    Mutation(
        name="two tasks share a key",
        breaks="keys: workflow, generation, task",
        edits=(Edit(_KEY_OF, "/{node.task_id}", ""),),
        play=play,
        shows="is used with two sets of inputs",
        within=20,
    ),
    Mutation(
        name="each attempt of an idempotent or once task has its own key",
        breaks="keys: an idempotent task has one for ever",
        edits=(Edit(_KEY_OF, "{node.task_id}", "{node.attempt}"),),
        play=play,
        shows="key",
        within=30,
    ),
    Mutation(
        name="an attempt's id is used again after a recovery",
        breaks="an attempt id is never used twice",
        edits=(Edit(f"{_STARTING}._new_attempt", "{self._prefix}", "j1.1"),),
        play=play,
        shows="attempt .* was started before",
        within=30,
    ),
    Mutation(
        name="an effect starts before the submission is durable",
        breaks="the workflow's arguments are settled when the submission is durable",
        edits=(
            Edit(f"{_STARTING}._await_settled", "needed = max(needed, self._base)", "pass"),
            Edit(
                f"{_STARTING}._await_settled", "if not node.reads and self._acked >= self._base:", "if not node.reads:"
            ),
        ),
        play=play,
        shows="starts before its workflow is durable",
        within=50,
    ),
    Mutation(
        name="a deadline is not recorded",
        breaks="a timer records its deadline when it is armed",
        edits=(
            Edit(
                "exoflow.engine.finishing:Finishing._on_armed",
                "self._log(TimerArmed(self.workflow_id, node.task_id, event.deadline), None, None)",
                "pass",
            ),
        ),
        play=play,
        shows="deadline",
        within=100,
    ),
]
