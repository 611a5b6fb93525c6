"""One workflow on a stage, where everything happens by hand: a scenario reads like its numbered steps.

The stage is the world of the random tests (`simulation.world`): it runs the pure engine, forgets in a crash what was not
flushed, and holds every promise against every step. What it adds is names: steps speak of tasks, not of attempts.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Self, TypeVar

from exoflow.engine.node_state import NodeState
from exoflow.graph.dag import Dag, compile_dag
from exoflow.graph.node import Node
from exoflow.journal.records import Outcome, Record
from exoflow.tasks.task import Task

# The same world as in the tests beside this folder, played by hand instead of by chance.
from ..engine.simulation import promises
from ..engine.simulation.dags import NotHappenedError, make
from ..engine.simulation.values import everything_behind
from ..engine.simulation.world import Start, World

__all__ = ["NotHappenedError", "Stage", "book", "draw", "make", "pay", "pure", "send"]

R = TypeVar("R", bound=Record)


# --- tasks, by what they promise --------------------------------------------------------------------------------------


def draw(name: str, mode: str = "sync", **options: Any) -> Task[Any, Any]:
    """Nondeterministic, without effects."""
    return make(name, effects="none", checkpoint=mode, **options)


def pure(name: str, mode: str = "sync", **options: Any) -> Task[Any, Any]:
    """Deterministic, without effects."""
    return make(name, effects="none", deterministic=True, checkpoint=mode, **options)


def pay(name: str, mode: str = "sync", **options: Any) -> Task[Any, Any]:
    """Idempotent."""
    return make(name, effects="idempotent", checkpoint=mode, **options)


def book(name: str, mode: str = "sync", **options: Any) -> Task[Any, Any]:
    """Undone by a function."""
    return make(name, rollback=print, checkpoint=mode, **options)


def send(name: str, mode: str = "sync", *, asked: bool = True, **options: Any) -> Task[Any, Any]:
    """Once; *asked* is whether it has a resolve function."""
    if asked:
        options["resolve"] = print
    return make(name, effects="once", checkpoint=mode, **options)


class Stage:
    """A workflow, from its submission on. Nothing is durable, returns or arrives unless a step says so."""

    def __init__(self, root: Node) -> None:
        self.world = World(root)
        self.world.begin()

    @classmethod
    def going_on(cls, world: World) -> Self:
        """Return a stage for a world that has just crashed, before anybody goes on."""
        made = cls.__new__(cls)
        made.world = world
        return made

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> set[str]:
        """Tasks of which an attempt runs that nobody has given up."""
        return {node.task_id for node in self.world.running.values()}

    @property
    def storing(self) -> set[str]:
        """Tasks whose outcome is on its way to the store."""
        return {self.world.outside.starts[attempt].task_id for attempt, _ in self.world.uploads}

    @property
    def undoing(self) -> list[str]:
        """Tasks whose undo function runs."""
        return [node.task_id for node, _ in self.world.undoing]

    @property
    def asking(self) -> list[str]:
        """Tasks whose resolve function runs."""
        return [node.task_id for node, _, _ in self.world.resolving]

    @property
    def answer(self) -> str | None:
        """How the workflow ended, once somebody was told in this life."""
        return self.world.answer.status if self.world.answer is not None else None

    @property
    def listening(self) -> set[str]:
        """Nodes that wait for a message."""
        return {node.task_id for node in self.world.listening.values()}

    @property
    def sleeping(self) -> set[str]:
        """Nodes that wait for a moment alone."""
        return {node.task_id for node in self.world.sleeping.values()}

    @property
    def unarmed(self) -> set[str]:
        """Nodes that wait for a moment which has not been chosen yet."""
        waiting = {**self.world.sleeping, **self.world.listening}
        return {waiting[attempt].task_id for attempt in self.world.unarmed}

    @property
    def inbox(self) -> list[str]:
        """Messages that were sent and not deleted."""
        return list(self.world.outside.inbox)

    def deadline(self, task_id: str) -> float | None:
        """When a timer fires, if that has been chosen."""
        return self.world.state.nodes[task_id].deadline

    def attempts(self, task_id: str) -> list[Start]:
        """All attempts there ever were, in all lives, the latest last."""
        return [start for start in self.world.outside.starts.values() if start.task_id == task_id]

    def child(self, parent: str, index: int) -> str:
        """The id of a node of the continuation that the latest attempt of *parent* returned."""
        return f"{self.attempts(parent)[-1].attempt}/{index}"

    def standing(self, task_id: str) -> list[str]:
        """Attempts whose effect is in the world and was not taken back."""
        return [start.attempt for start in self.attempts(task_id) if start.stands]

    def records(self, kind: type[R], task_id: str | None = None) -> list[R]:
        """Durable records."""
        found = [record for record in self.world.log if isinstance(record, kind)]
        return [record for record in found if task_id is None or getattr(record, "task_id", None) == task_id]

    def stored(self, task_id: str) -> bool:
        """Whether a durable record holds a value of it."""
        return any(outcome.payload is not None for outcome in self.records(Outcome, task_id))

    def reruns(self) -> set[str]:
        """What recovery, at the beginning of this life, decided to run again or for the first time."""
        assert self.world.plan is not None
        return set(self.world.plan.rerun)

    # --- steps --------------------------------------------------------------------------------------------------------

    def returns(self, *task_ids: str, stored: bool = True, growing: Node | Dag | None = None) -> None:
        """Attempts return.

        Args:
            task_ids: Of which tasks.
            stored: Whether the outcome is stored as fast as it returns, where that is not a condition.
            growing: What they return instead of a value.
        """
        for task_id in task_ids:
            dag = compile_dag(growing) if isinstance(growing, Node) else growing
            self.world.finish(self._attempt(task_id), stored=stored, continuation=dag)

    def raises(self, task_id: str, *, happened: bool = False, not_happened: bool = False) -> None:
        """An attempt raises; *happened* is whether it had its effect before."""
        self.world.fail(self._attempt(task_id), happened=happened, not_happened=not_happened)

    def is_lost(self, task_id: str, *, happened: bool = False) -> None:
        """The process of an attempt dies."""
        self.world.fail(self._attempt(task_id), happened=happened, lost=True)

    def times_out(self, task_id: str) -> str:
        """An attempt runs past its timeout, and on; its id is returned."""
        attempt = self._attempt(task_id)
        self.world.time_out(attempt)
        return attempt

    def ends_at_last(self, attempt: str, *, happened: bool) -> None:
        """An attempt that was given up is over."""
        self.world.ended(attempt, happened=happened)

    def is_stored(self, task_id: str) -> None:
        """An outcome arrives in the store."""
        self.world.uploaded(self._upload(task_id))

    def cannot_be_stored(self, task_id: str) -> None:
        """An outcome turns out never to arrive there."""
        if task_id in self.storing:
            self.world.uploaded(self._upload(task_id), fails=True)
        else:
            self.world.cannot_store(self._attempt(task_id))

    def is_undone(self, task_id: str, *, fails: bool = False) -> None:
        """The undo function of an attempt returns, or raises."""
        self.world.undone(next(a for node, a in self.world.undoing if node.task_id == task_id), fails=fails)

    def is_resolved(self, task_id: str, *, unknown: bool = False) -> None:
        """The resolve function of an attempt says what it finds."""
        self.world.resolved(next(a for node, a, _ in self.world.resolving if node.task_id == task_id), unknown=unknown)

    def is_retried(self) -> None:
        """The pause before a retry is over."""
        (attempt,) = self.world.retrying
        self.world.retry(attempt)

    def takes(self, task_id: str, event: str) -> str:
        """A waiting node is given the first message there is for it, whose key is returned."""
        attempt = next(a for a, node in self.world.listening.items() if node.task_id == task_id)
        key = next(key for key in self.world.messages(attempt) if key.startswith(event))
        self.world.receive(attempt, key)
        return key

    def is_armed(self, task_id: str) -> float | None:
        """The driver says when a timer will fire; returns when that is."""
        self.world.armed(self._waiting(task_id))
        return self.deadline(task_id)

    def fires(self, task_id: str) -> None:
        """A deadline passes."""
        self.world.fired(self._waiting(task_id))

    def flush(self) -> None:
        """All that was logged becomes durable, and all that follows from that."""
        while self.world.buffer or self.world.in_flight is not None:
            if self.world.in_flight is None:
                self.world.flush()
            self.world.flushed()

    def crash(self, *, happened: Collection[str] = (), landed: bool = False) -> None:
        """The controller dies, and another goes on from what is durable.

        Args:
            happened: Tasks that ran, and had their effect before they died with it.
            landed: Whether a flush under way arrived.
        """
        self.die(happened=happened, landed=landed)
        self.world.resume()

    def die(self, *, happened: Collection[str] = (), landed: bool = False) -> None:
        """The controller dies."""
        self.world.crash(landed=landed, happen=lambda start: start.task_id in happened)

    def to_the_end(self, growing: Mapping[str, Node] | None = None) -> None:
        """Let everything go well until the workflow is answered, and hold the whole story against the promises.

        Args:
            growing: By task id, what tasks return instead of a value.
        """
        for _ in range(1000):
            if self.answer is not None and not self._left():
                break
            self._let_one_thing_happen(growing or {})
        assert self.answer is not None, "it goes on for ever"
        promises.all_is_explained(self.world)

    def explains(self, task_id: str) -> list[str]:
        """Attempts of *task_id* on which the answer rests."""
        status, value = self.world.outside.told[-1]
        assert status == "succeeded"
        return [made.nonce for made in everything_behind([value]) if made.task_id == task_id]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _attempt(self, task_id: str) -> str:
        found = [a for a, node in self.world.running.items() if node.task_id == task_id]
        assert found, f"{task_id} does not run; {sorted(self.running)} do"
        return found[-1]

    def _waiting(self, task_id: str) -> str:
        waiting = {**self.world.sleeping, **self.world.listening}
        return next(a for a, node in waiting.items() if node.task_id == task_id)

    def _upload(self, task_id: str) -> tuple[str, Any]:
        return next(u for u in self.world.uploads if self.world.outside.starts[u[0]].task_id == task_id)

    def _left(self) -> bool:
        world = self.world
        return bool(world.buffer or world.in_flight or world.running or world.abandoned)

    def _let_one_thing_happen(self, growing: Mapping[str, Node]) -> None:
        world = self.world
        steps: Iterable[tuple[Any, Callable[[Any], None]]] = (
            (world.buffer or world.in_flight, lambda _: self.flush()),
            (world.uploads, world.uploaded),
            (world.undoing, lambda what: world.undone(what[1])),
            (world.resolving, lambda what: world.resolved(what[1])),
            (world.retrying, world.retry),
            (world.unarmed, world.armed),
            (world.stopping, self._stop),
            ({n.task_id: n for n in world.running.values()}, lambda t: self.returns(t, growing=growing.get(t))),
            (world.abandoned, world.ended),
            (world.sleeping, world.fired),
        )
        for waiting, step in steps:
            if waiting:
                step(next(iter(waiting)))
                return
        stuck: list[NodeState] = [node for node in world.state.nodes.values() if not node.finished]
        raise AssertionError(f"nothing can happen any more, and there is no answer: {stuck}")

    def _stop(self, attempt: str) -> None:
        self.world.stopping.remove(attempt)
        if attempt in self.world.running:
            self.world.ended(attempt)
