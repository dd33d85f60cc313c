from __future__ import annotations

import time

from mitoframe.drivers.clock import ManualClock, SeededRandomness, SystemClock, SystemRandomness


def test_the_system_clock_is_the_wall_clock_in_milliseconds():
    before = time.time() * 1000
    now_ms = SystemClock().now_ms()
    after = time.time() * 1000

    assert before - 1 <= now_ms <= after + 1


def test_a_manual_clock_moves_only_when_told():
    clock = ManualClock(now_ms=1_000)
    assert (clock.now_ms(), clock.now_ms(), clock.monotonic()) == (1_000, 1_000, 0.0)

    clock.advance(2_500)

    assert (clock.now_ms(), clock.monotonic()) == (3_500, 2.5)


def test_setting_a_manual_clock_back_does_not_touch_monotonic_time():
    clock = ManualClock(now_ms=5_000)
    clock.advance(100)

    clock.set(7)

    assert (clock.now_ms(), clock.monotonic()) == (7, 0.1)


def test_a_seed_gives_the_same_values_for_ever():
    assert SeededRandomness(0).hex128() == "20b58b931cd7d279947c2e40b0c17b98"
    first, second = SeededRandomness(1), SeededRandomness(1)
    assert [first.hex128() for _ in range(5)] == [second.hex128() for _ in range(5)]
    assert SeededRandomness(1).hex128() != SeededRandomness(2).hex128()


def test_two_systems_of_randomness_do_not_agree():
    assert SystemRandomness().hex128() != SystemRandomness().hex128()
