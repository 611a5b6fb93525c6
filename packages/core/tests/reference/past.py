"""The ledger sorted into calls, and what each call rests on: all that was known when it was made.

A value is nothing but a name. The ledger says which call gave it which name, and what that call had read.
"""

import math
from collections.abc import Iterable, Iterator

import attrs

from .ledger import Entry
from .plans import Plan, Step

__all__ = ["Call", "Identity", "Past"]

Identity = tuple[str, str]
"""A step within its continuation: level and path. What the promises call a task."""


@attrs.define(eq=False)
class Call:
    """One call of a step's function: its lines put together."""

    step: Step
    at: int
    life: int
    entry: Entry
    ended: int | None = None
    """Where in the ledger it ended; None if it did not."""
    end: str = ""
    token: str = ""
    branch: int = 0

    @property
    def who(self) -> Identity:
        return self.entry.level, self.entry.where

    @property
    def happened(self) -> bool:
        """Whether the effect did: it comes with the end of the call."""
        return self.end not in ("", "refused")

    @property
    def fine(self) -> bool:
        return self.end in ("returned", "grew")

    @property
    def raised(self) -> bool:
        return self.end in ("failed", "refused")

    def __str__(self) -> str:
        return f"{self.entry.where} ({self.token or 'unfinished'} of {', '.join(self.entry.inputs) or 'nothing'})"


class Past:
    """What happened."""

    def __init__(self, plan: Plan, entries: Iterable[Entry]) -> None:
        self.plan = plan
        self.entries = list(entries)
        self.calls: list[Call] = []
        self.makers: dict[str, Call] = {}
        """By what they made; of a deterministic step the first."""
        self.undone: dict[str, list[int]] = {}
        """Where in the ledger, by key."""
        self.told = next((entry for entry in self.entries if entry.what == "told"), None)
        self.status = self.told.status if self.told is not None else ""
        open_calls: dict[str, Call] = {}
        life = self.life_of_the_end = 0
        for at, entry in enumerate(self.entries):
            if entry.what == "died":
                life += 1
                for call in open_calls.values():
                    call.ended = call.ended or at
            if entry is self.told:
                self.life_of_the_end = life
            if entry.what == "began":
                call = open_calls[entry.attempt] = Call(plan.find(entry.where), at, life, entry)
                self.calls.append(call)
            elif entry.what == "undone":
                self.undone.setdefault(entry.key, []).append(at)
            elif entry.what in ("returned", "failed", "refused", "grew"):
                call = open_calls[entry.attempt]
                call.ended, call.end, call.token, call.branch = at, entry.what, entry.token, entry.branch
                self.makers.setdefault(call.token, call)
        self.by_task: dict[Identity, list[Call]] = {}
        for call in self.calls:
            self.by_task.setdefault(call.who, []).append(call)
        self.lost = {entry.attempt for entry in self.entries if entry.what == "lost"}

    def calls_of(self, who: Identity) -> list[Call]:
        return self.by_task.get(who, [])

    def undone_at(self, call: Call) -> float:
        """Return where in the ledger *call* was first undone after it had begun; infinity if it was not."""
        return next((at for at in self.undone.get(call.entry.key, ()) if at > call.at), math.inf)

    def plan_at(self, level: str) -> Plan:
        """Return the plan of a continuation, or the whole workflow's."""
        if not level:
            return self.plan
        parent = self.makers[level]
        return parent.step.grows[parent.branch]

    def beside(self, call: Call, name: str) -> Identity:
        """Return the task called *name* in the plan of *call*."""
        return call.entry.level, call.entry.where.rpartition("/")[0] + "/" * ("/" in call.entry.where) + name

    def answers_for(self, token: str) -> list[Identity]:
        """Return the tasks that *token* is the value of: the one that made it, and whoever that one continues."""
        maker = self.makers[token]
        found = [maker.who]
        while maker.entry.level and maker.step.name == self.plan_at(maker.entry.level).root.name:
            maker = self.makers[maker.entry.level]
            found.append(maker.who)
        return found

    def behind(self, call: Call) -> Iterator[tuple[Identity, str, str]]:
        """Yield everything that *call* rests on: which task, what of it (value or continuation), and its name."""
        seen, stack = set[str](), [call]
        while stack:
            each = stack.pop()
            claims: list[tuple[Identity, str, str]] = []
            for name, token in zip(each.step.reads, each.entry.inputs, strict=False):
                tasks = self.answers_for(token) if token in self.makers else [self.beside(each, name)]
                claims += [(task, "value", token) for task in tasks]
            if each.entry.level:
                claims.append((self.makers[each.entry.level].who, "continuation", each.entry.level))
            for claim in claims:
                yield claim
                token = claim[2]
                if token not in seen and token in self.makers:
                    seen.add(token)
                    stack.append(self.makers[token])

    def rests_on(self, call: Call, earlier: Call) -> bool:
        return earlier.token != "" and any(token == earlier.token for _, _, token in self.behind(call))
