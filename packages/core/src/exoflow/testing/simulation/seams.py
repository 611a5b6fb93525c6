"""Where the library asks the machine itself: these few places ask the simulation, for as long as one is played.

Everything else is handed over as an argument (`exoflow.controller.runtime.Runtime`, store, executor). A thread that is no
fiber gets the real thing all the same.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from exoflow.api import controllers, engine
from exoflow.controller import closing, promise
from exoflow.executors import calling
from exoflow.journal.creation import PATIENT
from exoflow.testing.simulation.fibers import Event, Mutex, here
from exoflow.testing.simulation.machines import Machine

__all__ = ["installed"]


def _machine() -> Machine | None:
    fiber = here()
    return fiber.group if fiber is not None and isinstance(fiber.group, Machine) else None


def _time() -> float:
    machine = _machine()
    return time.time() if machine is None else machine.time()


def _monotonic() -> float:
    machine = _machine()
    return time.monotonic() if machine is None else machine.schedule.now


def _sleep(seconds: float) -> None:
    machine = _machine()
    if machine is None:
        time.sleep(seconds)
    else:
        machine.schedule.sleep(seconds)


def _event() -> Any:
    return threading.Event() if here() is None else Event()


def _mutex() -> Any:
    return threading.RLock() if here() is None else Mutex()


_TIME = SimpleNamespace(time=_time, monotonic=_monotonic, perf_counter=_monotonic, sleep=_sleep)
_THREADING = SimpleNamespace(
    Event=_event,
    RLock=_mutex,
    Lock=threading.Lock,
    current_thread=threading.current_thread,
    main_thread=threading.main_thread,
)

_PLACES = [
    (engine, "time", _TIME),
    (controllers, "time", _TIME),
    (controllers, "threading", _THREADING),
    (promise, "threading", _THREADING),
    (closing, "threading", _THREADING),
    (calling, "time", _TIME),
]


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Make the library ask the simulation."""
    before: list[tuple[Any, str, Any]] = [(place, name, getattr(place, name)) for place, name, _ in _PLACES]
    patience = PATIENT.clock, PATIENT.sleep
    try:
        for place, name, instead in _PLACES:
            setattr(place, name, instead)
        # It is frozen, and the default of a dozen functions.
        object.__setattr__(PATIENT, "clock", _monotonic)
        object.__setattr__(PATIENT, "sleep", _sleep)
        yield
    finally:
        for place, name, was in before:
            setattr(place, name, was)
        object.__setattr__(PATIENT, "clock", patience[0])
        object.__setattr__(PATIENT, "sleep", patience[1])
