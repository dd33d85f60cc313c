"""The contract of a key-value store, kept by a store in a file, by two of one file, and by the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from store_subject import StoreSubject

from mitoframe import kv
from mitoframe.testing.contracts_kv import (
    ChangeContract,
    CompactionContract,
    KeyValueContract,
    RangeContract,
    RestartContract,
    ThreadContract,
    TxnContract,
    WatchContract,
)
from mitoframe.testing.machine_kv import MemorySubject, Subject


class TestKeyValueStore(KeyValueContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        subject = StoreSubject(tmp_path / "store.kv")
        yield subject
        subject.close()


class TestReference(KeyValueContract):
    @pytest.fixture
    def subject(self) -> Subject:
        return MemorySubject()


class Alternating:
    """Two stores of one file; each call goes to the other one."""

    def __init__(self, stores: Sequence[kv.KeyValueStore]) -> None:
        self._turns = cycle(stores)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._turns), name)


class SharedSubject(StoreSubject):
    def _open(self) -> None:
        super()._open()
        self.store = Alternating((self.store, kv.open(self.path, now=self.clock.monotonic)))

    def reopen(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self.store.close()
        self.store.close()


class TestTwoStoresOfOneFile(
    RangeContract, ChangeContract, TxnContract, CompactionContract, WatchContract, RestartContract, ThreadContract
):
    """All but leases, whose time each store reckons from when it heard of them."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        subject = SharedSubject(tmp_path / "store.kv")
        yield subject
        subject.close()
