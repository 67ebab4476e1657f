"""Whose turn it is, as a pure function: order, reserving for those ahead, shares, hopeless and stopped tickets."""

from __future__ import annotations

from typing import Any

from swiftshell.claims.decide import AGING_S, decide, in_order
from swiftshell.claims.holders import Holder
from swiftshell.claims.tickets import Ticket
from swiftshell.claims.view import GpuView
from swiftshell.machine.gpu import Gpu

from .bench import uuid, want

ALICE, BOB = 1001, 1002


def gpus(*states: str, holder_uid: int = ALICE) -> list[GpuView]:
    """One GPU a letter: f(ree), h(eld), s(trangers')."""
    names: dict[str, Any] = {"f": "free", "h": "held", "s": "foreign"}
    holder = Holder(holder_uid, "run", "one", "echo", 0.0, None, (0, 0), ())
    return [
        GpuView(Gpu(i, uuid(i), "Fake", 24.0, 0.0, "-"), names[s], holder if s == "h" else None)
        for i, s in enumerate("".join(states))
    ]


def ticket(name: str, count: int = 1, uid: int = ALICE, at: float = 0.0, **fields: Any) -> Ticket:
    return Ticket(name, want(count, **fields), uid, 1, at)


def taken(me: Ticket, others: list[Ticket], view: list[GpuView], **more: Any) -> list[int]:
    found = decide(me, [*others, me], view, more.pop("now_s", 10.0), more.pop("used_h", {}), **more)
    return [g.index for g in view if g.uuid in found.take]


def test_the_first_takes_the_lowest_free_ones() -> None:
    assert taken(ticket("b", 2), [], gpus("hfff")) == [1, 2]


def test_the_second_gets_what_the_first_leaves() -> None:
    first, second = ticket("a", 3), ticket("b", at=1.0)
    assert taken(second, [first], gpus("ffff")) == [3]
    assert taken(second, [first], gpus("hfff")) == []


def test_a_wide_ticket_collects_and_small_ones_behind_it_wait() -> None:
    wide, small = ticket("a", 4), ticket("b", at=1.0)
    assert taken(small, [wide], gpus("hfff")) == []
    assert taken(wide, [small], gpus("ffff")) == [0, 1, 2, 3]


def test_small_ones_may_have_what_the_one_ahead_cannot_use() -> None:
    narrow = ticket("a", 1, allowed=(uuid(0),))
    assert taken(ticket("b", at=1.0), [narrow], gpus("hfhh")) == [1]


def test_what_no_end_of_a_job_could_serve_blocks_nobody() -> None:
    wide, small = ticket("a", 4), ticket("b", at=1.0)
    assert taken(small, [wide], gpus("fffs")) == [0]
    assert decide(wide, [wide, small], gpus("fffs"), 10.0, {}).hopeless


def test_priority_goes_before_submission_and_waiting_lifts() -> None:
    low, normal, quick = ticket("a", priority="low"), ticket("b", at=5.0), ticket("c", at=9.0, priority="interactive")
    assert [t.name for t in in_order([low, normal, quick], 10.0, {})] == ["c", "b", "a"]
    newcomer = ticket("d", at=AGING_S + 1.0)
    assert [t.name for t in in_order([newcomer, low], AGING_S + 2.0, {})] == ["a", "d"]


def test_a_user_leaves_one_gpu_to_others_who_wait() -> None:
    greedy, other = ticket("a"), ticket("b", uid=BOB, at=1.0)
    assert taken(greedy, [], gpus("hhhf")) == [3]
    found = decide(greedy, [greedy, other], gpus("hhhf"), 10.0, {})
    assert (found.take, found.share) == ((), 3)
    assert taken(other, [greedy], gpus("hhhf")) == [3]


def test_who_holds_nothing_may_take_the_whole_machine() -> None:
    assert taken(ticket("a", 4), [ticket("b", uid=BOB, at=1.0)], gpus("ffff")) == [0, 1, 2, 3]


def test_those_whom_only_strangers_keep_waiting_cost_nobody_a_share() -> None:
    assert taken(ticket("a"), [ticket("b", 4, uid=BOB, at=1.0)], gpus("hhfs")) == [2]


def test_one_gpu_is_for_who_came_first() -> None:
    mine, other = ticket("a"), ticket("b", uid=BOB, at=1.0)
    assert decide(mine, [mine, other], gpus("h"), 10.0, {}).share == 1
    assert taken(other, [mine], gpus("f")) == []
    assert taken(mine, [other], gpus("f")) == [0]


def test_a_stopped_one_is_passed_over() -> None:
    stopped, next_one = ticket("a", 4), ticket("b", 4, at=1.0)
    found = decide(next_one, [stopped, next_one], gpus("ffff"), 10.0, {})
    assert (found.take, found.ready) == ((), frozenset({"a"}))
    assert taken(next_one, [stopped], gpus("ffff"), passed={"a"}) == [0, 1, 2, 3]


def test_who_had_less_lately_goes_first_and_small_differences_do_not_count() -> None:
    heavy, light = ticket("a"), ticket("b", uid=BOB, at=1.0)
    assert [t.name for t in in_order([heavy, light], 10.0, {ALICE: 30.0, BOB: 2.0})] == ["b", "a"]
    assert [t.name for t in in_order([heavy, light], 10.0, {ALICE: 2.9, BOB: 1.1})] == ["a", "b"]
    assert taken(heavy, [light], gpus("hhhf"), used_h={ALICE: 30.0}) == []


def test_use_does_not_keep_anybody_waiting_for_ever() -> None:
    heavy, light = ticket("a"), ticket("b", uid=BOB, at=AGING_S + 5.0)
    order = in_order([heavy, light], AGING_S + 6.0, {ALICE: 300.0})
    assert [t.name for t in order] == ["a", "b"]
