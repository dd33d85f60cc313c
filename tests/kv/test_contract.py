"""The contract of a key-value store, kept by a store in a file and by the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_subject import StoreSubject

from mitoframe.testing.contracts_kv import KeyValueContract
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
