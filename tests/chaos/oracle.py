"""What `docs/explanation/promises.md` says of a ledger, and nothing else: no rule here knows how the library works."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from exoflow import Node
from exoflow.graph.dag import compile_dag

from .ledger import Line


def check_flow(lines: Sequence[Line], node: Node, past: Sequence[str] | None, *, ends: int = 1) -> None:
    """Check what one workflow did, from its first line to its end.

    Args:
        lines: Its lines of the ledger, in their order.
        node: The DAG.
        past: Of its result; None if it failed.
        ends: How many controllers may have been at it at the same time.
    """
    _check_once(lines, past)
    _check_idempotent(lines)
    _check_rollback(lines, past, alone=ends == 1)
    _check_one_incarnation(lines, past)
    _check_messages(lines)
    if ends == 1:
        _check_nothing_durable_is_lost(lines, node)


def _of(lines: Iterable[Line], promise: str, *what: str) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.promise == promise and line.what in what:
            found[line.task].append(line)
    return found


def _check_once(lines: Sequence[Line], past: Sequence[str] | None) -> None:
    for task, effects in _of(lines, "once", "effect").items():
        assert len(effects) == 1, f"once task {task} happened {len(effects)} times: {effects}"
        if past is not None:
            assert f"{task}@{effects[0].attempt}" in past, f"the result knows nothing of {effects[0]}"
    for task, said in _of(lines, "once", "begin", "resolve").items():
        # Where the receiver fences, each attempt has a key of its own: the one before may have been refused for good.
        keys = {line.key.removesuffix(f"/{line.attempt}") for line in said}
        assert len(keys) == 1, f"once task {task} has several keys: {keys}"


def _check_idempotent(lines: Sequence[Line]) -> None:
    for task, effects in _of(lines, "idempotent", "begin", "effect").items():
        seen = {(line.key, line.past) for line in effects}
        assert len(seen) == 1, f"idempotent task {task} was repeated with another key or other inputs: {seen}"


def _check_rollback(lines: Sequence[Line], past: Sequence[str] | None, *, alone: bool) -> None:
    there: dict[str, set[str]] = defaultdict(set)  # by task: attempts that took effect and were not undone
    undone: set[str] = set()
    for line in lines:
        if line.promise != "rollback":
            continue
        assert line.key == line.attempt, f"an attempt of a rollback task has a key of its own: {line}"
        if line.what == "undo":
            undone.add(line.attempt)
            there[line.task].discard(line.attempt)
        elif line.what == "begin" and alone:
            assert not there[line.task], f"{line} began while {there[line.task]} was not undone"
        elif line.what == "effect":
            assert not there[line.task], f"{line} took effect while {there[line.task]} was not undone"
            assert line.attempt not in undone, f"{line} took effect after it had been undone"
            there[line.task].add(line.attempt)
    for task, attempts in there.items():
        if past is None:
            assert not attempts, f"the workflow failed, and {task}@{attempts} was not undone"
        else:
            assert len(attempts) == 1, f"rollback task {task} is there {len(attempts)} times: {attempts}"
            assert f"{task}@{min(attempts)}" in past, f"the result knows nothing of {task}@{min(attempts)}"
    for mention in past or ():
        assert mention.partition("@")[2] not in undone, f"the result was made of {mention}, which was undone"


def _check_one_incarnation(lines: Sequence[Line], past: Sequence[str] | None) -> None:
    undone = {line.attempt for line in lines if line.what == "undo"}
    used: dict[str, dict[str, str]] = defaultdict(dict)  # by task and attempt: who used it

    def use(mentions: Iterable[str], by: str) -> None:
        for mention in mentions:
            task, _, attempt = mention.partition("@")
            used[task].setdefault(attempt, by)

    for line in lines:
        if line.what == "effect" and line.attempt not in undone:
            use(line.past, f"the effect of {line.task}@{line.attempt}")
    use(past or (), "the result")
    for task, attempts in used.items():
        assert len(attempts) == 1, f"several incarnations of {task} were used: {attempts}"


def _check_messages(lines: Sequence[Line]) -> None:
    heard = {(line.task, line.happened) for line in lines if line.what == "heard"}
    assert heard <= {("told", True), ("untold", False)}, f"one message was sent, and this was heard: {heard}"


def _check_nothing_durable_is_lost(lines: Sequence[Line], node: Node) -> None:
    """A dependent of a `sync` task starts after the commit, so from then on the task may not begin again.

    That holds as long as what it read was not lost: then it is an orphan, and runs again with reason.
    """
    dag = compile_dag(node)
    parents = {spec.task_id: [dag.nodes[at].task_id for at in (*spec.deps, *spec.after)] for spec in dag.nodes}
    lasting: dict[str, bool] = {}
    for spec in dag.nodes:  # parents come first
        policy = spec.task.policy
        whole = all(lasting[parent] for parent in parents[spec.task_id])
        settled = policy.effects in ("idempotent", "once") or whole
        committed = policy.checkpoint == "sync" and settled
        lasting[spec.task_id] = committed or (policy.deterministic and whole)
    sync = {spec.task_id for spec in dag.nodes if spec.task.policy.checkpoint == "sync" and lasting[spec.task_id]}
    committed_by: dict[str, str] = {}
    for line in lines:
        if line.what != "begin":
            continue
        assert line.task not in committed_by, f"{line} began after {committed_by[line.task]}, which rests on it"
        for parent in parents.get(line.task, ()):
            if parent in sync:
                committed_by[parent] = f"{line.task}@{line.attempt}"
