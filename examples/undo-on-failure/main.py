"""Books a trip whose payment fails: what was reserved is given back, the last reservation first."""

import exoflow

reserved: list[str] = []


def give_back(what: str) -> None:
    """Accepts that there is nothing to give back: the attempt may have ended before it did anything."""
    if what in reserved:
        reserved.remove(what)
        print("gave back", what)


@exoflow.task(rollback=give_back)
def reserve(what: str) -> str:
    reserved.append(what)
    print("reserved", what)
    return what


@exoflow.task
def charge(card: str, *things: str) -> str:
    if card == "expired":
        raise ValueError("this card has expired")
    return f"paid for {', '.join(things)}"


def trip(card: str) -> exoflow.Node:
    flight = reserve.options(task_id="flight").bind("a flight")
    hotel = reserve.options(task_id="hotel", after=[flight]).bind("a room")
    car = reserve.options(task_id="car", after=[hotel]).bind("a car")
    return charge.bind(card, flight, hotel, car)


def main() -> None:
    with exoflow.Engine() as engine:
        try:
            engine.run(trip("expired"), workflow_id="trip-1")
        except exoflow.TaskFailedError as error:
            print(error)
        print("still reserved:", reserved)
        print({task.task_id: str(task.state) for task in engine.show("trip-1").tasks})
        print(engine.run(trip("card-7"), workflow_id="trip-2"))


if __name__ == "__main__":
    main()
