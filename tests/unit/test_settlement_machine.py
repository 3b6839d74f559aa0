"""CM-50 by a machine: generated runs, long driven ones that take every step, and faults that its invariants see."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from settlement_machine import ACCOUNTS, CHAINS, SettlementMachine
from worlds import MAKER, OWNER, A, B, usd

TestSettlement = SettlementMachine.TestCase
TestSettlement.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def _driven(seed: int, steps: int) -> SettlementMachine:
    random = Random(seed)
    machine = SettlementMachine()
    machine.begin([random.randint(-300, 500) for _ in range(12)], 200)
    for _ in range(steps):
        chain_id, part = random.choice(CHAINS), random.random()
        machine.deposit(chain_id, random.choice(ACCOUNTS), random.randint(1, 50))
        machine.trade(chain_id, *random.sample(ACCOUNTS, 2), random.randint(1, 10**20))
        machine.withdraw(random.choice(CHAINS), random.choice(ACCOUNTS), part)
        machine.propose(by_fund=random.random() < 0.3)
        if random.random() < 0.2:
            machine.crash()
        if random.random() < 0.5:  # what is proposed is judged at later blocks
            machine.blocks_become_final(random.choice(CHAINS), 1.0)
        machine.sign()
        machine.sign_batch()
        machine.post(random.choice(CHAINS))
        for _ in range(6):
            machine.apply(random.randint(0, 1000))
        machine.deliver(random.randint(0, 1000), 1)
        if random.random() < 0.3:
            machine.blocks_are_reorganised_away(random.choice(CHAINS), random.random())
        machine.blocks_become_final(random.choice(CHAINS), random.random())
        machine.ledgers_add_up()
        machine.nobody_is_in_two_cycles()
        machine.positions_cancel()
    return machine


def test_cm50_the_machine_does_every_step_also_over_a_long_time() -> None:
    """CM-50: what a machine that never settles anything would pass proves nothing."""
    done: Counter[str] = Counter()
    for seed in range(4):
        machine = _driven(seed, 60)
        done += machine.done
        machine.come_to_rest()
    assert set(done) == {
        "deposit",
        "withdraw",
        "trade",
        "propose",
        "refuse",
        "sign",
        "cover",
        "crash",
        "batch",
        "post",
        "apply",
        "apply: refused",
        "ship",
        "ship: refused",
        "arrive",
        "application undone",
    }
    assert min(done["sign"], done["cover"], done["ship"], done["arrive"], done["application undone"]) >= 5, done


def _with_a_cycle() -> SettlementMachine:
    """OWNER is to move 40 from A to B, A holds the batch."""
    machine = SettlementMachine()
    machine.begin([100, 0, 0, 0, -40, 0, 0, 0, 0, 0, 0, 0], 500)
    machine.deposit(A, MAKER, 100)
    machine.blocks_become_final(A, 1.0)
    machine.propose(by_fund=False)
    machine.sign()
    machine.sign_batch()
    machine.post(A)
    machine.ledgers_add_up()
    return machine


def test_the_invariants_can_fail() -> None:
    """CM-50: an entry applied twice, one half of it forgotten, and tokens that arrive twice are all seen."""
    machine = _with_a_cycle()
    leaf = next(entry for entry in machine.signed if entry.account_id == OWNER and entry.chain_id == A)
    once = machine.head[A].applied(leaf)
    assert once is not None
    assert once.applied(leaf) is None
    machine.mine(A, once, "apply")
    machine.ledgers_add_up()
    machine.mine(A, once.booked(OWNER, leaf.cash_delta).claiming(leaf.cash_delta), "apply")
    with pytest.raises(AssertionError):
        machine.ledgers_add_up()

    machine = _with_a_cycle()
    machine.signed = [entry for entry in machine.signed if entry.chain_id != B]
    with pytest.raises(AssertionError):
        machine.nobody_is_in_two_cycles()

    machine = _with_a_cycle()
    machine.mine(B, machine.head[B].tokens(usd(40)).claiming(-usd(40)), "arrive")
    with pytest.raises(AssertionError):
        machine.ledgers_add_up()
