"""A simulated executor: the library's own `Caller`, on fibers.

It behaves like threads: a call that has begun cannot be stopped. Now and then one is lost, as the processes of other
executors are.
"""

import attrs

from exoflow.engine.events import AttemptEvent, Ended, Failed
from exoflow.errors import TaskLostError
from exoflow.executors.calling import Begun, Caller, finish, key_of, keys_of
from exoflow.executors.contract import Call, CallKind, Services
from exoflow.testing.simulation.machines import Machine

__all__ = ["SimulatedExecutor"]


@attrs.define(eq=False)
class _Running:
    call: Call
    stopped: bool = False


class SimulatedExecutor:
    """Runs calls on fibers of a machine.

    Args:
        services: What the driver gives every executor.
        machine: Where.
        workers: So many calls run at once.
        loses: How likely a call's process is to die by itself, before it has begun or after it has ended.
    """

    name = "simulated"
    inline = False

    def __init__(self, services: Services, machine: Machine, *, workers: int, loses: float) -> None:
        self._services, self._machine = services, machine
        self._workers, self._loses = workers, loses
        self._caller = Caller(services.store, services.codec)
        self._queue: dict[str, _Running] = {}
        self._calls: dict[str, _Running] = {}
        self._closed = False

    def start(self, call: Call) -> None:
        """See `Executor.start`."""
        key = key_of(call)
        assert key not in {*self._calls, *self._queue}, f"{key} is started twice"
        self._queue[key] = _Running(call)
        self._next()

    def _next(self) -> None:
        while self._queue and len(self._calls) < self._workers and not self._closed:
            key = next(iter(self._queue))
            running = self._calls[key] = self._queue.pop(key)
            self._machine.spawn(lambda key=key, running=running: self._run(key, running), self._machine.hop_s())  # type: ignore[misc]

    def stop(self, attempt: str) -> None:
        """See `Executor.stop`."""
        begun = False
        for key in keys_of(attempt):
            self._queue.pop(key, None)
            running = self._calls.get(key)
            if running is not None:
                begun = running.stopped = True
        if not begun:
            self._tell(Ended(attempt))

    def close(self) -> None:
        """See `Executor.close`."""
        self._closed = True
        self._queue.clear()

    def _run(self, key: str, running: _Running) -> None:
        call, chance = running.call, self._machine.chance
        event: AttemptEvent
        if running.stopped:
            event, later = Ended(call.attempt), None
        else:
            lost = call.kind is CallKind.TASK and chance.random() < self._loses
            if lost and chance.random() < 0.5:
                event, later = self._lost(call), None
            else:
                told = self._caller.perform(call)
                assert not isinstance(told, Begun)
                event, later = told
                if lost:
                    event, later = self._lost(call), None
        del self._calls[key]
        if running.stopped:
            event, later = Ended(call.attempt), None
        if later is not None:
            self._calls[key] = running
            self._tell(event)
            event = finish(call, later)
            del self._calls[key]
            self._tell(event)
            if running.stopped:
                self._tell(Ended(call.attempt))
        elif chance.random() < 0.5 and self._services.lend is not None and not self._closed:
            self._next()
            self._services.lend(event)
            return
        else:
            self._tell(event)
        self._next()

    def _lost(self, call: Call) -> AttemptEvent:
        return Failed(call.attempt, TaskLostError(call.task_id, "its simulated process died"), system=True)

    def _tell(self, event: AttemptEvent) -> None:
        if not self._closed:
            self._services.report(event)
