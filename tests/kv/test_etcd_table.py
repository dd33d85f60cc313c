"""The tests that etcd has of its store and of its leases, and which test here promises the same, or why none can.

Of the store there are 93, of leases 16, by their names there. ``contract`` is `mitoframe.testing.contracts_kv`, whose
tests a store in a file and the reference inherit; other names are files of this folder.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from mitoframe.testing.contracts_kv import KeyValueContract

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Absent:
    reason: str


ANY_HISTORY = "test_machine.py::test_random_programs_on_a_store_agree_with_the_reference"
KEEPS = "test_key_index.py::test_a_compaction_keeps"
AT_A_REVISION = "test_key_index.py::test_a_key_was_at_each_revision_what_the_list_says"
LIVES = "test_key_index.py::test_a_generation_is_a_life_from_put_to_tombstone"
RANGE = "contract::test_a_range_is_a_key_an_interval_or_all_from_a_key_on"
EARLIER = "contract::test_an_earlier_revision_is_read_as_it_was_under_the_newest_revision"
COMPACTED = "contract::test_what_is_below_a_compaction_is_refused_and_at_it_reads_as_before"
STAYS = "test_compaction.py::test_a_key_that_is_alive_stays_however_far_a_compaction_goes"
LIMIT = "contract::test_a_limit_cuts_keys_and_never_the_count"
VERSIONS = "contract::test_a_key_counts_its_versions_and_remembers_when_it_was_created"
DELETES = "contract::test_a_delete_counts_what_it_deletes_and_is_a_revision_only_if_that_is_something"
LEASED = "contract::test_a_key_belongs_to_the_lease_it_was_put_with_last"
ROWS = "test_format.py::test_rows_are_laid_out_as_they_are_described"
RESTART = "contract::test_everything_is_there_and_no_revision_is_used_again"
EMPTIED = "contract::test_a_store_whose_keys_were_all_deleted_and_compacted_goes_on_from_its_revision"
UNFINISHED = "test_compaction.py::test_a_compaction_that_was_interrupted_is_finished_when_the_store_is_opened"
HASHES = "contract::test_a_hash_is_of_what_is_kept_up_to_a_revision"
CANCELLED = "contract::test_nothing_comes_after_cancelling"
MANY_WATCHERS = "contract::test_watchers_beside_writers_are_told_everything_once_whole_and_in_order"
COME_AND_GO = "test_watch.py::test_watchers_that_come_and_go_while_it_is_written_miss_nothing_and_hang_nobody"
CAUGHT_UP = "contract::test_a_watcher_is_told_of_its_keys_revision_by_revision"
WHOLE = "contract::test_a_long_past_is_caught_up_with_whole_revisions"
IN_ORDER = "test_lessor.py::test_those_that_ended_first_are_revoked_first_and_no_more_than_a_thousand_a_second"
PROGRESS = "contract::test_progress_is_the_revision_through_which_everything_was_told"

NO_HASHES_KEPT = Absent("Hashes are not remembered: each is computed when it is asked for.")
NO_GROUPS = Absent(
    "A watcher is in no group and has no queue: it remembers a revision, and asks for what came after it."
)
NO_IDS = Absent("A watcher is an object, not a number in a stream that it shares with others.")
NO_CHECKPOINTS = Absent(
    "What is left of a lease is not written down from time to time: a restart gives it its full time."
)

STORE: dict[str, dict[str, str | Absent]] = {
    "hash_test.go": {
        "HashByRevValue": "test_hashing.py::test_the_hash_of_this_history_never_changes",
        "HashByRevValueLastRevision": "test_hashing.py::test_the_hash_of_this_history_never_changes",
        "CompactionHash": "contract::test_a_hash_after_a_compaction_is_the_same_whatever_way_led_there",
        "HasherStore": NO_HASHES_KEPT,
        "HasherStoreFull": NO_HASHES_KEPT,
    },
    "index_test.go": {
        "IndexGet": AT_A_REVISION,
        "IndexRange": RANGE,
        "IndexTombstone": DELETES,
        "IndexRevision": LIMIT,
        "IndexRevisionsWithTotalCount": LIMIT,
        "IndexCompactAndKeep": "test_key_index.py::test_what_is_dropped_of_many_keys_is_what_each_drops",
    },
    "key_index_test.go": {
        "RestoreTombstone": "contract::test_a_start_at_the_compacted_revision_is_told_of_what_happened_there",
        "KeyIndexGet": AT_A_REVISION,
        "KeyIndexSince": "contract::test_changes_are_the_latest_state_of_what_changed_since",
        "KeyIndexPut": VERSIONS,
        "KeyIndexRestore": "contract::test_a_store_that_is_opened_after_every_change_is_as_one_that_stayed_open",
        "KeyIndexTombstone": LIVES,
        "KeyIndexCompactAndKeep": KEEPS,
        "KeyIndexCompactOnFurtherRev": STAYS,
        "KeyIndexIsEmpty": LIVES,
        "KeyIndexFindGeneration": AT_A_REVISION,
        "KeyIndexLess": "contract::test_keys_are_ordered_byte_by_byte",
        "GenerationIsEmpty": LIVES,
        "GenerationWalk": AT_A_REVISION,
    },
    "kv_test.go": {
        "KVRange": RANGE,
        "KVTxnRange": RANGE,
        "KVRangeRev": EARLIER,
        "KVTxnRangeRev": EARLIER,
        "KVRangeBadRev": COMPACTED,
        "KVTxnRangeBadRev": COMPACTED,
        "KVRangeLimit": LIMIT,
        "KVTxnRangeLimit": LIMIT,
        "KVPutMultipleTimes": VERSIONS,
        "KVTxnPutMultipleTimes": VERSIONS,
        "KVDeleteRange": DELETES,
        "KVTxnDeleteRange": DELETES,
        "KVDeleteMultipleTimes": DELETES,
        "KVTxnDeleteMultipleTimes": DELETES,
        "KVPutWithSameLease": LEASED,
        "KVTxnPutWithSameLease": LEASED,
        "KVOperationInSequence": ANY_HISTORY,
        "KVTxnBlockWriteOperations": "test_backend_sqlite.py::test_writers_wait_for_each_other",
        "KVTxnNonBlockRange": "test_backend_sqlite.py::test_one_who_writes_holds_up_nobody_who_reads",
        "KVTxnOperationInSequence": "contract::test_operations_see_those_before_them_and_all_are_one_revision",
        "KVCompactReserveLastValue": "contract::test_a_compaction_keeps_of_each_key_what_can_still_be_read",
        "KVCompactBad": "contract::test_a_compaction_goes_forward_and_not_past_the_newest",
        "KVHash": "contract::test_a_hash_after_a_compaction_is_the_same_whatever_way_led_there",
        "KVRestore": RESTART,
        "KVSnapshot": "test_copying.py::test_a_snapshot_can_be_opened_as_a_store",
        "WatchableKVWatch": CAUGHT_UP,
    },
    "kvstore_compaction_test.go": {
        "ScheduleCompaction": "test_compaction.py::test_of_each_key_the_last_change_up_to_the_revision_stays",
        "CompactAllAndRestore": EMPTIED,
    },
    "kvstore_test.go": {
        "StoreRev": "contract::test_each_transaction_is_one_revision_whatever_it_does",
        "StorePut": ROWS,
        "StoreRange": RANGE,
        "StoreDeleteRange": "contract::test_all_that_one_revision_did_is_one_batch_in_order",
        "StoreCompact": "test_compaction.py::test_rows_read_by_nobody_any_more_are_gone",
        "StoreRestore": RESTART,
        "RestoreDelete": ANY_HISTORY,
        "RestoreContinueUnfinishedCompaction": UNFINISHED,
        "HashKVWhenCompacting": "test_compaction.py::test_readers_and_writers_go_on_while_compactions_run",
        "HashKVWithCompactedAndFutureRevisions": HASHES,
        "HashKVZeroRevision": HASHES,
        "TxnPut": "contract::test_each_transaction_is_one_revision_whatever_it_does",
        "ConcurrentReadNotBlockingWrite": "test_store.py::test_a_long_read_holds_up_no_put_and_does_not_see_it",
        "ConcurrentReadTxAndWrite": "contract::test_what_threads_see_is_one_history",
    },
    "store_test.go": {
        "ScheduledCompact": UNFINISHED,
        "FinishedCompact": UNFINISHED,
    },
    "watchable_store_test.go": {
        "Watch": NO_GROUPS,
        "NewWatcherCancel": CANCELLED,
        "NewWatcherCountGauge": NO_GROUPS,
        "CancelUnsynced": CANCELLED,
        "SyncWatchers": CAUGHT_UP,
        "RangeEvents": "contract::test_a_start_at_the_compacted_revision_is_told_of_what_happened_there",
        "WatchCompacted": "contract::test_a_start_below_the_compacted_revision_is_told_once_and_is_the_end",
        "WatchNoEventLossOnCompact": "contract::test_a_compaction_takes_nothing_from_a_watcher_that_has_come_as_far",
        "WatchFutureRev": "contract::test_nothing_is_told_before_a_start_that_is_yet_to_come",
        "WatchRestore": "contract::test_watching_goes_on_without_a_gap_where_it_ended_before_the_store_was_closed",
        "WatchBatchUnsynced": WHOLE,
        "NewMapwatcherToEventMap": MANY_WATCHERS,
        "WatchVictims": NO_GROUPS,
        "StressWatchCancelClose": COME_AND_GO,
    },
    "watcher_test.go": {
        "WatcherWatchID": NO_IDS,
        "WatcherRequestsCustomID": NO_IDS,
        "WatcherWatchPrefix": CAUGHT_UP,
        "WatchResponseEventsNotSharedAcrossWatchers": "contract::test_watchers_share_nothing",
        "WatcherWatchWrongRange": "contract::test_a_range_that_is_empty_cannot_be_watched",
        "WatchDeleteRange": "contract::test_all_that_one_revision_did_is_one_batch_in_order",
        "WatchStreamCancelWatcherByID": CANCELLED,
        "WatcherRequestProgressBadId": NO_IDS,
        "WatcherRequestProgress": PROGRESS,
        "WatcherRequestProgressAll": NO_IDS,
        "WatcherWatchWithFilter": "contract::test_kinds_that_are_filtered_are_left_out",
    },
}
LEASES: dict[str, str | Absent] = {
    "LessorGrant": "contract::test_ids_are_given_or_chosen_and_never_shared",
    "LeaseConcurrentKeys": "test_lessor.py::test_keys_may_be_asked_for_while_they_come_and_go",
    "LessorRevoke": "contract::test_revoking_deletes_the_keys_sorted_at_one_revision",
    "LessorRenew": "test_lessor.py::test_keepalive_gives_the_full_time_again",
    "LessorRenewWithCheckpointer": NO_CHECKPOINTS,
    "LessorRenewExtendPileup": IN_ORDER,
    "LessorDetach": LEASED,
    "LessorRecover": "contract::test_leases_of_a_store_that_is_opened_again_have_their_keys_and_their_full_time",
    "LessorExpire": "contract::test_what_is_over_cannot_be_kept_alive",
    "LessorExpireAndDemote": "test_lessor.py::test_only_who_has_the_turn_lets_leases_expire",
    "LessorMaxTTL": "contract::test_a_time_to_live_that_cannot_be_is_refused",
    "LessorCheckpointScheduling": NO_CHECKPOINTS,
    "LessorCheckpointsRestoredOnPromote": NO_CHECKPOINTS,
    "LessorCheckpointPersistenceAfterRestart": NO_CHECKPOINTS,
    "LeaseQueue": IN_ORDER,
    "LeaseBackend": "contract::test_leases_of_a_store_that_is_opened_again_have_their_keys_and_their_full_time",
}

ENTRIES = [*(entry for tests in STORE.values() for entry in tests.values()), *LEASES.values()]
NODES = sorted({entry for entry in ENTRIES if isinstance(entry, str)})


@cache
def names_in(path: str) -> set[str]:
    if path == "contract":
        return set(dir(KeyValueContract))
    return {node.name for node in ast.parse((HERE / path).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_test_of_etcd_is_in_the_table_once() -> None:
    names = [name for tests in (*STORE.values(), LEASES) for name in tests]

    assert (sum(map(len, STORE.values())), len(LEASES)) == (93, 16)
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert Counter(type(entry).__name__ for entry in ENTRIES) == {"str": 96, "Absent": 13}


@pytest.mark.parametrize("node", NODES)
def test_a_test_that_the_table_names_is_there(node: str) -> None:
    path, _, name = node.partition("::")

    assert name in names_in(path), f"there is no such test in {path}; name the one that promises it now"
