from __future__ import annotations

import random
import sys
import threading
import time
from threading import Lock

import pytest
from gates import Gate as Barrier
from gates import Interruptible, Task, interrupted, wait_until

from mitoframe.model.errors import BusyError
from mitoframe.region.gate import Gate

LONG_MS = 10_000


def through(gate: Gate, barrier: Barrier, steps: list[str] | None = None, name: str = "") -> None:
    """Go through, and stay inside until the barrier opens."""
    ticket = Lock()
    with ticket:
        gate.enter(ticket, LONG_MS)
        if steps is not None:
            steps.append(name)
        barrier.wait()


def alone(gate: Gate, barrier: Barrier, steps: list[str] | None = None) -> None:
    ticket = Lock()
    with ticket:
        gate.enter_alone(ticket, LONG_MS)
        if steps is not None:
            steps.append("alone")
        barrier.wait()


def closed() -> Barrier:
    barrier = Barrier()
    barrier.close()
    return barrier


def test_writes_go_through_side_by_side():
    gate, barrier = Gate(), closed()

    tasks = [Task(lambda: through(gate, barrier)) for _ in range(3)]
    for _ in tasks:
        barrier.reached()
    barrier.open()

    for task in tasks:
        task.result()


def test_who_goes_alone_waits_for_those_inside_and_keeps_everybody_out():
    gate, inside, outside = Gate(), closed(), closed()
    steps: list[str] = []
    first = Task(lambda: through(gate, inside))
    inside.reached()

    change = Task(lambda: alone(gate, outside, steps))
    wait_until(gate.waiting)
    time.sleep(0.02)
    assert steps == []
    inside.open()
    first.result()
    outside.reached()
    others = [Task(lambda: through(gate, Barrier(), steps, "in")), Task(lambda: alone(gate, Barrier(), steps))]
    time.sleep(0.02)
    assert steps == ["alone"]
    outside.open()

    change.result()
    for task in others:
        task.result()
    assert sorted(steps) == ["alone", "alone", "in"]
    assert not gate.waiting()


def test_newcomers_wait_behind_one_who_waits_to_go_alone():
    gate, inside = Gate(), closed()
    steps: list[str] = []
    first = Task(lambda: through(gate, inside))
    inside.reached()
    change = Task(lambda: alone(gate, Barrier(), steps))
    wait_until(gate.waiting)

    late = Task(lambda: through(gate, Barrier(), steps, "late"))
    time.sleep(0.02)
    assert steps == []
    inside.open()

    for task in (first, change, late):
        task.result()
    assert steps == ["alone", "late"]


def test_who_waits_too_long_is_told_and_leaves_nothing_behind():
    gate, barrier = Gate(), closed()
    ticket = Lock()
    change = Task(lambda: alone(gate, barrier))
    barrier.reached()

    with ticket, pytest.raises(BusyError, match=r"waited 20 ms for a change of the table .* nothing was changed"):
        gate.enter(ticket, 20)
    with ticket, pytest.raises(BusyError, match="waited 20 ms for another change of the table"):
        gate.enter_alone(ticket, 20)
    barrier.open()
    change.result()

    writer_barrier = closed()
    writer = Task(lambda: through(gate, writer_barrier))
    writer_barrier.reached()
    with ticket, pytest.raises(BusyError, match="waited 20 ms for writes that are under way"):
        gate.enter_alone(ticket, 20)
    through(gate, Barrier())
    writer_barrier.open()
    writer.result()
    alone(gate, Barrier())


def test_an_error_inside_opens_the_gate_again():
    gate = Gate()

    def fail() -> None:
        ticket = Lock()
        with ticket:
            gate.enter_alone(ticket, LONG_MS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    through(gate, Barrier())
    alone(gate, Barrier())


def test_one_ticket_may_be_held_at_several_gates():
    first, second, ticket = Gate(), Gate(), Lock()

    with ticket:
        first.enter(ticket, LONG_MS)
        second.enter(ticket, LONG_MS)
        for gate in (first, second):
            other = Lock()
            with other, pytest.raises(BusyError):
                gate.enter_alone(other, 10)

    for gate in (first, second):
        alone(gate, Barrier())


def test_those_inside_and_the_one_alone_never_meet():
    gate, guard = Gate(), threading.Lock()
    inside, met = [], []

    def note(change: int) -> None:
        with guard:
            inside.append(change)
            met.append(sorted(inside))

    def work(number: int) -> None:
        for step in range(40):
            if (step + number) % 8 == 0:
                ticket = Lock()
                with ticket:
                    gate.enter_alone(ticket, LONG_MS)
                    note(1)
                    inside.remove(1)
            else:
                ticket = Lock()
                with ticket:
                    gate.enter(ticket, LONG_MS)
                    note(0)
                    time.sleep(0.0002)
                    with guard:
                        inside.remove(0)

    for task in [Task(lambda number=number: work(number)) for number in range(4)]:
        task.result()

    assert [group for group in met if 1 in group and len(group) > 1] == []
    assert any(len(group) > 1 for group in met), "writes never met: nothing was tested"


@pytest.mark.parametrize("kind", ["enter", "enter_alone"])
def test_a_thread_that_is_interrupted_anywhere_never_leaves_the_gate_shut(kind, monkeypatch):
    # Interruptions also meet what the garbage collector calls, where nobody can raise.
    monkeypatch.setattr(sys, "unraisablehook", [].append)
    gate, chance = Gate(), random.Random(0)

    def go() -> None:
        ticket = Lock()
        with ticket:
            getattr(gate, kind)(ticket, LONG_MS)

    thread = Interruptible(go)
    for _ in range(300):
        time.sleep(chance.random() * 0.0005)
        thread.interrupt()
    thread.stop()

    assert thread.errors, "nothing was interrupted"
    assert {type(error) for error in thread.errors} == {KeyboardInterrupt}
    Task(lambda: through(gate, Barrier())).result()
    Task(lambda: alone(gate, Barrier())).result()


def test_a_writer_that_is_interrupted_while_it_waits_is_not_waited_for():
    gate, barrier = Gate(), closed()
    change = Task(lambda: alone(gate, barrier))
    barrier.reached()

    interruption = interrupted(lambda: through(gate, Barrier()), 0.03)

    assert interruption is not None
    barrier.open()
    change.result()
    alone(gate, Barrier())
