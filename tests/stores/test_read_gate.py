from __future__ import annotations

import asyncio
from collections.abc import Callable

from millrace.stores.read_gate import ReadGate


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the point is to give way, turn by turn
        await asyncio.sleep(0)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Party:
    """A task that holds the gate until told to leave."""

    def __init__(self, gate: ReadGate, kind: str, diary: list[str], name: str) -> None:
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(gate, kind, diary, name))

    async def _run(self, gate: ReadGate, kind: str, diary: list[str], name: str) -> None:
        async with gate.read() if kind == "read" else gate.write():
            diary.append(f"+{name}")
            await self.leave.wait()
            diary.append(f"-{name}")


def run(scenario) -> list[str]:  # type: ignore[no-untyped-def]
    diary: list[str] = []
    gate = ReadGate()

    async def go() -> None:
        await asyncio.wait_for(scenario(gate, diary), 5)
        assert gate.n_readers == 0

    asyncio.run(go())
    return diary


def test_readers_share_and_the_writer_waits_for_them() -> None:
    async def scenario(gate: ReadGate, diary: list[str]) -> None:
        a, b = Party(gate, "read", diary, "a"), Party(gate, "read", diary, "b")
        await settle()
        w = Party(gate, "write", diary, "w")
        await settle()
        for party in (a, b, w):
            party.leave.set()
            await settle()

    assert run(scenario) == ["+a", "+b", "-a", "-b", "+w", "-w"]


def test_readers_that_come_while_the_writer_waits_stay_behind_it() -> None:
    async def scenario(gate: ReadGate, diary: list[str]) -> None:
        a = Party(gate, "read", diary, "a")
        await settle()
        w = Party(gate, "write", diary, "w")
        await settle()
        b = Party(gate, "read", diary, "b")
        await settle()
        for party in (a, w, b):
            party.leave.set()
            await settle()

    assert run(scenario) == ["+a", "-a", "+w", "-w", "+b", "-b"]


def test_waiting_readers_get_their_turn_before_the_writer_comes_back() -> None:
    async def scenario(gate: ReadGate, diary: list[str]) -> None:
        w1 = Party(gate, "write", diary, "w1")
        await settle()
        r = Party(gate, "read", diary, "r")
        await settle()
        w2 = Party(gate, "write", diary, "w2")
        await settle()
        for party in (w1, r, w2):
            party.leave.set()
            await settle()

    assert run(scenario) == ["+w1", "-w1", "+r", "-r", "+w2", "-w2"]


def test_a_cancelled_writer_lets_the_readers_behind_it_in() -> None:
    async def scenario(gate: ReadGate, diary: list[str]) -> None:
        a = Party(gate, "read", diary, "a")
        await settle()
        w = Party(gate, "write", diary, "w")
        await settle()
        b = Party(gate, "read", diary, "b")
        await settle()
        w.task.cancel()
        await settle()
        assert diary == ["+a", "+b"]
        a.leave.set()
        b.leave.set()
        await settle()

    run(scenario)


def test_a_reader_cancelled_in_the_turn_it_was_let_in_leaves_again() -> None:
    async def scenario(gate: ReadGate, diary: list[str]) -> None:
        w = Party(gate, "write", diary, "w")
        await settle()
        r = Party(gate, "read", diary, "r")
        await settle()
        w.leave.set()
        await until(lambda: not "-w" not in diary)
        r.task.cancel()
        await settle()
        assert gate.n_readers == 0
        again = Party(gate, "write", diary, "again")
        await settle()
        again.leave.set()
        await settle()

    assert run(scenario)[-2:] == ["+again", "-again"]


def test_a_writer_cancelled_in_the_turn_it_was_let_in_leaves_again() -> None:
    async def scenario(gate: ReadGate, diary: list[str]) -> None:
        r = Party(gate, "read", diary, "r")
        await settle()
        w = Party(gate, "write", diary, "w")
        await settle()
        r.leave.set()
        await until(lambda: not "-r" not in diary)
        w.task.cancel()
        await settle()
        last = Party(gate, "read", diary, "last")
        await settle()
        last.leave.set()
        await settle()

    assert run(scenario)[-2:] == ["+last", "-last"]


def test_an_error_inside_lets_go_of_the_gate() -> None:
    async def scenario(gate: ReadGate, _diary: list[str]) -> None:
        for enter in (gate.read, gate.write):
            try:
                async with enter():
                    raise ValueError
            except ValueError:
                pass
        async with gate.write():
            pass

    run(scenario)
