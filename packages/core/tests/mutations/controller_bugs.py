"""Bugs in the controller, found with several of them, stores that fail, and processes that die or are stopped."""

from .harnesses import play_simulation
from .planting import Edit, Mutation

__all__ = ["BUGS"]

_CONTROLLER = "exoflow.controller.controller:Controller"
_CLOSING = "exoflow.controller.closing:Closing"
_LISTENER = "exoflow.controller.listening:Listener"

BUGS = [
    Mutation(
        name="what is on its way to the store is taken for durable",
        breaks="recorded means durable",
        edits=(
            Edit(
                f"{_CONTROLLER}._work",
                "partial(self._flushed, batch))\n",
                "lambda _, problem: self._end.die(problem) if problem else None)\n"
                "            self._flushed(batch, None, None)\n",
            ),
        ),
        play=play_simulation,
        shows="BrokenPromiseError",
        within=100,
    ),
    Mutation(
        name="a flush that failed is believed",
        breaks="a failed or short flush ends the journal: none of it is believed",
        edits=(Edit(f"{_CONTROLLER}._flushed", "if problem is not None:", "if False:"),),
        play=play_simulation,
        shows="BrokenPromiseError",
        within=100,
    ),
    Mutation(
        name="a workflow is accepted before its submission is durable",
        breaks="start returns when claim and submission are durable",
        edits=(
            Edit(f"{_CONTROLLER}._submit", "self._accepting.append((runs[-1][0], accepted))", "accepted.resolve(None)"),
        ),
        play=play_simulation,
        shows="was accepted",
        within=70,
    ),
    Mutation(
        name="a controller that lives is taken over",
        breaks="undo, resolve and a second attempt wait until an attempt has ended",
        edits=(
            Edit("exoflow.journal.liveness:is_live", "store.is_locked(open_key(journal_id))", "False"),
            Edit("exoflow.journal.liveness:is_live", "now - entry.beat < patience_s", "False"),
        ),
        play=play_simulation,
        shows="while it runs|while .* runs",
        within=1000,
    ),
    Mutation(
        name="two runs of workflows give their attempts the same names",
        breaks="an attempt id is never used twice",
        edits=(Edit(f"{_CONTROLLER}.new_prefix", "{next(self._numbers)}", "1"),),
        play=play_simulation,
        shows="was started before",
        within=20,
    ),
    Mutation(
        name="controllers give their attempts the same names",
        breaks="an attempt id begins with its journal's",
        edits=(Edit(f"{_CONTROLLER}.new_prefix", "{self.journal_id}", "j"),),
        play=play_simulation,
        shows="was started before",
        within=20,
    ),
    Mutation(
        name="a record names a blob that is still being written",
        breaks="a record is appended after its blobs are durable",
        edits=(
            Edit(
                "exoflow.values:persist",
                "    store.write(blob_key, chunks())\n    return Payload(codec, lengths, None, blob_key, checksum)\n",
                "    list(chunks())\n    return Payload(codec, lengths, None, blob_key, checksum)\n",
            ),
        ),
        play=play_simulation,
        shows="the store holds no object 'blobs/|these have not ended",
        within=20,
    ),
    Mutation(
        name="a controller whose journal failed lets go of it while attempts run",
        breaks="a journal is let go of when nothing of it runs any more",
        edits=(Edit(f"{_CLOSING}._let_go", "if not self._attempts:", "if True:"),),
        play=play_simulation,
        shows="while it runs|while .* runs|starts, and",
        within=20,
        missed="366 seeds of the simulation show nothing: few attempts of rollback and once tasks run when a journal fails",
        slow=True,
    ),
    Mutation(
        name="a workflow is given up before what was logged of it",
        breaks="nothing counts after a workflow is released",
        edits=(Edit(f"{_CONTROLLER}._release_when_idle", "self.batch.records or self.flusher.busy or ", ""),),
        play=play_simulation,
        shows=".",
        within=20,
        missed="435 seeds of the simulation show nothing: few workflows are given up while others flush",
        slow=True,
    ),
    Mutation(
        name="the listener deletes a message when it hands it out",
        breaks="the owner records which wait took a message, then deletes it",
        edits=(
            Edit(
                f"{_LISTENER}._give_out",
                "self._controller.tell(run, ev.Received(attempt, key, payload))",
                "self._ask(partial(self._delete, key))\n"
                "        self._controller.tell(run, ev.Received(attempt, key, payload))",
            ),
        ),
        play=play_simulation,
        shows=".",
        within=20,
        missed="381 seeds of the simulation show nothing: few processes die between a message and its record",
        slow=True,
    ),
    Mutation(
        name="a message is handed out twice",
        breaks="one message feeds one node",
        edits=(Edit(f"{_LISTENER}._give_out", "if key in run.taken:", "if False:"),),
        play=play_simulation,
        shows="fed .* nodes|message",
        within=20,
        missed="406 seeds of the simulation show nothing: two nodes seldom wait for the same event there",
        slow=True,
    ),
]
