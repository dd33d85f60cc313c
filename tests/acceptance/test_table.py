from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from acceptance.table import RELATED, TABLE, Absent, Entry, Here, Later

TESTS = Path(__file__).parents[1]
HOW_MANY = {
    "alter_test.rs": 19,
    "append_mode_test.rs": 4,
    "apply_staging_manifest_test.rs": 8,
    "basic_test.rs": 17,
    "batch_catchup_test.rs": 2,
    "batch_open_test.rs": 2,
    "bump_committed_sequence_test.rs": 1,
    "catchup_test.rs": 7,
    "close_test.rs": 4,
    "compaction_test.rs": 19,
    "copy_region_from_test.rs": 4,
    "create_test.rs": 11,
    "drop_test.rs": 5,
    "edit_region_test.rs": 8,
    "file_ref_test.rs": 2,
    "filter_deleted_test.rs": 2,
    "flush_test.rs": 18,
    "index_build_test.rs": 17,
    "merge_mode_test.rs": 2,
    "open_test.rs": 17,
    "parallel_test.rs": 1,
    "partition_filter_test.rs": 1,
    "projection_test.rs": 2,
    "prune_test.rs": 7,
    "remap_manifests_test.rs": 4,
    "row_selector_test.rs": 5,
    "scan_corrupt.rs": 1,
    "scan_test.rs": 12,
    "set_role_state_test.rs": 12,
    "skip_wal_test.rs": 10,
    "staging_test.rs": 13,
    "sync_test.rs": 2,
    "truncate_test.rs": 10,
}
HOW_MANY_RELATED = {
    "compaction/scheduler_test.rs": 41,
    "gc/worker_test.rs": 21,
    "manifest/tests/checkpoint.rs": 8,
}
OF_WRITING = (
    "alter_test.rs",
    "append_mode_test.rs",
    "basic_test.rs",
    "batch_open_test.rs",
    "bump_committed_sequence_test.rs",
    "close_test.rs",
    "create_test.rs",
    "drop_test.rs",
    "edit_region_test.rs",
    "filter_deleted_test.rs",
    "flush_test.rs",
    "merge_mode_test.rs",
    "open_test.rs",
    "parallel_test.rs",
    "skip_wal_test.rs",
    "truncate_test.rs",
)
"""The files that have to do with writing."""
OF_READING = (
    "filter_deleted_test.rs",
    "index_build_test.rs",
    "parallel_test.rs",
    "partition_filter_test.rs",
    "projection_test.rs",
    "prune_test.rs",
    "row_selector_test.rs",
    "scan_corrupt.rs",
    "scan_test.rs",
    "sync_test.rs",
)
"""And with reading."""
OF_COMPACTION_AND_HOOKS = (
    "close_test.rs",
    "compaction_test.rs",
    "drop_test.rs",
    "edit_region_test.rs",
    "flush_test.rs",
    "open_test.rs",
    "truncate_test.rs",
)
"""With compaction, hooks and what is dropped, and so have all of `RELATED`. All the rest may still be to come."""

ENTRIES = [(name, entry) for tests in TABLE.values() for name, entry in tests.items()]
ENTRIES_RELATED = [(name, entry) for tests in RELATED.values() for name, entry in tests.items()]
ALL_ENTRIES = [*ENTRIES, *ENTRIES_RELATED]
NODES = sorted({entry.test for _, entry in ALL_ENTRIES if isinstance(entry, Here)})


def kind_of(entry: Entry) -> str:
    return entry.work if isinstance(entry, Later) else type(entry).__name__


NEVER_RUN = {f"pytest.{name}" for name in ("mark.skip", "mark.skipif", "mark.xfail", "mark.slow", "skip", "xfail")}


@cache
def functions_of(path: str) -> dict[str, ast.FunctionDef]:
    module = ast.parse((TESTS / path).read_text())
    assert "pytestmark" not in ast.unparse(module), f"{path} may skip all its tests"
    return {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}


def names_used(function: ast.FunctionDef) -> set[str]:
    """Return the dotted names in a function and in its decorators."""
    return {ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Attribute)}


def test_every_test_of_the_model_is_in_the_table_once():
    assert {file: len(tests) for file, tests in TABLE.items()} == HOW_MANY
    assert {file: len(tests) for file, tests in RELATED.items()} == HOW_MANY_RELATED
    assert (len(HOW_MANY), sum(HOW_MANY.values())) == (33, 249)
    assert [name for name, count in Counter(name for name, _ in ALL_ENTRIES).items() if count > 1] == []
    assert all(name.startswith(("test_", "bloom_", "create_", "get_")) for name, _ in ENTRIES)


def test_what_has_become_of_them_is_counted():
    assert Counter(kind_of(entry) for _, entry in ENTRIES) == {"Here": 162, "Absent": 34, "scale-out": 53}
    assert Counter(kind_of(entry) for _, entry in ENTRIES_RELATED) == {"Here": 53, "Absent": 15, "scale-out": 2}


def test_nothing_that_has_to_do_with_writing_reading_or_compaction_is_still_to_come():
    files = [TABLE[file] for file in OF_WRITING + OF_READING + OF_COMPACTION_AND_HOOKS]
    done = {name for tests in [*files, *RELATED.values()] for name in tests}
    later = [name for name, entry in ALL_ENTRIES if isinstance(entry, Later) and name in done]

    assert later == [
        "test_enter_staging_waits_for_picking_logical_cancellation_ack",
        "test_compaction_bypass_in_staging_mode",
        "test_checkpoint_bypass_in_staging_mode",
    ], "there is no staging state yet"


@pytest.mark.parametrize("node", NODES)
def test_a_test_that_the_table_names_is_there_and_runs(node):
    path, _, name = node.partition("::")

    assert name.startswith("test_")
    assert name in functions_of(path), f"there is no such test in {path}; name the one that promises it now"
    assert names_used(functions_of(path)[name]).isdisjoint(NEVER_RUN)


def test_a_reason_is_a_sentence():
    reasons = {entry.reason for _, entry in ALL_ENTRIES if isinstance(entry, Absent | Later)}
    notes = {entry.note for _, entry in ALL_ENTRIES if isinstance(entry, Here) and entry.note}

    assert all(text[0].isupper() and text.endswith(".") and len(text.split()) > 3 for text in reasons | notes)


def test_every_file_of_this_folder_belongs_to_the_table():
    """A single test that it does not name is fine: the model has no such test."""
    named = {node.partition("::")[0] for node in NODES}
    files = {f"acceptance/{path.name}" for path in Path(__file__).parent.glob("test_*.py")} - {
        "acceptance/test_table.py"
    }

    assert files <= named
