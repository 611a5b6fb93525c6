"""From what a user bound to a flat DAG: order, edges, templates, inputs, ids."""

import dataclasses
import pickle
from collections import OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

import attrs
import pytest

from exoflow.errors import ArgumentError, CycleError, UnknownOptionError, UnsupportedFormatError, UsageError
from exoflow.graph.dag import Dag, Upstream, compile_dag, fill
from exoflow.graph.node import Input, Node
from exoflow.tasks.task import task


@task
def a(*args: Any, **kwargs: Any) -> None: ...


@task
def b(*args: Any, **kwargs: Any) -> None: ...


@task
def c(*args: Any, **kwargs: Any) -> None: ...


@attrs.frozen
class Frozen:
    inside: Any
    _private: Any = None


@dataclasses.dataclass(frozen=True)
class Data:
    inside: Any


class Named(NamedTuple):
    inside: Any


def ids(dag: Dag) -> list[str]:
    return [spec.task_id for spec in dag.nodes]


def given(root: Node, results: list[Any], **inputs: Any) -> Any:
    """Return the first argument that the root is called with when its upstream nodes gave *results*."""
    spec = compile_dag(root, inputs).root
    assert len(spec.deps) == len(results)
    return fill(spec.args, results)[0]


# --- order and edges --------------------------------------------------------------------------------------------------


def test_every_node_comes_after_what_it_depends_on_and_arguments_from_left_to_right() -> None:
    first, second = a.bind(), b.bind()
    dag = compile_dag(c.bind(second, first, x=a.bind(first)))

    assert ids(dag) == ["b", "a", "a_1", "c"]
    assert [spec.deps for spec in dag.nodes] == [(), (), (1,), (0, 1, 2)]
    assert dag.root.task_id == "c"


def test_a_node_that_is_used_twice_runs_once_and_fills_both_places() -> None:
    shared = a.bind()

    assert len(compile_dag(b.bind(shared, [shared])).nodes) == 2
    assert given(b.bind([shared, {"again": shared}]), ["r"]) == ["r", {"again": "r"}]


def test_two_equal_calls_are_two_nodes() -> None:
    assert ids(compile_dag(b.bind(a.bind(1), a.bind(1)))) == ["a", "a_1", "b"]


def test_to_come_after_is_an_edge_without_a_value() -> None:
    first = a.bind()
    spec = compile_dag(b.options(after=[first]).bind(1)).root

    assert (spec.after, spec.deps, spec.args) == ((0,), (), (1,))


def test_to_wait_for_a_commit_is_an_edge_of_its_own() -> None:
    first, second = a.bind(), a.bind()
    spec = compile_dag(b.options(wait_until_committed=[second], after=[first]).bind(second)).root

    assert (spec.deps, spec.after, spec.committed) == ((0,), (1,), (0,))


def test_the_nodes_of_the_dag_that_a_user_holds_stay_as_they_were() -> None:
    first = a.bind()
    arguments = [first]
    root = b.bind(arguments)
    compile_dag(root)

    assert root.args == (arguments,)
    assert arguments == [first]


# --- containers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: [0, x],
        lambda x: (x, 0),
        lambda x: {"k": x},
        Frozen,
        lambda x: Frozen(0, x),
        Data,
        Named,
        lambda x: [{"k": (Frozen(Data([Named(x)])),)}],
    ],
)
def test_a_node_in_a_container_is_an_edge_and_its_result_takes_its_place(wrap: Any) -> None:
    assert given(b.bind(wrap(a.bind())), ["r"]) == wrap("r")


@pytest.mark.parametrize("value", [[1, [2]], {"k": (1,)}, Frozen([1]), Data([1]), Named([1])])
def test_a_container_without_nodes_is_given_as_it_is_not_as_a_copy(value: Any) -> None:
    assert given(b.bind(value), []) is value
    assert given(b.bind([value, a.bind()]), ["r"])[0] is value


def test_containers_lie_in_each_other_at_any_depth() -> None:
    nested: Any = a.bind()
    for _ in range(20_000):
        nested = [nested]
    dag = compile_dag(b.bind(nested))
    found = fill(dag.root.args, ["r"])[0]
    for _ in range(20_000):
        (found,) = found

    assert found == "r"
    assert dag.digest


class Listed(list[Any]):
    pass


@attrs.define
class Later:
    inside: Any = attrs.field(init=False, default=None)


def later(inside: Any) -> Later:
    made = Later()
    made.inside = inside
    return made


@pytest.mark.parametrize("wrap", [Listed, lambda x: OrderedDict(k=x), lambda x: defaultdict(list, k=x), later])
def test_a_node_that_is_an_edge_is_never_given_to_the_task_itself(wrap: Any) -> None:
    assert given(b.bind(wrap([a.bind()])), ["r"]) == wrap(["r"])


@pytest.mark.parametrize(
    ("root", "inputs"),
    [
        (b.bind({a.bind()}), {}),
        (b.bind({a.bind(): 1}), {}),
        (b.bind(Input("x")), {"x": a.bind()}),
        (b.bind(Input("x", default=[a.bind()])), {}),
    ],
    ids=["set", "key", "input", "default"],
)
def test_a_node_where_it_cannot_be_an_edge_is_refused(root: Node, inputs: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="'b'"):
        compile_dag(root, inputs)


def test_a_node_that_is_out_of_place_is_told_with_the_argument_it_is_in() -> None:
    @task
    def lend(book: Any, to: Any) -> None: ...

    with pytest.raises(ArgumentError, match=r"'lend', argument 'to': <node a> in a set") as caught:
        compile_dag(c.bind(lend.bind(1, [Frozen({a.bind()})])))
    assert (caught.value.task, caught.value.argument) == ("lend", "to")
    with pytest.raises(ArgumentError, match=r"argument 'to': <input x> as a key"):
        compile_dag(lend.bind(1, to={(Input("x"),): 1}))


def ring() -> list[Any]:
    made: list[Any] = [1]
    made.append({"again": Frozen(made)})
    return made


def test_a_container_that_contains_itself_is_given_as_it_is() -> None:
    endless = ring()
    root = b.bind([endless, a.bind()])

    assert given(root, ["r"])[0] is endless
    assert pickle.loads(pickle.dumps(compile_dag(root))).digest == compile_dag(root).digest


@pytest.mark.parametrize("inside", [a.bind(), Input("x", 1)], ids=["node", "input"])
@pytest.mark.parametrize("add", [lambda ring, x: ring.append(x), lambda ring, x: ring[1].update(more=x)])
def test_unless_something_in_it_would_have_to_be_replaced(inside: Any, add: Any) -> None:
    endless = ring()
    add(endless, inside)

    with pytest.raises(ArgumentError, match=r"'b', argument '0': a \w+ contains itself"):
        compile_dag(b.bind(endless))


def test_what_is_shared_stays_shared() -> None:
    shared = [a.bind()]
    first, second = given(b.bind([shared, {"k": shared}]), ["r"])

    assert first == ["r"]
    assert second["k"] is first
    for _ in range(100):
        shared = [shared, shared]
    assert given(b.bind(shared), ["r"])


class Point(NamedTuple):
    x: Any
    y: Any


class Labelled(Point):
    label = ""


def test_what_else_a_container_carries_comes_along() -> None:
    labelled = Labelled(a.bind(), 2)
    labelled.label = "home"
    filled = given(b.bind(labelled), ["r"])
    assert (type(filled), filled, filled.label) == (Labelled, ("r", 2), "home")

    grown = defaultdict(list, k=a.bind())
    assert given(b.bind(grown), ["r"])["absent"] == []
    assert given(b.bind(deque([1, a.bind()], maxlen=2)), ["r"]) == deque([1, "r"], maxlen=2)


@attrs.frozen
class Checked:
    inside: Any = attrs.field(validator=attrs.validators.instance_of((Node, str)))
    kept: Any = attrs.field(init=False, default=attrs.Factory(list))


def test_a_field_is_filled_without_calling_the_class_for_a_placeholder_is_not_what_it_expects() -> None:
    checked = Checked(a.bind())
    checked.kept.append(1)
    filled = given(b.bind(checked), ["r"])

    assert (filled.inside, filled.kept) == ("r", [1])
    assert isinstance(checked.inside, Node)


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_an_input_is_filled_wherever_it_stands() -> None:
    assert given(b.bind([Input("x"), {"k": Input("x")}]), [], x=7) == [7, {"k": 7}]


def test_an_input_that_is_absent_takes_its_default_and_none_is_one() -> None:
    assert given(b.bind([Input("x", 1), Input("y", None)]), []) == [1, None]
    assert given(b.bind([Input("x", 1), Input("y", None)]), [], x=2, y=3) == [2, 3]


def test_an_input_without_a_value_is_an_error_that_names_the_task_and_the_input() -> None:
    with pytest.raises(ArgumentError, match=r"'mine'.*'x'.*inputs=") as caught:
        compile_dag(b.bind(a.options(task_id="mine").bind(Input("x"))))

    assert (caught.value.task, caught.value.argument) == ("mine", "x")


def test_an_input_nobody_asks_for_is_an_error_that_says_what_is_asked_for() -> None:
    with pytest.raises(UnknownOptionError, match=r"'z'.*\['x', 'y'\]"):
        compile_dag(b.bind(Input("x", 0), Input("y", 0)), {"z": 1})


# --- errors -----------------------------------------------------------------------------------------------------------


def test_nodes_that_wait_for_each_other_are_an_error_that_names_two_of_them() -> None:
    ring: list[Any] = []
    first = a.bind(ring)
    ring.append(b.bind(c.bind(first)))

    with pytest.raises(CycleError, match=r"<node a> depends on itself, by way of <node c>"):
        compile_dag(first)


def test_a_cycle_is_found_through_after_too_and_below_the_root() -> None:
    ring: list[Any] = []
    first = a.bind(ring)
    ring.append(b.options(after=[first]).bind())

    with pytest.raises(CycleError):
        compile_dag(c.bind(first))


@pytest.mark.parametrize("root", [None, a, [a.bind()], "a"])
def test_what_is_no_node_is_no_dag(root: Any) -> None:
    with pytest.raises(UsageError, match="expected a node"):
        compile_dag(root)


# --- ids --------------------------------------------------------------------------------------------------------------


def test_ids_are_functions_names_counted_in_the_order_of_the_dag() -> None:
    assert ids(compile_dag(c.bind(a.bind(), b.bind(a.bind()), a.bind()))) == ["a", "a_1", "b", "a_2", "c"]


def test_an_id_somebody_chose_is_kept_and_made_up_ones_avoid_it() -> None:
    chosen = b.options(task_id="a_1").bind()

    assert ids(compile_dag(c.bind(a.bind(), a.bind(), a.bind(), chosen))) == ["a", "a_2", "a_3", "a_1", "c"]


def test_an_id_that_two_nodes_chose_is_refused() -> None:
    named = a.options(task_id="mine")

    with pytest.raises(UnknownOptionError, match="'mine' is used by two nodes"):
        compile_dag(b.bind(named.bind(1), named.bind(2)))


@pytest.mark.parametrize("task_id", ["", "a/b", 3])
def test_an_id_is_text_without_a_slash(task_id: Any) -> None:
    with pytest.raises(UnknownOptionError, match="task_id="):
        a.options(task_id=task_id).bind()


# --- storing ----------------------------------------------------------------------------------------------------------


def test_a_stored_dag_is_the_same_dag() -> None:
    first = a.bind(1)
    dag = compile_dag(b.options(after=[first], wait_until_committed=[first]).bind([c.bind(first)], k=Frozen(first)))
    again = pickle.loads(pickle.dumps(dag))

    assert again.digest == dag.digest
    for spec, before in zip(again.nodes, dag.nodes, strict=True):
        assert (spec.task_id, spec.deps, spec.after, spec.committed) == (
            before.task_id, before.deps, before.after, before.committed,
        )  # fmt: skip
        assert (spec.task.function, spec.task.policy) == (before.task.function, before.task.policy)


def test_a_dag_of_a_newer_format_asks_for_a_newer_version() -> None:
    make, (version, rows) = compile_dag(a.bind()).__reduce__()

    with pytest.raises(UnsupportedFormatError, match="a stored DAG"):
        make(version + 1, rows)


def test_a_placeholder_survives_storing() -> None:
    assert pickle.loads(pickle.dumps(Upstream(100))).position == 100


# --- size -------------------------------------------------------------------------------------------------------------


def test_a_chain_of_100_000_nodes_is_compiled_named_and_stored_without_recursion() -> None:
    node = a.bind()
    for _ in range(100_000):
        node = a.bind(node)
    dag = compile_dag(node)

    assert len(dag.nodes) == 100_001
    assert (dag.root.task_id, dag.root.deps) == ("a_100000", (99_999,))
    assert pickle.loads(pickle.dumps(dag)).digest == dag.digest


def test_a_node_may_read_100_000_others() -> None:
    dag = compile_dag(b.bind([a.bind(at) for at in range(100_000)]))

    assert dag.root.deps == tuple(range(100_000))
    assert fill(dag.root.args, list(range(100_000))) == (list(range(100_000)),)
    assert dag.digest


def test_a_chain_of_nodes_that_only_come_after_each_other_needs_no_recursion_either() -> None:
    node = a.bind()
    for _ in range(10_000):
        node = Node(a, (), {}, after=(node,))

    assert compile_dag(node).root.after == (9_999,)
