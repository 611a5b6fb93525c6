from exoflow.plugins.observing import Moment
from exoflow_bench.demo.account import Account, After, Before, account, ranges
from exoflow_bench.demo.timeline import bars
from exoflow_bench.demo.trail import Line

READS = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["d", "a"], "f": ["e"]}


def trail(*words):
    began = {"+": Moment.TASK_STARTED, "*": Moment.TASK_RETRIED, "-": Moment.TASK_FINISHED}
    return [Line(float(at), began[word[0]], word[1:]) for at, word in enumerate(words)]


# a and c were kept; d ran and was lost; e was cut off; f never came to run.
KILLED = trail("+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d", "+e")
RESUMED = trail("*d", "-d", "+e", "-e", "+f", "-f")


def test_every_task_is_accounted_for():
    assert account(READS, KILLED, ["a", "c"], RESUMED, "f") == [
        Account("a", Before.COMMITTED, After.LOADED),
        Account("b", Before.NOT_KEPT, After.UNTOUCHED),
        Account("c", Before.COMMITTED, After.LOADED),
        Account("d", Before.LOST, After.RERUN),
        Account("e", Before.LOST, After.RERUN),
        Account("f", Before.NOT_STARTED, After.RUN),
    ]


def test_what_was_kept_and_ran_again_all_the_same_shows():
    found = account(READS, KILLED, ["a", "c", "d"], RESUMED, "f")
    assert found[3] == Account("d", Before.COMMITTED, After.RERUN)


def test_a_result_that_was_there_is_loaded():
    found = account({"a": [], "b": ["a"]}, trail("+a", "-a", "+b", "-b"), ["a", "b"], [], "b")
    assert [task.after for task in found] == [After.UNTOUCHED, After.LOADED]


def test_a_bar_that_no_end_was_seen_of_ends_with_its_process():
    tasks = account(READS, KILLED, ["a", "c"], RESUMED, "f")
    drawn = {bar.task_id: bar for bar in bars(KILLED, tasks, ended_at=9.5, before=True)}
    assert (drawn["d"].begin, drawn["d"].end, drawn["d"].state) == (6.0, 7.0, Before.LOST)
    assert (drawn["e"].begin, drawn["e"].end, drawn["e"].state) == (8.0, 9.5, Before.LOST)
    again = [(bar.task_id, bar.state) for bar in bars(RESUMED, tasks, ended_at=9.5, before=False)]
    assert again == [("d", After.RERUN), ("e", After.RERUN), ("f", After.RUN)]


def test_ids_are_told_in_ranges():
    ids = ["split", "aug_0", "train_0", "aug_1", "train_1", "aug_2", "train_4", "train_7", "train_8", "train_9"]
    assert ranges(ids) == "split, aug_0 to 2, train_0 and 1, train_4, train_7 to 9"
    assert ranges([]) == ""
