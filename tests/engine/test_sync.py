from __future__ import annotations

import logging
import time

import pytest
from builders import REGION, batch_of, create, metadata_of, open_engine, put, read
from gates import GatedLog, Task, wait_until

from mitoframe.engine.sync import SyncAlways, SyncInterval, SyncNever, make_sync_policy
from mitoframe.model.errors import PoisonedError, UnavailableError
from mitoframe.model.options import MitoConfig
from mitoframe.storage.wal import Wal

METADATA = metadata_of()


@pytest.fixture
def log() -> GatedLog:
    return GatedLog()


@pytest.fixture
def wal(log) -> Wal:
    return Wal(log)


def test_the_setting_chooses_the_policy():
    policies = [make_sync_policy(MitoConfig(sync=sync)) for sync in ("always", "interval", "never")]

    assert [type(policy) for policy in policies] == [SyncAlways, SyncInterval, SyncNever]


def test_always_syncs_at_each_append(wal, log):
    policy = SyncAlways()

    policy.after_append(wal)
    policy.after_append(wal)
    policy.close()

    assert log.syncs == 2


def test_never_syncs_not_even_at_the_end(wal, log):
    policy = SyncNever()

    policy.after_append(wal)
    policy.close()

    assert log.syncs == 0


def test_interval_syncs_once_for_all_appends_within_it(wal, log):
    policy = SyncInterval(20)
    started = time.monotonic()

    for _ in range(5):
        policy.after_append(wal)
    assert log.syncs == 0
    wait_until(lambda: log.syncs == 1)

    assert time.monotonic() - started >= 0.02
    time.sleep(0.05)
    assert log.syncs == 1


def test_an_append_during_a_sync_gets_a_sync_of_its_own(wal, log):
    policy = SyncInterval(5)
    log.gate.close()
    policy.after_append(wal)
    log.gate.reached()

    policy.after_append(wal)
    log.gate.open()

    wait_until(lambda: log.syncs == 2)
    policy.close()
    assert log.syncs == 2


def test_closing_syncs_what_waits_for_it_at_once(wal, log):
    policy = SyncInterval(60_000)
    policy.after_append(wal)

    policy.close()

    assert log.syncs == 1


def test_closing_with_nothing_to_sync_does_nothing(wal, log):
    SyncInterval(60_000).close()

    assert log.syncs == 0


def test_closing_waits_for_a_sync_under_way(wal, log):
    policy = SyncInterval(1)
    log.gate.close()
    policy.after_append(wal)
    log.gate.reached()

    closing = Task(policy.close)
    time.sleep(0.02)
    assert closing.is_alive()
    log.gate.open()

    closing.result()
    assert log.syncs == 1


def test_a_sync_that_fails_is_logged_and_the_next_append_is_tried_again(wal, log, caplog):
    policy = SyncInterval(1)
    log.sync_error = UnavailableError("the disk is gone")

    with caplog.at_level(logging.ERROR, "mitoframe"):
        policy.after_append(wal)
        wait_until(lambda: "the disk is gone" in caplog.text)
    log.sync_error = None
    policy.after_append(wal)

    wait_until(lambda: log.syncs == 1)
    assert "log not synced" in caplog.text


def test_an_engine_that_is_closed_has_synced_and_reports_what_it_could_not(log):
    engine = open_engine(log=log, sync="interval", sync_interval_ms=60_000, flush_on_close=False)
    create(engine, METADATA)
    engine.write(REGION, batch_of(METADATA, [put(0, 1)]))
    assert log.syncs == 0

    log.sync_error = PoisonedError("the log failed")
    with pytest.raises(PoisonedError):
        engine.close()
    engine.close()


@pytest.mark.parametrize("sync", ["always", "interval", "never"])
def test_rows_are_seen_at_once_however_they_are_synced(sync):
    engine = open_engine(sync=sync, sync_interval_ms=5)
    create(engine, METADATA)

    engine.write(REGION, batch_of(METADATA, [put(0, 1, cpu=5)]))

    assert [row[2] for row in read(engine)] == [5]
    engine.close()
