"""Values that are nothing but where they came from, so that a lost incarnation cannot hide in one."""

from typing import Any

from exoflow.values import Live, Payload

__all__ = ["Made", "Vault"]


class Made:
    """What a task made of its inputs. A deterministic task has its code as the nonce, any other its attempt.

    Interned by the vault: two are the same object exactly when nobody could tell them apart.
    """

    __slots__ = ("inputs", "nonce", "number", "task_id")

    def __init__(self, task_id: str, nonce: str, inputs: "tuple[Made, ...]", number: int) -> None:
        self.task_id, self.nonce, self.inputs, self.number = task_id, nonce, inputs, number

    def __repr__(self) -> str:
        return f"<{self.task_id} {self.nonce}>"


class Vault:
    """Stands for pickle: a payload is a number, under which the vault keeps the object."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, tuple[int, ...]], Made] = {}
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}

    def make(self, task_id: str, nonce: str, inputs: tuple[Made, ...]) -> Made:
        """Return the one value with this provenance."""
        key = (task_id, nonce, tuple(i.number for i in inputs))
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = Made(task_id, nonce, inputs, len(self._made))
        return found

    def payload(self, value: Any) -> Payload:
        """Return *value* as bytes."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)
        data = b"%d" % number
        return Payload("sim", (len(data),), data)

    def thaw(self, value: Live | Payload) -> Any:
        """Return what a value or a payload stands for."""
        if isinstance(value, Live):
            return value.value
        assert value.data is not None
        return self._kept[int(value.data)]


def everything_behind(roots: "list[Made]") -> "list[Made]":
    """Return *roots* and all they were made of, each once."""
    seen: dict[int, Made] = {}
    stack = list(roots)
    while stack:
        made = stack.pop()
        if made.number not in seen:
            seen[made.number] = made
            stack.extend(made.inputs)
    return list(seen.values())
