"""Bugs in the protocol above the store: the fence, the heir's first flush, claims, and lost answers."""

from .harnesses import play_takeovers
from .planting import Edit, Mutation

__all__ = ["BUGS"]

_WRITER = "exoflow.journal.writer:JournalWriter"
_ADOPTION = "exoflow.journal.adoption"
_OWNERSHIP = "exoflow.journal.ownership"
_CREATE = "exoflow.journal.creation:create_exactly"

BUGS = [
    Mutation(
        name="a flush is believed without a look for the seal",
        breaks="one fence: an append has no number that could be taken",
        edits=(Edit(f"{_WRITER}._append_to_log", "self._look()\n    self._size", "self._size"),),
        play=play_takeovers,
        shows="whose owner knows only",
        within=100,
    ),
    Mutation(
        name="an heir reads before it seals",
        breaks="one fence: the heir reads after sealing",
        edits=(
            Edit(
                f"{_ADOPTION}:adopt",
                "        writer.owed.add(victim)\n",
                "        writer.owed.add(victim)\n        for each in chain:\n            shelf.book(each)\n",
            ),
            Edit(
                f"{_ADOPTION}:adopt",
                "        if writer.fail is not None:\n",
                "        return _take_in(store, writer, shelf, (*chain, us), wanted, now)\n"
                "        if writer.fail is not None:\n",
            ),
        ),
        play=play_takeovers,
        shows="something is lost|whose owner knows only",
        within=250,
    ),
    Mutation(
        name="an heir takes over without a seal",
        breaks="one fence: take-over is creating the next segment",
        edits=(
            Edit(
                f"{_ADOPTION}:adopt",
                "        if seal(store, victim, us, writer.patience).heir != us:\n",
                "        return _take_in(store, writer, shelf, (*chain, us), wanted, now)\n"
                "        if seal(store, victim, us, writer.patience).heir != us:\n",
            ),
        ),
        play=play_takeovers,
        shows="something|whose owner knows only|round in circles",
        within=20,
    ),
    Mutation(
        name="an heir does not record how much it has read",
        breaks="the heir records adopted(journal, length) before it acts",
        edits=(
            Edit(
                f"{_ADOPTION}:_take_in",
                "[rec.encode(rec.Adopted(journal_id, lengths[journal_id])) for journal_id in fresh]",
                "[]",
            ),
        ),
        play=play_takeovers,
        shows="something|nobody can go on",
        within=20,
    ),
    Mutation(
        name="readers go by what they find, not by how much the heir has recorded",
        breaks="every later reader uses that length",
        edits=(
            Edit(
                f"{_OWNERSHIP}:_within",
                "positions[index] >= start and (length is None or positions[index] <= length)",
                "positions[index] >= start",
            ),
        ),
        play=play_takeovers,
        shows="something came back",
        within=60,
        missed="an heir repeats what it takes over, so older journals are read again only for what nobody runs",
    ),
    Mutation(
        name="whoever is told that a key exists takes what is there for its own",
        breaks="a refusal is read back and compared whole",
        edits=(Edit(_CREATE, "return _WON if winner == data else Lost(bytes(winner))", "return _WON"),),
        play=play_takeovers,
        shows=".",
        within=100,
    ),
    Mutation(
        name="a lost answer is taken for success",
        breaks="what stays unknown is never believed",
        edits=(Edit(_CREATE, "in_doubt, cause = True, error", "return _WON"),),
        play=play_takeovers,
        shows=".",
        within=250,
    ),
    Mutation(
        name="a batch that met its heir's seal is written behind it",
        breaks="no batch is ever stored behind one that lost",
        edits=(
            Edit(
                f"{_WRITER}._create_objects",
                "raise self._fenced(key, answer.winner)",
                "self._advance()\n            return self._create_objects(batch)",
            ),
        ),
        play=play_takeovers,
        shows=".",
        within=50,
    ),
    Mutation(
        name="a writer goes on after a flush that failed",
        breaks="a failed or short flush ends the journal",
        edits=(Edit(f"{_WRITER}.append", "        self._die(error)\n", "        pass\n"),),
        play=play_takeovers,
        shows=".",
        within=500,
    ),
    Mutation(
        name="whoever tries to claim a workflow believes that it has",
        breaks="claims: exactly one creator gets an epoch",
        edits=(
            Edit(
                "exoflow.journal.claims:_create",
                "return made if isinstance(answer, Won) else _decode(made.workflow_id, key, answer.winner)",
                "return made",
            ),
        ),
        play=play_takeovers,
        shows=".",
        within=150,
    ),
    Mutation(
        name="a claim of a workflow that was given up counts from the beginning of the journal",
        breaks="of a claimed journal only what follows the claim's batch counts",
        edits=(Edit(f"{_ADOPTION}:_claim", "since=since", "since=1"),),
        play=play_takeovers,
        shows=".",
        within=50,
    ),
    Mutation(
        name="a workflow is claimed before its records are repeated",
        breaks="whoever finds a claim finds the workflow behind it",
        edits=(
            Edit(
                f"{_ADOPTION}:_move_by_claim",
                "    writer.append(past.raw)\n    if not _claim(writer, own, since):\n        return None\n",
                "    if not _claim(writer, own, since):\n        return None\n    writer.append(past.raw)\n",
            ),
        ),
        play=play_takeovers,
        shows=".",
        within=100,
    ),
    Mutation(
        name="a claim is believed though its journal was sealed meanwhile",
        breaks="a journal that was sealed has passed its claims on",
        edits=(Edit(f"{_ADOPTION}:_claim", "writer.check()", "pass"),),
        play=play_takeovers,
        shows=".",
        within=60,
        missed="1700 seeds show nothing: whoever was sealed learns it from its next flush, and its heir goes on with the claim",
        slow=True,
    ),
    Mutation(
        name="the checksum of a batch is not looked at",
        breaks="a bad last batch is torn, and cut",
        edits=(
            Edit(
                "exoflow.journal.frames:_batch_at",
                "if crc != zlib.crc32(view[start:end], zlib.crc32(view[offset : offset + _HEAD.size], seed)):",
                "if False:",
            ),
            Edit(
                "exoflow.journal.frames:_batch_at",
                "if end > len(view) or 4 * count > length:",
                "if 4 * count > length:",
            ),
        ),
        play=play_takeovers,
        shows=".",
        within=150,
    ),
    Mutation(
        name="an heir that was itself taken over takes over",
        breaks="an heir that is itself sealed would only prolong the chain",
        edits=(Edit(f"{_ADOPTION}:adopt", "writer.check()", "pass"),),
        play=play_takeovers,
        shows=".",
        within=1700,
        slow=True,
    ),
]
