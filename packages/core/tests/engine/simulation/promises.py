"""Section 3 of the design as assertions, each about one thing that happened."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import exoflow.engine.events as ev
from exoflow.engine.node_state import NodeState, Phase
from exoflow.errors import TaskLostError
from exoflow.journal.records import End, Intent, Outcome, Submission
from exoflow.recovery.history import History
from exoflow.tasks.policy import Checkpoint, Effects

from .values import Made, everything_behind

if TYPE_CHECKING:
    from .world import Start, World

__all__ = [
    "BrokenPromiseError",
    "a_discard_is_safe",
    "a_failure_is_final",
    "a_restored_state_is_what_its_records_say",
    "a_start_is_safe",
    "a_wait_is_safe",
    "all_is_explained",
    "an_undo_is_due",
    "counters_are_right",
    "kept",
    "nobody_waits_needlessly",
    "restating_changes_nothing",
    "the_plan_is_the_largest_cut",
]


class BrokenPromiseError(AssertionError):
    """Something happened that must not."""


def kept(condition: bool, otherwise: str) -> None:
    """Hold a promise against what happened."""
    if not condition:
        raise BrokenPromiseError(otherwise)


# --- when something starts --------------------------------------------------------------------------------------------


def a_start_is_safe(world: "World", node: NodeState, start: "Start") -> None:
    """Everything that must be durable before an attempt starts is, and everything that must be over."""
    attempt, outside = start.attempt, world.outside
    kept(world.state.ended is None, f"{node} starts after the end")
    kept(attempt not in outside.starts, f"attempt {attempt} was started before")
    loaded = world.plan is not None and node.task_id in world.plan.load
    kept(not loaded, f"{node} runs again, though its outcome counts")
    stored = _stored(world)
    for read in node.reads:
        kept(read.finished, f"{node} starts without {read}")
        kept(
            read.mode is not Checkpoint.SYNC or read.incarnation in stored,
            f"{node} starts before the sync {read} is durable",
        )
    for at in node.spec.committed:
        before = _node_at(world, node, at)
        before = before.provider or before
        kept(before.incarnation in stored, f"{node} starts before {before} is committed")
    for at in node.spec.after:
        head = _node_at(world, node, at)
        before = head.provider or head
        kept(before.finished, f"{node} starts before {before}, after which it comes")
        kept(head.effects is Effects.NONE or before in node.reads, f"{node} comes after {before} and does not read it")
    if start.effects in (Effects.ROLLBACK, Effects.ONCE):
        intent = next((r for r in world.log if isinstance(r, Intent) and r.attempt == attempt), None)
        kept(intent is not None, f"{node} starts before its intent is durable")
        assert intent is not None
        kept(intent.reads == start.reads, f"the intent of {node} names other reads")
    if start.effects is not Effects.NONE:
        kept(any(isinstance(r, Submission) for r in world.log), f"{node} starts before its workflow is durable")
        _earlier_attempts_are_out_of_the_way(world, start)
        _its_key_is_right(world, start)
    if start.effects in (Effects.IDEMPOTENT, Effects.ONCE):
        _inputs_stay(world, node)
        for earlier in outside.starts.values():
            if earlier.key == start.key:
                kept(
                    earlier.inputs == start.inputs or world.accepted, f"key {start.key} is used with two sets of inputs"
                )


def _its_key_is_right(world: "World", start: "Start") -> None:
    own = start.effects is Effects.ROLLBACK or (start.effects is Effects.ONCE and start.policy.fences)
    for earlier in world.outside.starts.values():
        if earlier.task_id != start.task_id:
            continue
        if own:
            kept(earlier.key != start.key, f"{start.attempt} has the key of {earlier.attempt}, which may be refused")
        else:
            kept(earlier.key == start.key or world.accepted, f"{start.task_id} has the keys {earlier.key}, {start.key}")


def _node_at(world: "World", node: NodeState, index: int) -> NodeState:
    """Return the node at *index* of the DAG that *node* belongs to."""
    if node.parent is None:
        return world.state.nodes[world.submitted.nodes[index].task_id]
    return world.state.nodes[f"{node.parent.incarnation}/{index}"]


def _stored(world: "World") -> set[str]:
    return world.aftermath().stored


def _earlier_attempts_are_out_of_the_way(world: "World", start: "Start") -> None:
    for earlier in world.outside.starts.values():
        if earlier.task_id != start.task_id:
            continue
        name = f"{start.task_id}: {earlier.attempt}"
        if start.effects is Effects.ROLLBACK:
            kept(not earlier.running or earlier.refused, f"{name} still runs when {start.attempt} starts")
            kept(earlier.undone, f"{name} was not undone before {start.attempt} starts")
        elif start.effects is Effects.ONCE:
            kept(not earlier.running or earlier.refused, f"{name} still runs when {start.attempt} starts")
            kept(not earlier.happened, f"{name} happened, and {start.attempt} starts")
            kept(earlier.ruled_out, f"nobody said that {name} did not happen, and {start.attempt} starts")


def _inputs_stay(world: "World", node: NodeState) -> None:
    """No crash can change any more what *node* has read: as far as that is durable, or with the flush under way."""
    if not world.strict:
        return
    reads = [read.incarnation for read in node.reads]
    for landed in (False, True) if world.in_flight else (False,):
        after = world.aftermath(landed=landed)
        lost = after.could_lose(reads, world.seen)
        kept(lost is None, f"{node} starts on {lost}, which a crash could take away")
        if node.parent is not None:
            kept(after.stands(node.parent.incarnation), f"{node} starts, and nothing says who made it")


def a_failure_is_final(node: NodeState) -> None:
    """A task is given up, or its error passed on, only when it may not be tried again."""
    error, policy = node.awaited_error, node.spec.task.policy
    kept(error is not None, f"{node} failed without an error")
    if isinstance(error, TaskLostError):
        kept(node.system_failures > policy.system_retries, f"{node} is given up after {node.system_failures} losses")
    elif node.effects is not Effects.ONCE or isinstance(error, policy.not_happened):
        kept(node.failures > policy.retries, f"{node} is given up after {node.failures} failures")


def a_wait_is_safe(world: "World", node: NodeState) -> None:
    """A deadline and a message are taken for good: nothing may change them afterwards."""
    if not world.strict or not (node.spec.kind == "event" or node.spec.deps):
        return
    lost = world.aftermath(logged=True).could_lose([r.incarnation for r in node.reads], world.seen)
    kept(lost is None, f"{node} waits after {lost}, which a crash could take away")


def nobody_waits_needlessly(world: "World") -> None:
    """An effect is parked only while something it read could still change."""
    parked = [n for n in world.state._parked if n.phase is Phase.PARKED and n.task_id]
    if not parked:
        return
    after = world.aftermath(logged=True)
    for node in parked:
        if after.could_lose([read.incarnation for read in node.reads], world.seen) is None:
            world.needless_waits += 1


# --- when something is taken back -------------------------------------------------------------------------------------


def an_undo_is_due(world: "World", command: ev.Undo, given: tuple[Made, ...]) -> None:
    """What is undone is over, failed or superseded or rolled back, and nothing that built on it still stands."""
    attempt, starts, ended = command.attempt, world.outside.starts, world.state.ended
    start = starts.get(attempt)
    durable = {r.attempt for r in world.log if isinstance(r, Intent)}
    kept(attempt in durable, f"{attempt} is undone, and its intent is not durable")
    if start is None:
        return  # the controller died between intent and start
    kept(given == start.inputs, f"the undo of {attempt} is given {given}, not {start.inputs}")
    kept(not start.running or start.policy.fences, f"{attempt} is undone while it runs")
    superseded = world.plan is not None and any(i.attempt == attempt for i in world.plan.roll_back)
    rolling_back = ended in ("failed", "cancelled")
    kept(superseded or rolling_back or start.failed, f"{attempt} is undone for no reason")
    if rolling_back and not superseded and not start.failed:
        ends = [r for r in world.log if isinstance(r, End)]
        kept(bool(ends) and ends[0].status == ended, f"{attempt} is undone before the end is durable")
        for other in starts.values():
            if other.running and other.effects is not Effects.NONE:
                kept(other.refused, f"{attempt} is rolled back while {other.attempt} runs")
    made = world.made.get(attempt)
    if made is not None:
        for other in starts.values():
            if other is not start and other.effects is Effects.ROLLBACK and not other.undone:
                kept(made not in everything_behind(list(other.inputs)), f"{attempt} is undone before {other.attempt}")


def a_discard_is_safe(world: "World", key: str) -> None:
    """A message is deleted only after the record that took it is durable."""
    if key.startswith("cancel"):
        kept(any(isinstance(r, End) for r in world.log), "the wish to cancel is deleted before the end is durable")
        return
    taken = any(isinstance(r, Outcome) and r.message == key for r in world.log)
    kept(taken, f"message {key} is deleted, and no durable record took it")


# --- when a life begins -----------------------------------------------------------------------------------------------


def restating_changes_nothing(history: History) -> None:
    """What an heir writes down of a history folds into the same history."""
    again = History.of(history.records())
    for field in ("submission", "outcomes", "current", "counts", "intents", "undone", "settled", "deadlines", "end"):
        kept(getattr(again, field) == getattr(history, field), f"restating changes {field}")
    kept(again.rolled_back == history.rolled_back, "restating changes rolled_back")
    kept(again.attention == history.attention, "restating changes attention")
    kept(list(again.intents) == list(history.intents), "restating changes the order of intents")
    kept(History.of(again.records()).records() == again.records(), "restating twice says something else")


def the_plan_is_the_largest_cut(world: "World") -> None:
    """What the planner found in one pass is what going round until nothing changes finds."""
    plan, after = world.plan, world.aftermath()
    assert plan is not None
    kept(set(plan.load) == after.load, f"loads {set(plan.load) ^ after.load} otherwise than the largest cut")
    kept(dict(plan.rerun) == after.kept, f"runs {dict(plan.rerun)}, not {after.kept}")
    kept([i.attempt for i in plan.roll_back] == after.roll_back, "rolls back something else")
    kept({i.attempt for i in plan.resolve} == after.resolve, "asks about something else")


def a_restored_state_is_what_its_records_say(world: "World") -> None:
    """A finished node reads exactly what its record names."""
    plan, after = world.plan, world.aftermath()
    assert plan is not None
    for task_id in plan.load:
        node = world.state.nodes[task_id]
        record = after.outcomes[node.incarnation]
        kept(node.finished, f"{node} is loaded and not finished")
        if node.what != "error":
            kept(
                {r.incarnation for r in node.reads} == set(record.reads),
                f"{node} reads {node.reads}, not {record.reads}",
            )
        kept(node.committed == (node.incarnation in after.stored), f"{node} is committed or not")
    for task_id in world.state.nodes:
        kept(task_id in plan.load or task_id in plan.rerun, f"the plan forgot {task_id}")


def counters_are_right(world: "World") -> None:
    """The counters that spare the machine a scan are what a scan would find."""
    nodes = world.state.nodes.values()
    if len(nodes) > 12 or world.state.ended is not None:
        return
    for node in nodes:
        unfinished = sum(not reader.finished for reader in node.readers)
        kept(node.pending_readers == unfinished, f"{node} counts {node.pending_readers} readers, not {unfinished}")
        if node.finished:
            left = sum(not reader.closed for reader in node.readers)
            kept(node.open_readers == left, f"{node} counts {node.open_readers} open readers, not {left}")
            over = node.effects is Effects.NONE or node.completed
            closed = node.committed or (left == 0 and over and not node.is_result)
            kept(node.closed == closed, f"{node} is closed: {node.closed}")


# --- when all is over -------------------------------------------------------------------------------------------------


def all_is_explained(world: "World") -> None:
    """One incarnation of each task explains the answer and every effect that was not undone."""
    answers = world.outside.told
    kept(bool(answers), "nobody was answered")
    kept(len(set(answers)) == 1, f"different answers were given: {answers}")
    status, result = answers[-1]
    nodes = world.at_the_end
    roots: list[Made] = [] if result is None else [result]
    standing: Counter[str] = Counter()
    keys: dict[str, set[str]] = {}
    for start in world.outside.starts.values():
        if not start.stands:
            continue
        keys.setdefault(start.task_id, set()).add(start.key)
        standing[start.task_id] += 1
        roots.extend(start.inputs)
        if start.effects is not Effects.IDEMPOTENT:
            kept(standing[start.task_id] == 1, f"{start.task_id} happened twice")
        if status != "succeeded":
            kept(start.effects is not Effects.ROLLBACK, f"{start.task_id} was not rolled back")
        if not world.accepted:
            kept(start.task_id in nodes, f"{start.task_id} happened in a continuation that no longer counts")
    seen: dict[str, Made] = {}
    messages: dict[str, str] = {}
    for made in everything_behind(roots):
        known = seen.setdefault(made.task_id, made)
        kept(known is made or world.accepted, f"two incarnations of {made.task_id} were seen: {known} and {made}")
        if made.nonce.startswith("message"):
            kept(messages.setdefault(made.nonce, made.task_id) == made.task_id, f"{made.nonce} fed two nodes")
    if status == "succeeded":
        policies = {start.task_id: start.policy for start in world.outside.starts.values()}
        for task_id, what in nodes.items():
            kept(what != "", f"{task_id} never finished")
            if task_id not in policies:
                continue
            effects = policies[task_id].effects
            if effects is not Effects.NONE and what in ("value", "continuation"):
                kept(standing[task_id] >= 1, f"{task_id} never happened")
            if effects is Effects.ROLLBACK and what == "caught":
                kept(standing[task_id] == 0, f"{task_id} failed and was not undone")


_ = Any
