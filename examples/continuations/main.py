"""A workflow that does not know its own length: a task looks at a result and returns what is to be done next."""

import exoflow


@exoflow.task(effects="none", deterministic=True)
def improve(guess: float, number: float) -> float:
    return (guess + number / guess) / 2


@exoflow.task(effects="none", deterministic=True)
def until_good_enough(guess: float, number: float, rounds: int) -> float:
    if abs(guess * guess - number) < 1e-9:
        print(f"good enough after {rounds} rounds")
        return round(guess, 6)
    better = improve.bind(guess, number)
    return exoflow.continuation(until_good_enough.bind(better, number, rounds + 1))


@exoflow.task(effects="none")
def half(n: int) -> int:
    return n // 2


@exoflow.task(effects="none")
def triple_and_one(n: int) -> int:
    return 3 * n + 1


@exoflow.task(effects="none", deterministic=True)
def collatz(n: int, seen: list[int]) -> list[int]:
    if n == 1:
        return [*seen, 1]
    branch = half if n % 2 == 0 else triple_and_one
    return exoflow.continuation(collatz.bind(branch.bind(n), [*seen, n]))


def main() -> None:
    with exoflow.Engine(executor="inline") as engine:
        print("root of 2:", engine.run(until_good_enough.bind(1.0, 2.0, 0)))
        print("from 6:", engine.run(collatz.bind(6, []), workflow_id="six"))
        print("the DAG had 1 task, and grew to", len(engine.show("six").tasks))


if __name__ == "__main__":
    main()
