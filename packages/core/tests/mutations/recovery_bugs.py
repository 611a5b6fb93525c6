"""Bugs in what recovery makes of the records."""

from .harnesses import play, play_with_new_code
from .planting import Edit, Mutation

__all__ = ["BUGS"]

_PLANNER = "exoflow.recovery.plan:_Planner"
_RESTORING = "exoflow.engine.restoring"

BUGS = [
    Mutation(
        name="a record that read an incarnation since run again is believed",
        breaks="one incarnation: an orphan is discarded",
        edits=(Edit(f"{_PLANNER}._cut", 'if history.current.get(task_of.get(read, "")) != read:', "if False:"),),
        play=play,
        shows="than the largest cut|two incarnations",
        within=4000,
    ),
    Mutation(
        name="the readers of an orphan are believed",
        breaks="one incarnation: dependents of an orphan are orphans",
        edits=(Edit(f"{_PLANNER}._spread", "for reader in self.readers.get(incarnation, ()):", "for reader in ():"),),
        play=play,
        shows="than the largest cut|two incarnations",
        within=700,
    ),
    Mutation(
        name="a nondeterministic task that runs again is taken for the same incarnation",
        breaks="one incarnation: another run, another value",
        edits=(Edit(f"{_PLANNER}._may_differ", "return True\n    if self.code", "return False\n    if self.code"),),
        play=play,
        shows="than the largest cut|^runs ",
        within=100,
    ),
    Mutation(
        name="a deterministic task that runs again is taken for another incarnation",
        breaks="records that read it stay true",
        edits=(Edit(f"{_RESTORING}:_restore_outcomes", "if kept is not None:", "if False:"),),
        play=play,
        shows="reads",
        within=700,
    ),
    Mutation(
        name="the nodes of a superseded continuation stay",
        breaks="children of a continuation read the incarnation that made them",
        edits=(Edit(f"{_PLANNER}._vanish", "self.gone.add(child)", "continue"),),
        play=play,
        shows="than the largest cut|^runs ",
        within=2000,
    ),
    Mutation(
        name="a value that is lost and wanted is not made again",
        breaks="recovery: the cut is consistent",
        edits=(
            Edit(
                f"{_PLANNER}._spread",
                "if provider not in self.rerun and not self._has_value(provider):",
                "if False:",
            ),
        ),
        play=play,
        shows="than the largest cut",
        within=100,
    ),
    Mutation(
        name="an intent without an end is forgotten",
        breaks="recovery starts from every intent without an end",
        edits=(Edit(f"{_PLANNER}._finish", "roll_back.append(intent)", "pass"),),
        play=play,
        shows="rolls back something else",
        within=100,
    ),
    Mutation(
        name="superseded attempts are undone in causal order",
        breaks="dependents are undone in reverse causal order",
        edits=(Edit(f"{_PLANNER}._finish", "tuple(reversed(roll_back))", "tuple(roll_back)"),),
        play=play,
        shows="rolls back something else|is undone before",
        within=900,
    ),
    Mutation(
        name="things start before what was superseded is undone",
        breaks="rollback: undo, then an attempt with a new key",
        edits=(
            Edit(f"{_RESTORING}:_restore_intents", "state.superseded = len(plan.roll_back)", "state.superseded = 0"),
        ),
        play=play,
        shows="was not undone before .* starts",
        within=100,
    ),
    Mutation(
        name="what finished before a crash is not undone when the workflow fails after it",
        breaks="rollback: undone if the workflow is rolled back, whoever did it",
        edits=(
            Edit(
                f"{_RESTORING}:_restore_intents",
                "if intent.attempt in history.undone or intent.attempt in doomed:",
                "if True:",
            ),
        ),
        play=play,
        shows="something is left to do|was not rolled back",
        within=700,
    ),
    Mutation(
        name="nobody is asked what became of a once attempt",
        breaks="once: resolve is asked after a crash",
        edits=(Edit(f"{_PLANNER}._finish", "resolve.append(intent)", "pass"),),
        play=play,
        shows="asks about something else",
        within=50,
    ),
    Mutation(
        name="effects may have acted on values of older code, and nobody is told",
        breaks="code: CodeChangedError",
        edits=(
            Edit(
                f"{_RESTORING}:restore",
                "if plan.endangered and not accept_code_change and history.end is None:",
                "if False:",
            ),
        ),
        play=play_with_new_code,
        shows="two incarnations|with two sets of inputs",
        within=1000,
    ),
    Mutation(
        name="an heir restates intents in another order",
        breaks="undo goes in reverse causal order",
        edits=(
            Edit(
                "exoflow.recovery.history:History.records",
                "made.extend(self.intents.values())",
                "made.extend(reversed(self.intents.values()))",
            ),
        ),
        play=play,
        shows="restating changes the order of intents",
        within=20,
    ),
]
