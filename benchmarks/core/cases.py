"""What is measured, and in which order: always in turn with what it is compared to.

A ratio is formed within each round, from neighbours in time, and the median of the rounds counts. Times for one task are
the whole time, from `bind` to the result, divided by the number of tasks. Means are compared with means: a disk's outliers
hit both.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.core import machine
from benchmarks.core.report import Report
from benchmarks.core.workers import Worker, WorkerError

__all__ = ["CASES", "Bench", "Sizes"]

_MIB = 1 << 20


class Sizes:
    """How much of everything.

    Args:
        scale: ``toy`` or ``full``.
    """

    def __init__(self, scale: str) -> None:
        full = scale == "full"
        self.rounds = 5 if full else 1
        self.sync_chain = 1000 if full else 30
        self.fast_chain = 10_000 if full else 100
        self.workflows = 10_000 if full else 100
        self.one_by_one = 500 if full else 10
        self.wide = 100_000 if full else 400
        self.narrow = 1000 if full else 100
        self.narrow_times = 5 if full else 1
        self.array_bytes = (1 << 30) if full else (8 << 20)
        self.array_rounds = 3 if full else 1
        self.imports = 10 if full else 2
        self.syncs = 500 if full else 20
        self.hops = 2000 if full else 100
        self.peer_chain = 100 if full else 5
        self.peer_workflows = 100 if full else 5
        self.counted = 50 if full else 5


class Bench:
    """Where and with what everything is measured.

    Args:
        report: Takes the figures.
        scale: ``toy`` or ``full``.
        folder: On the disk that is to be measured; what is made in it is removed.
        env: Of all processes.
        peer_python: An interpreter that has DBOS; None leaves the peer out.
        peer_urls: Further databases for DBOS, with their names.
    """

    def __init__(
        self,
        report: Report,
        scale: str,
        folder: Path,
        env: dict[str, str],
        peer_python: str | None,
        peer_urls: dict[str, str],
    ) -> None:
        self.report, self.scale, self.folder, self.env = report, scale, folder, env
        self.sizes = Sizes(scale)
        self.peer_python = peer_python
        self.peer_urls = peer_urls
        self._numbers = count()

    def path(self, name: str) -> Path:
        """Return a path that nothing has."""
        return self.folder / f"{name}-{next(self._numbers)}"

    @contextmanager
    def store(self) -> Iterator[str]:
        """Give a folder for a store, and remove it."""
        path = self.path("store")
        try:
            yield str(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def subject(self, **options: Any) -> Worker:
        """Start a process that measures ExoFlow."""
        return Worker("benchmarks.core.subject", self.env, **options)

    def measure(self, subject: Worker, function: str, **arguments: Any) -> dict[str, float]:
        """Call a function of the subject in a fresh store; keep what it measured."""
        with self.store() as folder:
            found: dict[str, float] = subject.call(function, folder=folder, **arguments)
        self.report.sample(function, **arguments, **found)
        return found

    def syncs(self) -> float:
        """Measure the disk now: mean seconds of an append with fdatasync."""
        found = machine.fdatasync(self.path("log"), self.sizes.syncs)
        self.report.sample("fdatasync", **found)
        return found["mean_s"]

    def hops(self) -> float:
        """Measure the hop now: seconds there and back."""
        found = machine.hop_future(self.sizes.hops)
        self.report.sample("hop", how="submit().result()", seconds=found)
        return found

    def peers(self, stack: ExitStack) -> dict[str, Worker]:
        """Start DBOS on each database: as it comes, with the write-ahead log, and on those the caller named."""
        found: dict[str, Worker] = {}
        if self.peer_python is None:
            return found
        wanted: dict[str, tuple[str, str | None]] = {
            "SQLite": (f"sqlite:///{self.path('dbos')}.sqlite", None),
            "SQLite, WAL": (f"sqlite:///{self.path('dbos')}.sqlite", "wal"),
            **{name: (url, None) for name, url in self.peer_urls.items()},
        }
        for name, (url, journal_mode) in wanted.items():
            worker = stack.enter_context(Worker("benchmarks.core.peer", self.env, python=self.peer_python))
            launched = worker.call("launch", url=url, journal_mode=journal_mode)
            self.report.sample("dbos", database=name, **launched)
            found[name] = worker
        return found


def the_machine(bench: Bench) -> None:
    """The disk, the three ways to hop, the interpreter."""
    sizes, report = bench.sizes, bench.report
    disk = [machine.fdatasync(bench.path("log"), sizes.syncs * 4) for _ in range(sizes.rounds)]
    for one in disk:
        report.sample("fdatasync", **one)
    report.note(
        "append of 200 bytes + fdatasync",
        f"median {median([d['median_s'] for d in disk]) * 1e3:.3f} ms, mean {median([d['mean_s'] for d in disk]) * 1e3:.3f} ms",
    )
    hops: dict[str, list[float]] = {how: [] for how in machine.HOPS}
    for _ in range(sizes.rounds):
        for how, hop in machine.HOPS.items():
            seconds = hop(sizes.hops)
            report.sample("hop", how=how, seconds=seconds)
            hops[how].append(seconds)
    for how, took in hops.items():
        report.note(f"hop to a thread and back, {how}", f"{median(took) * 1e6:.0f} us")


def sync_chain(bench: Bench) -> None:
    """Chains of durable steps, and DBOS' beside them."""
    sizes, report = bench.sizes, bench.report
    steps: dict[str, list[float]] = {"inline": [], "thread": []}
    ratios: dict[str, list[float]] = {"inline": [], "thread": []}
    theirs: dict[str, list[float]] = {}
    faster: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        subject = stack.enter_context(bench.subject())
        peers = bench.peers(stack)
        for _ in range(sizes.rounds):
            now: dict[str, float] = {}
            for executor in ("inline", "thread"):
                before = bench.syncs()
                took = bench.measure(subject, "chain", executor=executor, mode="sync", length=sizes.sync_chain)
                now[executor] = took["seconds"] / sizes.sync_chain
                steps[executor].append(now[executor])
                ratios[executor].append(now[executor] / ((before + bench.syncs()) / 2))
            for name, peer in peers.items():
                found = peer.call("chain", length=sizes.peer_chain)
                report.sample("dbos chain", database=name, length=sizes.peer_chain, **found)
                theirs.setdefault(name, []).append(found["seconds"] / sizes.peer_chain)
                for executor, step in now.items():
                    faster.setdefault(name, {}).setdefault(executor, []).append(theirs[name][-1] / step)
    for executor in steps:
        report.line(f"sync.{executor}", median(ratios[executor]), f"{median(steps[executor]) * 1e3:.3f} ms a step")
    for name, each in theirs.items():
        ratio = {executor: median(many) for executor, many in faster[name].items()}
        report.note(
            f"DBOS on {name}: a chained step",
            f"{median(each) * 1e3:.2f} ms: {ratio['thread']:.1f} x ours on thread, {ratio['inline']:.1f} x on inline",
        )
    report.line("sync.peer", median(faster["SQLite"]["thread"]) if peers else None, _no_peer(bench))


def fast_chain(bench: Bench) -> None:
    """Chains whose steps need not wait for the disk."""
    sizes, report = bench.sizes, bench.report
    length = sizes.fast_chain
    ratios: dict[str, list[float]] = {}
    took: dict[tuple[str, str], list[dict[str, float]]] = {}
    with bench.subject() as subject:
        for at in range(sizes.rounds):
            for mode in ("async", "skip"):
                before = bench.hops()
                one = bench.measure(subject, "chain", executor="thread", mode=mode, length=length)
                ratios.setdefault(mode, []).append(one["seconds"] / length / ((before + bench.hops()) / 2))
                took.setdefault((mode, "thread"), []).append(one)
                one = bench.measure(subject, "chain", executor="inline", mode=mode, length=length)
                took.setdefault((mode, "inline"), []).append(one)
            for mode in ("async, nondeterministic", "skip, nondeterministic") if at % 2 == 0 else ():
                one = bench.measure(subject, "chain", executor="inline", mode=mode, length=length)
                took.setdefault((mode, "inline"), []).append(one)
    for mode in ("async", "skip"):
        report.line(f"{mode}.thread", median(ratios[mode]), _per_task(took[mode, "thread"], length))
    for mode in ("async", "skip"):
        found = took[mode, "inline"]
        report.line(f"{mode}.inline", median([f["seconds"] for f in found]) / length * 1e6, _per_task(found, length))
    for (mode, executor), found in took.items():
        if "nondeterministic" in mode:
            report.note(f"chain, {mode}, {executor}: a task", _per_task(found, length))


def workflows(bench: Bench) -> None:
    """Many small workflows: at once, and one after the other."""
    sizes, report = bench.sizes, bench.report
    rates: dict[str, list[float]] = {"thread": [], "inline": []}
    one_by_one: list[float] = []
    peer_rates: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        subject = stack.enter_context(bench.subject())
        peers = bench.peers(stack)
        for _ in range(sizes.rounds):
            for executor, found in rates.items():
                one = bench.measure(subject, "at_once", executor=executor, count=sizes.workflows)
                found.append(sizes.workflows / one["seconds"])
            one = bench.measure(subject, "one_by_one", executor="thread", count=sizes.one_by_one)
            one_by_one.append(sizes.one_by_one / one["seconds"])
            for name, peer in peers.items():
                measured = peer_rates.setdefault(name, {})
                one = peer.call("one_by_one", count=sizes.peer_workflows)
                report.sample("dbos one_by_one", database=name, count=sizes.peer_workflows, **one)
                measured.setdefault("one after the other", []).append(sizes.peer_workflows / one["seconds"])
                for how in ("start_workflow", "gather", "4 threads"):
                    one = peer.call("at_once", count=sizes.peer_workflows, how=how)
                    report.sample("dbos at_once", database=name, how=how, count=sizes.peer_workflows, **one)
                    measured.setdefault(how, []).append(sizes.peer_workflows / one["seconds"])
    report.line("workflows.rate", median(rates["thread"]))
    report.note("one-task workflows at once, inline", f"{median(rates['inline']):,.0f} /s")
    report.note("one-task workflows one after the other, thread", f"{median(one_by_one):,.0f} /s")
    for name, measured in peer_rates.items():
        shown = ", ".join(f"{how} {median(rate):.0f} /s" for how, rate in measured.items())
        report.note(f"DBOS on {name}: one-step workflows", shown)
    ratio = None
    if peers:
        # Round by round, against the best it did in that round.
        hows = [rate for how, rate in peer_rates["SQLite"].items() if how != "one after the other"]
        ratio = median([ours / max(theirs) for ours, *theirs in zip(rates["thread"], *hows, strict=True)])
    report.line("workflows.peer", ratio, _no_peer(bench))


def wide(bench: Bench) -> None:
    """One workflow of very many tasks; the same killed half-way and resumed."""
    sizes, report = bench.sizes, bench.report
    narrow: list[float] = []

    def measure_narrow() -> None:
        with bench.subject() as subject:
            for _ in range(sizes.narrow_times):
                one = bench.measure(subject, "wide", executor="thread", width=sizes.narrow)
                narrow.append(one["seconds"] / sizes.narrow)

    measure_narrow()
    with bench.subject() as subject:
        found = bench.measure(subject, "wide", executor="thread", width=sizes.wide)
    measure_narrow()
    with bench.subject() as subject:
        inline = bench.measure(subject, "wide", executor="inline", width=sizes.wide)
    a_task = found["seconds"] / sizes.wide
    report.line(
        "wide.seconds", found["seconds"],
        f"bind {found['bind_s']:.1f} s, start {found['start_s']:.1f} s; cpu {found['cpu_s']:.1f} s",
    )  # fmt: skip
    report.line("wide.memory", found["peak_rss_bytes"] / _MIB)
    report.line("wide.scaling", a_task / median(narrow), f"{a_task * 1e6:.0f} / {median(narrow) * 1e6:.0f} us")
    report.note(
        f"{sizes.wide:,} parallel tasks on inline",
        f"{inline['seconds']:.1f} s, {inline['peak_rss_bytes'] / _MIB:.0f} MiB",
    )
    with bench.store() as folder:
        marker = bench.path("half")
        killed = bench.subject()
        killed.ask(
            "wide_to_be_killed",
            folder=folder,
            executor="thread",
            width=sizes.wide,
            workflow_id="wide",
            marker=str(marker),
        )
        while not marker.exists():
            if killed.process.poll() is not None:
                raise WorkerError("it ended before it could be killed")
            time.sleep(0.001)
        killed.kill()
        marker.unlink()
        with bench.subject() as subject:
            found = subject.call("resume", folder=folder, executor="thread", width=sizes.wide, workflow_id="wide")
    report.sample("resume", width=sizes.wide, **found)
    report.line(
        "resume.first", found["first_task_s"],
        f"{found['ran']:,} tasks ran again; result after {found['seconds']:.1f} s, {found['peak_rss_bytes'] / _MIB:.0f} MiB",
    )  # fmt: skip


def continuations(bench: Bench) -> None:
    """A chain of tasks each of which makes the next, as long as memory allows."""
    sizes, report = bench.sizes, bench.report
    short: list[float] = []

    def measure_short() -> None:
        with bench.subject() as subject:
            for _ in range(sizes.narrow_times):
                found = bench.measure(subject, "continuations", executor="inline", length=sizes.narrow)
                short.append(found["seconds"] / sizes.narrow)

    measure_short()
    with bench.subject() as subject:
        found = bench.measure(subject, "continuations", executor="inline", length=sizes.wide)
    measure_short()
    link = found["seconds"] / sizes.wide
    report.line(
        "continuations", link / median(short),
        f"{link * 1e6:.0f} / {median(short) * 1e6:.0f} us; {found['peak_rss_bytes'] / _MIB:.0f} MiB",
    )  # fmt: skip


def array(bench: Bench) -> None:
    """A large value between two tasks."""
    sizes, report = bench.sizes, bench.report
    size = sizes.array_bytes
    ratios, ours, bare, peaks = [], [], [], []
    with bench.subject() as subject:
        skipped = bench.measure(subject, "array", executor="thread", mode="skip", size_bytes=size)
    for _ in range(sizes.array_rounds):
        with bench.subject() as subject:
            disk = subject.call("bare_write", path=str(bench.path("bare")), size_bytes=size)["seconds"]
            report.sample("bare_write", size_bytes=size, seconds=disk)
        with bench.subject() as subject:
            found = bench.measure(subject, "array", executor="thread", mode="sync", size_bytes=size)
        ratios.append(found["seconds"] / disk)
        ours.append(found["seconds"])
        bare.append(disk)
        peaks.append(found["peak_rss_bytes"])
    report.line(
        "array.skip", 0.0 if skipped["same"] else size / _MIB,
        f"the same memory; {skipped['seconds'] * 1e3:.2f} ms, process' peak {skipped['peak_rss_bytes'] / _MIB:,.0f} MiB",
    )  # fmt: skip
    report.line("array.sync", median(ratios), f"{median(ours):.2f} s; the disk {median(bare):.2f} s")
    report.line("array.memory", max(peaks) / _MIB, f"{(max(peaks) - size) / _MIB:,.0f} MiB besides the array")


def importing(bench: Bench) -> None:
    """The first thing everybody waits for."""
    bare, ours, inside = [], [], []
    code = "import time; t = time.perf_counter(); import exoflow; t = time.perf_counter() - t; open({!r}, 'w').write(str(t))"
    note = bench.path("import")
    machine.start_of_python(bench.env, "import exoflow")  # writes the bytecode
    for _ in range(bench.sizes.imports):
        bare.append(machine.start_of_python(bench.env, "pass"))
        ours.append(machine.start_of_python(bench.env, "import exoflow"))
        machine.start_of_python(bench.env, code.format(str(note)))
        inside.append(float(note.read_text()))
        bench.report.sample("import", bare_s=bare[-1], exoflow_s=ours[-1], statement_s=inside[-1])
    bench.report.line(
        "import", (median(ours) - median(bare)) * 1e3,
        f"interpreter {median(bare) * 1e3:.0f} ms, with exoflow {median(ours) * 1e3:.0f} ms; "
        f"the statement {median(inside) * 1e3:.0f} ms",
    )  # fmt: skip


def main_tasks(bench: Bench) -> None:
    """Tasks of ``__main__`` beside tasks of a module."""
    total = max(10, bench.sizes.workflows // 5)
    rates: dict[bool, list[float]] = {False: [], True: []}
    with Worker("benchmarks.core.main_tasks", bench.env) as worker:
        for _ in range(min(3, bench.sizes.rounds)):
            for of_main, found in rates.items():
                with bench.store() as folder:
                    one = worker.call("at_once", folder=folder, count=total, of_main=of_main)
                bench.report.sample("main_tasks", of_main=of_main, count=total, **one)
                found.append(total / one["seconds"])
    bench.report.note(
        f"{total:,} one-task workflows at once",
        f"task of a module {median(rates[False]):,.0f} /s, of __main__ {median(rates[True]):,.0f} /s",
    )


def durability(bench: Bench) -> None:
    """How often each asks the disk to be sure, counted by strace."""
    strace = shutil.which("strace")
    if strace is None:
        bench.report.note("syncs", "not counted: strace is not installed")
        return
    many = bench.sizes.counted

    def syncs(ask: Callable[[Worker], Any], module: str, python: dict[str, str]) -> int:
        counts = bench.path("strace")
        prefix = [strace, "-f", "-qq", "-c", "-e", "trace=fsync,fdatasync", "-o", str(counts)]
        with Worker(module, bench.env, prefix=prefix, **python) as worker:
            ask(worker)
        rows = [line.split() for line in counts.read_text().splitlines()]
        return sum(
            int(row[3]) for row in rows if row and row[-1] in ("fsync", "fdatasync")
        )  # share, seconds, each, calls

    def compare(name: str, ask: Callable[[Worker, str, int], Any], module: str, **python: str) -> None:
        # What opening takes is the same each time, and a chain of one step is a workflow of one step.
        few = syncs(lambda worker: ask(worker, "chain", 1), module, python)
        chain = (syncs(lambda worker: ask(worker, "chain", many + 1), module, python) - few) / many
        workflow = (syncs(lambda worker: ask(worker, "one_by_one", many + 1), module, python) - few) / many
        bench.report.sample("syncs", system=name, chained_step=chain, workflow=workflow)
        bench.report.note(
            f"{name}: fsync and fdatasync calls", f"{chain:.1f} a chained step, {workflow:.1f} a workflow of one step"
        )

    def ours(worker: Worker, what: str, number: int) -> None:
        with bench.store() as folder:
            if what == "chain":
                worker.call("chain", folder=folder, executor="thread", mode="sync", length=number)
            else:
                worker.call("one_by_one", folder=folder, executor="thread", count=number)

    def theirs(journal_mode: str | None) -> Callable[[Worker, str, int], None]:
        def ask(worker: Worker, what: str, number: int) -> None:
            worker.call("launch", url=f"sqlite:///{bench.path('dbos')}.sqlite", journal_mode=journal_mode)
            worker.call(what, **{"length" if what == "chain" else "count": number})

        return ask

    try:
        compare("ExoFlow", ours, "benchmarks.core.subject")
        if bench.peer_python is not None:
            for name, journal_mode in (("DBOS on SQLite", None), ("DBOS on SQLite, WAL", "wal")):
                compare(name, theirs(journal_mode), "benchmarks.core.peer", python=bench.peer_python)
    except (WorkerError, FileNotFoundError) as error:  # where processes may not be traced
        bench.report.note("syncs", f"not counted: {str(error).strip().splitlines()[-1]}")


def _per_task(found: list[dict[str, float]], length: int) -> str:
    def us(field: str) -> str:
        return f"{median([one[field] for one in found]) / length * 1e6:.1f}"

    return f"{us('seconds')} us a task, {us('bind_s')} of it bind; cpu {us('cpu_s')} us"


def _no_peer(bench: Bench) -> str:
    return "" if bench.peer_python else "DBOS is not installed: --peer-python"


CASES: dict[str, Callable[[Bench], None]] = {
    "machine": the_machine,
    "durability": durability,
    "import": importing,
    "sync-chain": sync_chain,
    "fast-chain": fast_chain,
    "workflows": workflows,
    "main-tasks": main_tasks,
    "wide": wide,
    "continuations": continuations,
    "array": array,
}
