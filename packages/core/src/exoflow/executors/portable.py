"""Exceptions that can be recorded, and told again in another process or after a crash.

Everybody must see the same outcome, whether it is fresh or comes from a record: so an executor reports an exception in
the form that survives a pickle, and not in one that the first reader alone could have seen.
"""

import re
import traceback
from pathlib import Path
from types import TracebackType

from exoflow.engine.matching import name_of
from exoflow.errors import ExoFlowError
from exoflow.values import PickleCodec

__all__ = ["TaskError", "portable"]

_HERE = str(Path(__file__).parent)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_TITLE = "Where the task raised it:\n"
_MOST = 64 * 1024
"""Of a traceback, in characters. A record is not the place for more; beginning and end say most."""

_codec = PickleCodec()


class TaskError(ExoFlowError):
    """Stands for an exception that cannot be recorded as itself: one that does not pickle, or that ends processes."""

    def __init__(self, type_name: str, message: str, kinds: tuple[str, ...] = ()) -> None:
        self.type_name = type_name
        """Module and name of the original exception's class."""
        self.message = message
        """What the original exception said."""
        self.kinds = kinds
        """The same for all its base classes: what an ``except`` clause would have gone by."""
        super().__init__(type_name, message, kinds)

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


def portable(error: BaseException) -> BaseException:
    """Return *error* in a form that pickles and can be raised anywhere without ending a process.

    The answer is *error* itself if a pickle brings it back with its type and its message, else a `TaskError` in its
    place. Either way the traceback, with the chain of causes, becomes a note: pickling keeps neither, and the frames
    would keep the task's local variables alive for as long as anybody holds the error. Doing it twice changes nothing.
    """
    text = _traceback_of(error)
    if isinstance(error, Exception):
        try:
            if text:
                error.add_note(text)
            _forget_frames(error)
            restored = _codec.decode([memoryview(part) for part in _codec.encode(error).parts])
            if type(restored) is type(error) and _plain(restored) == _plain(error):
                return error
        except Exception:  # whatever its own methods do: it cannot be recorded as itself
            pass
    stand_in = TaskError(name_of(type(error)), _message_of(error), tuple(map(name_of, type(error).__mro__[:-1])))
    for note in getattr(error, "__notes__", ()) or ():
        if isinstance(note, str) and note != text:
            stand_in.add_note(note)
    if text:
        stand_in.add_note(text)
    return stand_in


def _traceback_of(error: BaseException) -> str:
    """Return the traceback as text, or nothing if it is among the notes already."""
    try:
        if any(isinstance(note, str) and note.startswith(_TITLE) for note in getattr(error, "__notes__", ())):
            return ""
        found = error.__traceback__
        while found is not None and found.tb_frame.f_code.co_filename.startswith(_HERE):
            found = found.tb_next  # the executor's own frames tell the author of a task nothing
        if found is None and error.__cause__ is None and error.__context__ is None:
            return ""
        text = "".join(traceback.TracebackException(type(error), error, found, compact=True).format()).rstrip()
    except Exception:  # an exception whose __str__ or attributes raise
        return ""
    if len(text) > _MOST:
        text = f"{text[: _MOST // 2]}\n  ...\n{text[-_MOST // 2 :]}"
    return _TITLE + text


def _forget_frames(error: BaseException) -> None:
    seen: set[int] = set()
    found: list[BaseException] = [error]
    while found:
        one = found.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        nothing: TracebackType | None = None
        one.__traceback__ = nothing
        found.extend(other for other in (one.__cause__, one.__context__) if other is not None)
        if isinstance(one, BaseExceptionGroup):
            found.extend(one.exceptions)


def _plain(error: BaseException) -> str:
    return _ADDRESS.sub("0x", str(error))  # objects that came back have other addresses


def _message_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the task called sys.exit({error.code!r}); a task ends by returning a value or raising an error"
    try:
        return str(error)
    except Exception as broken:
        return f"<its message could not be made: {name_of(type(broken))}>"
