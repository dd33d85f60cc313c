from __future__ import annotations

import pytest

from mitoframe.model import errors
from mitoframe.model.errors import CorruptionError, MitoError, StoreLockedError, TableNotFoundError, unknown_name

TREE = {
    "InvalidInputError": (MitoError, ValueError),
    "SchemaMismatchError": (errors.InvalidInputError, TypeError),
    "ConfigError": (errors.InvalidInputError, ValueError),
    "TableNotFoundError": (MitoError, KeyError),
    "TableExistsError": (MitoError,),
    "SnapshotExpiredError": (MitoError,),
    "CompactedError": (MitoError,),
    "FutureRevisionError": (MitoError, ValueError),
    "ReadOnlyError": (MitoError,),
    "ConflictError": (MitoError,),
    "FencedError": (errors.ConflictError,),
    "BusyError": (MitoError,),
    "StoreLockedError": (errors.BusyError,),
    "LimitExceededError": (MitoError,),
    "UnavailableError": (MitoError, OSError),
    "DiskFullError": (errors.UnavailableError, OSError),
    "UnknownOutcomeError": (errors.UnavailableError, OSError),
    "CorruptionError": (MitoError,),
    "ClosedError": (MitoError,),
    "PoisonedError": (MitoError,),
}


@pytest.mark.parametrize("name", TREE)
def test_each_error_is_caught_by_its_parent_and_its_built_in_twin(name):
    for parent in TREE[name]:
        assert issubclass(getattr(errors, name), parent)


def test_the_tree_holds_every_error_of_the_module():
    found = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, MitoError)
    } - {"MitoError"}

    assert found == set(TREE)
    assert set(TREE) <= set((errors.__doc__ or "").replace("(", " ").split())


def test_only_a_lost_race_is_worth_a_retry():
    assert errors.ConflictError.retryable
    assert not errors.FencedError.retryable


def test_a_missing_table_is_named_with_the_nearest_and_without_quotes_around():
    error = TableNotFoundError("cqu", ["cpu", "disk"])

    assert str(error) == "no table 'cqu'; did you mean 'cpu'? There are 'cpu', 'disk'."
    assert (error.name, error.existing) == ("cqu", ("cpu", "disk"))


def test_an_unknown_name_is_told_what_there_is():
    assert unknown_name("tag", "x", []) == "no tag 'x'; there are no tags yet."
    assert unknown_name("tag", "x", ["host"]) == "no tag 'x'. There are 'host'."
    assert unknown_name("tag", "x", [f"t{i}" for i in range(10)]).endswith("'t7' and 2 more.")


def test_a_locked_store_names_the_holder_and_the_way_in():
    assert "process 7 on lab since noon" in str(StoreLockedError("/data", 7, "lab", "noon"))
    assert "by another process. " in str(StoreLockedError("/data", None, None, None))
    assert 'mode="r"' in str(StoreLockedError("/data", 7, "lab", "noon"))


def test_corruption_names_the_place_and_both_values():
    error = CorruptionError("the record is damaged", path="a/b.wal", offset=12, expected="1", found="2")

    assert str(error) == (
        "a/b.wal at byte 12: the record is damaged (expected 1, found 2). Restore this file from a copy."
    )
    assert (error.path, error.offset, error.expected, error.found) == ("a/b.wal", 12, "1", "2")
    assert str(CorruptionError("gone", path="x", fix="Wait.")) == "x: gone. Wait."
