"""The tests of mito2, the model of this engine, and what each has become here.

Of the engine there are 249 in 33 files, by the names in `TABLE`. `RELATED` has those of three of its parts, 70 in 3
files: who schedules compactions, who collects garbage, and the checkpoints of a manifest. Each is one of

    Here      a test of ours promises the same, at least; ``note`` says what differs in how it is asked
    Absent    what it is about is not part of mitoframe, and why; such a test cannot be written
    Later     what it is about is still to come; nobody has promised it yet

`test_table` checks that nothing is missing and nothing is made up, and that what has to do with writing, reading or
compaction is not Later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Work = Literal["scale-out"]


@dataclass(frozen=True, slots=True)
class Here:
    """``test`` is a file below ``tests/`` and a function in it."""

    test: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Absent:
    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    work: Work
    reason: str


Entry: TypeAlias = Here | Absent | Later

FORMAT = Absent("There is one SST format, so none to change or to choose.")
REMOTE_LOG = Absent("It is about a position in a Kafka topic; there is no remote log, only the one beside the files.")
ONE_STORE = Absent("An engine has one object store; tables do not choose among several.")
NOT_PARTITIONED = Absent("A table is one region: there is no partition expression to keep, to fetch or to filter by.")
NO_ROLES = Absent("A region has no role: a process reads or writes the whole store, and holds its lock to write.")
NO_PURGE_OF_CLOSED = Absent(
    "A table cannot be given up softly and purged by a request of its own: a drop is for good, and its files go by "
    "themselves after the grace period."
)

NO_QUEUE = Absent(
    "A change does not queue behind a compaction, nor depend on how that ends: it goes at once, and what is merged "
    "meanwhile finds its files gone."
)

FILE_REFERENCES = Later("scale-out", "No region refers to the files of another yet, so nobody asks which.")
CATCHING_UP = Later("scale-out", "No follower becomes a leader yet; a reading process refreshes at each scan.")
COPYING = Later("scale-out", "A region's files cannot be copied into another region yet.")
ROLES = Later("scale-out", "Regions have no roles to change yet.")
STAGING = Later("scale-out", "Regions have no staging state yet.")
REMAPPING = Later("scale-out", "Regions cannot be split or joined by their manifests yet.")

TABLE: dict[str, dict[str, Entry]] = {
    "alter_test.rs": {
        "test_alter_region": Here(
            "acceptance/test_alter.py::test_added_fields_are_in_the_manifest_and_older_rows_read_as_null_also_after_reopening",
            note="Fields only: a tag is part of every row's key, and none is added later.",
        ),
        "test_filter_is_null_after_alter_add_field": Here(
            "acceptance/test_alter.py::test_a_condition_on_an_added_field_finds_the_older_rows_that_lack_it_and_no_overwritten_one",
            note="Conditions are applied here in full, after dedup.",
        ),
        "test_put_after_alter": Here(
            "acceptance/test_alter.py::test_rows_of_the_new_schema_are_read_beside_the_older_ones_after_altering_and_reopening"
        ),
        "test_alter_region_retry": Here(
            "acceptance/test_alter.py::test_adding_a_field_at_a_place_again_is_refused_and_changes_nothing"
        ),
        "test_alter_on_flushing": Here(
            "acceptance/test_alter.py::test_an_alteration_waits_for_a_flush_under_way_and_then_applies"
        ),
        "test_alter_column_fulltext_options": Here(
            "acceptance/test_alter.py::test_an_index_that_is_set_or_unset_is_kept_by_the_manifest",
            note="An index is declared by its kind; a kind has no options of its own.",
        ),
        "test_alter_column_set_inverted_index": Here(
            "acceptance/test_alter.py::test_an_index_that_is_set_or_unset_is_kept_by_the_manifest"
        ),
        "test_alter_region_ttl_options": Here(
            "engine/test_retention.py::test_nothing_expires_before_there_is_a_time_to_live_and_all_is_back_without_it"
        ),
        "test_mixed_region_options_are_published_after_flush": Here(
            "acceptance/test_alter.py::test_options_of_all_kinds_are_published_together_and_after_the_flush"
        ),
        "test_write_stall_on_altering": Here(
            "acceptance/test_alter.py::test_a_write_waits_for_an_alteration_under_way_and_then_succeeds"
        ),
        "test_alter_region_sst_format_with_flush": FORMAT,
        "test_alter_region_sst_format_without_flush": FORMAT,
        "test_alter_region_sst_format_flat_to_pk_with_flush": FORMAT,
        "test_alter_region_sst_format_flat_to_pk_without_flush": FORMAT,
        "test_alter_region_append_mode_with_flush": Here(
            "acceptance/test_alter.py::test_append_mode_switched_on_with_rows_there_keeps_one_of_each_old_key_and_all_new_rows"
        ),
        "test_alter_region_append_mode_without_flush": Here(
            "acceptance/test_alter.py::test_append_mode_switched_on_in_an_empty_region_flushes_nothing_and_lasts"
        ),
        "test_alter_region_append_mode_invalid": Here(
            "acceptance/test_alter.py::test_append_mode_cannot_be_switched_off"
        ),
        "test_bulk_insert_stale_schema_wal_replay": Here(
            "acceptance/test_alter.py::test_rows_made_for_an_older_schema_are_filled_and_replayed_so",
            note="By a write: a bulk insert passes by the log.",
        ),
        "test_bulk_insert_stale_wal_entry_replay": Here(
            "storage/test_wal.py::test_an_entry_from_before_a_field_was_added_has_nulls_or_its_default_there"
        ),
    },
    "append_mode_test.rs": {
        "test_append_mode_write_query": Here(
            "acceptance/test_modes.py::test_append_mode_keeps_every_row_of_a_key_wherever_it_lies"
        ),
        "test_append_mode_compaction": Here(
            "acceptance/test_modes.py::test_append_mode_keeps_every_row_through_a_compaction_and_reopening"
        ),
        "test_alter_append_mode_clears_merge_mode": Here(
            "acceptance/test_alter.py::test_append_mode_takes_the_place_of_merge_mode"
        ),
        "test_put_single_range": Here(
            "acceptance/test_modes.py::test_append_mode_shows_every_row_of_a_memtable_before_there_is_a_file"
        ),
    },
    "apply_staging_manifest_test.rs": {
        "test_apply_staging_manifest_invalid_region_state": STAGING,
        "test_apply_staging_manifest_mismatched_partition_expr": STAGING,
        "test_apply_staging_manifest_success": STAGING,
        "test_apply_staging_manifest_invalid_files_to_add": STAGING,
        "test_apply_staging_manifest_change_edit_different_columns_fails": STAGING,
        "test_apply_staging_manifest_preserves_unflushed_memtable": STAGING,
        "test_split_repartition_causes_duplicate_data": REMAPPING,
        "test_merge_repartition_data_integrity": REMAPPING,
    },
    "basic_test.rs": {
        "test_engine_new_stop": Here("acceptance/test_basic.py::test_an_engine_that_was_closed_takes_no_request"),
        "test_create_region_with_empty_requirements": Here(
            "acceptance/test_basic.py::test_a_store_in_a_folder_needs_nothing_but_the_folder"
        ),
        "test_write_to_region": Here(
            "acceptance/test_basic.py::test_the_bytes_in_memory_grow_with_each_write_and_go_with_a_flush"
        ),
        "test_region_replay": Here(
            "acceptance/test_basic.py::test_rows_that_were_not_flushed_are_there_again_after_a_crash_and_count_once"
        ),
        "test_write_query_region": Here("acceptance/test_basic.py::test_rows_come_back_in_the_order_of_tags_and_time"),
        "test_different_order": Here("acceptance/test_basic.py::test_fields_in_another_order_are_told_apart_by_name"),
        "test_different_order_and_type": Here(
            "acceptance/test_basic.py::test_fields_of_several_types_in_another_order_are_told_apart_by_name"
        ),
        "test_put_delete": Here("acceptance/test_basic.py::test_a_delete_takes_the_rows_of_its_keys_and_no_others"),
        "test_delete_not_null_fields": Absent("Fields are always nullable: there is none that a delete could miss."),
        "test_put_overwrite": Here(
            "acceptance/test_basic.py::test_a_later_put_replaces_a_row_and_one_that_was_deleted"
        ),
        "test_absent_and_invalid_columns": Here(
            "acceptance/test_basic.py::test_a_field_that_is_missing_is_filled_and_one_of_a_wrong_type_is_refused"
        ),
        "test_region_usage": Here("acceptance/test_basic.py::test_the_bytes_on_disk_grow_with_each_flush"),
        "test_engine_with_write_cache": Absent("Files are written where they stay: there is no cache before a store."),
        "test_cache_null_primary_key": Here(
            "acceptance/test_basic.py::test_a_null_tag_is_a_series_of_its_own_in_memory_and_in_a_file"
        ),
        "test_list_ssts": Here("acceptance/test_basic.py::test_the_files_that_a_manifest_lists_are_those_in_the_store"),
        "test_all_region_infos": Here(
            "acceptance/test_basic.py::test_each_open_region_says_its_sequences_entries_options_and_health",
            note="There are no roles to report.",
        ),
        "test_all_index_metas_list_all_types": Here(
            "test_table.py::test_indexes_are_built_when_asked_for_and_seen_among_the_files",
            note="Beside the files that they belong to.",
        ),
    },
    "batch_catchup_test.rs": {
        "test_batch_catchup": CATCHING_UP,
        "test_batch_catchup_err": CATCHING_UP,
    },
    "batch_open_test.rs": {
        "test_batch_open": Here("acceptance/test_basic.py::test_many_regions_are_opened_in_one_call_with_their_rows"),
        "test_batch_open_err": Here(
            "acceptance/test_basic.py::test_a_region_that_is_missing_is_told_for_itself_and_the_others_are_opened"
        ),
    },
    "bump_committed_sequence_test.rs": {
        "test_bump_committed_sequence": Here(
            "acceptance/test_editing.py::test_an_edit_raises_the_committed_sequence_for_good_without_a_flush"
        ),
    },
    "catchup_test.rs": {
        "test_catchup_with_last_entry_id": CATCHING_UP,
        "test_catchup_with_incorrect_last_entry_id": CATCHING_UP,
        "test_catchup_without_last_entry_id": CATCHING_UP,
        "test_catchup_with_manifest_update": CATCHING_UP,
        "test_local_catchup": CATCHING_UP,
        "test_catchup_not_exist": CATCHING_UP,
        "test_catchup_region_busy": CATCHING_UP,
    },
    "close_test.rs": {
        "test_engine_close_region": Here(
            "acceptance/test_close_and_drop.py::test_closing_a_region_lets_it_go_and_closing_it_again_is_fine"
        ),
        "test_region_hook_on_close": Here(
            "engine/test_hooks.py::test_closing_is_told_once_also_when_the_store_is_closed"
        ),
        "test_engine_close_region_flush_on_close": Here(
            "acceptance/test_close_and_drop.py::test_closing_flushes_if_asked"
        ),
        "test_engine_close_region_flush_on_close_while_flushing": Here(
            "acceptance/test_close_and_drop.py::test_closing_waits_for_a_flush_under_way_and_flushes_the_rest"
        ),
    },
    "compaction_test.rs": {
        "test_planning_followup_updates_schedule_time": Here(
            "engine/test_compaction.py::test_what_becomes_due_during_a_cycle_is_merged_without_being_asked",
            note="There is no least time between two compactions, so no schedule time.",
        ),
        "test_execution_followup_updates_schedule_time": Here(
            "engine/test_compaction.py::test_what_becomes_due_while_a_request_is_carried_out_is_merged_after_it",
            note="There is no least time between two compactions, so no schedule time.",
        ),
        "test_region_b_progresses_while_same_worker_region_a_is_picking": Here(
            "engine/test_compaction.py::test_while_a_region_is_merged_another_is_written_flushed_and_read",
            note="While it is merged: there is no worker that regions share.",
        ),
        "test_picking_close_reopen_ignores_old_plan": Here(
            "engine/test_compaction.py::test_a_merge_that_was_begun_before_the_region_was_closed_and_opened_again_commits_nothing"
        ),
        "test_enter_staging_waits_for_picking_logical_cancellation_ack": STAGING,
        "test_truncate_waits_for_non_cancellable_compaction_commit": Here(
            "acceptance/test_truncate.py::test_a_compaction_that_is_committed_already_is_waited_for"
        ),
        "test_worker_shutdown_fails_picking_waiter": Here(
            "engine/test_compaction.py::test_closing_the_store_waits_until_what_was_asked_for_is_done",
            note="Whoever waits gets what was asked for, and no error.",
        ),
        "test_compaction_region": Here(
            "acceptance/test_compaction.py::test_puts_and_deletes_that_overlap_become_one_file_with_the_rows_that_are_left"
        ),
        "test_infer_compaction_time_window": Here(
            "acceptance/test_compaction.py::test_the_window_is_a_day_until_a_compaction_infers_it_and_memtables_are_parted_by_it"
        ),
        "test_compaction_overlapping_files": Here(
            "acceptance/test_compaction.py::test_overlapping_files_of_one_window_become_exactly_one"
        ),
        "test_compaction_region_with_overlapping": Here(
            "acceptance/test_compaction.py::test_deletes_are_honoured_where_files_of_several_windows_overlap"
        ),
        "test_compaction_region_with_overlapping_delete_all": Here(
            "acceptance/test_compaction.py::test_deleting_everything_leaves_no_row_and_what_markers_stay_do_no_harm"
        ),
        "test_compaction_input_limit_keeps_rows_deleted": Here(
            "acceptance/test_compaction.py::test_a_merge_of_many_files_loses_no_row_and_brings_none_back",
            note="Of a smaller limit, and asked for again until there is nothing more to do.",
        ),
        "test_compaction_of_part_of_a_run_keeps_rows_deleted": Here(
            "acceptance/test_compaction.py::test_a_merge_of_some_files_keeps_the_markers_that_hide_rows_of_the_others"
        ),
        "test_readonly_during_compaction": Here(
            "acceptance/test_compaction.py::test_a_region_that_is_closed_during_a_compaction_keeps_its_files",
            note="By closing the region: there are no roles to take from it.",
        ),
        "test_local_compaction_cancellation_notifies_before_pending_ddl_dispatch": Here(
            "engine/test_compaction.py::test_truncating_cancels_what_is_merged_and_what_waits",
            note="A change does not wait for the merge: that finds its files gone, whenever it notices.",
        ),
        "test_compaction_update_time_window": Here(
            "acceptance/test_compaction.py::test_the_window_is_a_day_until_a_compaction_infers_it_and_memtables_are_parted_by_it"
        ),
        "test_change_region_compaction_window": Here(
            "acceptance/test_compaction.py::test_a_window_given_later_overrides_the_inferred_one_for_good"
        ),
        "test_open_overwrite_compaction_window": Here(
            "acceptance/test_compaction.py::test_a_window_given_later_overrides_the_inferred_one_for_good",
            note="By altering it: options are in the manifest, and opening takes none.",
        ),
    },
    "copy_region_from_test.rs": {
        "test_engine_copy_region_from": COPYING,
        "test_engine_copy_region_failure": COPYING,
        "test_engine_copy_region_invalid_args": COPYING,
        "test_engine_copy_region_unexpected_state": COPYING,
    },
    "create_test.rs": {
        "test_engine_create_new_region": Here(
            "acceptance/test_close_and_drop.py::test_a_region_that_is_made_is_open_empty_and_writable"
        ),
        "test_engine_create_existing_region": Here(
            "acceptance/test_close_and_drop.py::test_making_a_region_that_is_there_again_changes_nothing"
        ),
        "test_engine_create_close_create_region": Here(
            "acceptance/test_close_and_drop.py::test_making_a_region_that_was_closed_opens_it_for_writing"
        ),
        "test_engine_create_with_different_id": Here(
            "acceptance/test_close_and_drop.py::test_a_region_of_another_number_is_another_region_beside_it"
        ),
        "test_engine_create_with_different_schema": Here(
            "acceptance/test_close_and_drop.py::test_making_a_region_again_with_another_schema_is_refused_and_changes_nothing"
        ),
        "test_engine_create_with_different_primary_key": Here(
            "acceptance/test_close_and_drop.py::test_making_a_region_again_with_another_schema_is_refused_and_changes_nothing"
        ),
        "test_engine_create_with_options": Here(
            "acceptance/test_close_and_drop.py::test_options_given_at_creation_are_kept",
            note="All options there are.",
        ),
        "test_engine_create_with_custom_store": ONE_STORE,
        "test_engine_create_with_memtable_opts": Absent("There is one kind of memtable, and tables do not tune it."),
        "create_with_partition_expr_persists_manifest": NOT_PARTITIONED,
        "test_engine_create_with_format": FORMAT,
    },
    "drop_test.rs": {
        "test_drop_cancels_running_flush": Here(
            "acceptance/test_close_and_drop.py::test_dropping_ends_a_flush_under_way_and_the_region_is_gone"
        ),
        "test_drop_rejects_downgrading_region_without_cancelling_flush": NO_ROLES,
        "test_engine_drop_region": Here(
            "acceptance/test_close_and_drop.py::test_dropping_marks_the_region_at_once_and_its_folder_goes_after_the_grace"
        ),
        "test_engine_drop_region_for_custom_store": Here(
            "acceptance/test_close_and_drop.py::test_dropping_a_region_touches_no_other",
            note="In the one store.",
        ),
        "test_region_hook_on_drop": Here(
            "engine/test_hooks.py::test_of_a_dropped_region_it_is_told_when_its_files_have_gone"
        ),
    },
    "edit_region_test.rs": {
        "test_edit_region_schedule_compaction": Here(
            "acceptance/test_editing.py::test_files_that_an_edit_brings_count_for_the_automatic_compaction",
            note="There is no least time between two compactions.",
        ),
        "test_edit_region_fill_cache": Absent("Files are written where they stay: there is no cache before a store."),
        "test_write_during_region_editing_is_queued": Here(
            "acceptance/test_editing.py::test_a_write_during_an_edit_waits_and_gets_the_sequences_after_it"
        ),
        "test_bulk_insert_during_region_editing_is_queued": Here(
            "acceptance/test_editing.py::test_a_write_during_an_edit_waits_and_gets_the_sequences_after_it"
        ),
        "test_stalled_write_fails_fast_if_region_closed_during_editing": Here(
            "acceptance/test_editing.py::test_an_edit_and_a_write_that_wait_are_refused_when_the_region_is_closed_meanwhile"
        ),
        "test_raw_add_only_region_edits_are_merged": Absent(
            "Files are not edited in from outside: each change of a region stores its own and is one manifest version."
        ),
        "test_region_edit_with_file_sequence_is_not_merged": Here(
            "acceptance/test_editing.py::test_edits_at_once_get_sequences_of_their_own_and_all_their_files_stay"
        ),
        "test_edit_region_concurrently": Here(
            "acceptance/test_editing.py::test_edits_at_once_with_writes_flushes_and_compactions_lose_nothing"
        ),
    },
    "file_ref_test.rs": {
        "get_snapshot_of_file_refs_errors_on_missing_related_region": FILE_REFERENCES,
        "get_snapshot_of_file_refs_skips_missing_file_handle_region": FILE_REFERENCES,
    },
    "filter_deleted_test.rs": {
        "test_scan_without_filtering_deleted": Absent(
            "No scan yields delete markers: what was deleted is seen by asking for an earlier moment."
        ),
        "test_filter_field_value_after_last_row_update": Here(
            "acceptance/test_modes.py::test_a_condition_on_a_field_does_not_bring_an_overwritten_version_back"
        ),
    },
    "flush_test.rs": {
        "test_manual_flush": Here("acceptance/test_flush.py::test_a_flush_makes_one_file_that_a_scan_reads"),
        "test_flush_and_alter_max_row_group_row_count": Here(
            "acceptance/test_flush.py::test_the_size_of_row_groups_can_be_altered_and_setting_it_again_changes_nothing"
        ),
        "test_flush_engine": Here(
            "acceptance/test_flush.py::test_when_all_regions_together_fill_half_the_buffer_the_largest_is_flushed"
        ),
        "test_write_stall": Here(
            "acceptance/test_flush.py::test_a_write_waits_while_there_is_no_room_and_goes_on_after_the_flush"
        ),
        "test_region_write_buffer_limit_flushes_hot_region": Here(
            "acceptance/test_flush.py::test_a_full_region_is_flushed_and_its_own_limit_comes_before_the_configured_one"
        ),
        "test_region_write_buffer_stall_does_not_block_other_region": Here(
            "acceptance/test_flush.py::test_a_region_without_room_does_not_hold_up_another"
        ),
        "test_region_write_buffer_does_not_stall_follower_write": Here(
            "acceptance/test_flush.py::test_a_write_to_an_engine_opened_for_reading_is_refused_at_once_also_where_there_is_no_room"
        ),
        "test_unrelated_flush_does_not_resume_region_stalled_write": Here(
            "acceptance/test_flush.py::test_a_flush_of_another_region_makes_no_room"
        ),
        "test_region_write_buffer_rejects_only_full_region_queue": Here(
            "acceptance/test_flush.py::test_only_a_region_whose_queue_is_full_refuses_writes"
        ),
        "test_flush_empty": Here("acceptance/test_flush.py::test_flushing_an_empty_region_makes_no_file_and_no_edit"),
        "test_flush_reopen_region": Here(
            "acceptance/test_flush.py::test_a_flush_says_in_the_manifest_how_far_it_went_and_the_next_process_goes_on_from_there"
        ),
        "test_skip_remote_wal_replay_sets_topic_latest_entry_id": REMOTE_LOG,
        "test_remote_wal_open_with_replayed_memtable_sets_topic_latest_entry_id": REMOTE_LOG,
        "test_remote_wal_open_without_replayed_memtable_sets_topic_latest_entry_id": REMOTE_LOG,
        "test_auto_flush_engine": Here(
            "acceptance/test_flush.py::test_rows_are_flushed_when_they_are_old_enough_and_not_before"
        ),
        "test_flush_workers": Here(
            "acceptance/test_flush.py::test_a_flush_that_takes_long_does_not_hold_up_the_flush_of_another_region"
        ),
        "test_update_topic_latest_entry_id": REMOTE_LOG,
        "test_region_hook": Here("acceptance/test_flush.py::test_a_flush_tells_of_its_files_once_and_then_of_one_edit"),
    },
    "index_build_test.rs": {
        "bloom_mixed_in_index_on_off_equivalent": Here(
            "storage/test_index_reader.py::test_no_index_ever_leaves_out_a_row_that_matches",
            note="For any condition and any kinds of index; what they let through is filtered in full.",
        ),
        "test_compaction_wins_before_index_manifest_commit": Here(
            "engine/test_indexing.py::test_an_index_is_not_published_for_a_file_that_was_compacted_meanwhile"
        ),
        "test_compaction_wins_before_index_worker_apply": Here(
            "model/test_index.py::test_a_file_that_has_gone_gets_no_index",
            note="By the edit itself, which is refused: manifest and version change in one step.",
        ),
        "test_index_build_uses_physical_file_region_and_logical_manifest_region": Absent(
            "A table is one region: no region lists files that lie in the folder of another."
        ),
        "test_index_build_type_flush": Here(
            "engine/test_indexing.py::test_a_file_that_was_flushed_is_indexed_soon_after"
        ),
        "test_index_build_type_compact": Here(
            "engine/test_indexing.py::test_the_file_that_a_compaction_made_is_indexed_and_the_old_indexes_go_with_their_files"
        ),
        "test_index_build_type_schema_change": Here(
            "engine/test_indexing.py::test_files_that_were_there_before_are_indexed_when_the_schema_asks_for_it"
        ),
        "test_index_build_type_schema_change_multiple_files": Here(
            "engine/test_indexing.py::test_files_that_were_there_before_are_indexed_when_the_schema_asks_for_it"
        ),
        "test_consecutive_schema_changes_publish_latest_index_generation": Here(
            "engine/test_indexing.py::test_of_schemas_that_follow_one_another_the_last_counts"
        ),
        "test_unrelated_schema_change_retries_stale_flush_index_build": Here(
            "engine/test_indexing.py::test_a_change_of_other_columns_does_not_make_a_build_stale",
            note="It is not stale at all, so nothing is built again.",
        ),
        "test_schema_change_uses_manifest_file_generation": Here(
            "engine/test_indexing.py::test_what_is_as_it_should_be_is_not_built_again",
            note="A version never lags behind its manifest: what is built is what the manifest does not list.",
        ),
        "test_index_build_type_manual_basic": Here(
            "engine/test_indexing.py::test_in_manual_mode_indexes_are_built_when_somebody_asks"
        ),
        "test_index_build_type_manual_consistency": Here(
            "engine/test_indexing.py::test_what_is_as_it_should_be_is_not_built_again"
        ),
        "test_gate_index_build_listener_smoke": Absent(
            "It tests the gate that its other tests wait at, and nothing of the engine."
        ),
        "test_index_build_type_manual_duplicate_in_flight": Here(
            "engine/test_indexing.py::test_a_file_is_built_once_however_many_ask_for_it"
        ),
        "test_reopen_waits_for_active_index_build_of_previous_incarnation": Here(
            "engine/test_indexing.py::test_a_region_that_was_let_go_and_opened_again_is_indexed_and_the_older_build_is_not_published",
            note="The new build waits for nobody: what the older one made is not listed.",
        ),
        "test_index_build_type_compact_abort_race": Here(
            "engine/test_indexing.py::test_a_build_that_waits_for_a_compacted_file_ends_quietly"
        ),
    },
    "merge_mode_test.rs": {
        "test_merge_mode_write_query": Here(
            "acceptance/test_modes.py::test_merge_mode_fills_nulls_from_older_rows_but_not_through_a_delete"
        ),
        "test_merge_mode_compaction": Here(
            "acceptance/test_modes.py::test_merge_mode_compacts_to_one_file_with_the_same_rows"
        ),
    },
    "open_test.rs": {
        "test_engine_open_empty": Here(
            "acceptance/test_close_and_drop.py::test_opening_what_was_never_made_is_refused_and_makes_nothing"
        ),
        "test_engine_offline_cleanup_closed_region": NO_PURGE_OF_CLOSED,
        "test_engine_offline_cleanup_rejects_opened_region": NO_PURGE_OF_CLOSED,
        "test_engine_offline_cleanup_fires_on_region_gc": NO_PURGE_OF_CLOSED,
        "test_engine_offline_cleanup_propagates_on_region_gc_error": NO_PURGE_OF_CLOSED,
        "test_engine_open_existing": Here("acceptance/test_close_and_drop.py::test_opening_what_is_open_is_fine"),
        "test_engine_reopen_region": Here(
            "acceptance/test_close_and_drop.py::test_a_region_that_was_closed_can_be_opened_again"
        ),
        "test_engine_open_readonly": Here(
            "acceptance/test_close_and_drop.py::test_an_engine_opened_for_reading_refuses_writes_that_one_opened_for_writing_takes",
            note="By how the store was opened: regions have no roles.",
        ),
        "test_engine_region_open_with_options": Absent(
            "A table's options are in its manifest and changed by altering it; opening takes none."
        ),
        "test_engine_region_open_with_custom_store": ONE_STORE,
        "test_open_region_skip_wal_replay": Absent(
            "Opening always replays the log: a region is open with all its rows or not at all."
        ),
        "test_open_region_wait_for_opening_region_ok": Here(
            "acceptance/test_close_and_drop.py::test_who_asks_for_a_region_that_is_being_opened_waits_and_gets_the_same"
        ),
        "test_open_region_wait_for_opening_region_err": Here(
            "acceptance/test_close_and_drop.py::test_who_waits_for_a_region_that_cannot_be_opened_is_told_so_too"
        ),
        "test_open_compaction_region": Here(
            "faults/test_compactor.py::test_what_is_merged_elsewhere_is_what_is_merged_here",
            note="Who merges elsewhere opens no region: all that he needs to know is in the job.",
        ),
        "test_open_backfills_partition_expr_with_fetcher": NOT_PARTITIONED,
        "test_open_keeps_none_without_fetcher": NOT_PARTITIONED,
        "test_region_hook_on_open": Here(
            "engine/test_hooks.py::test_opening_is_told_once_and_again_when_it_is_opened_again"
        ),
    },
    "parallel_test.rs": {
        "test_parallel_scan": Here(
            "acceptance/test_reading.py::test_scans_at_once_see_whole_writes_and_never_fewer_rows_than_before"
        ),
    },
    "partition_filter_test.rs": {
        "test_partition_filter_basic": NOT_PARTITIONED,
    },
    "projection_test.rs": {
        "test_scan_projection": Here(
            "acceptance/test_scanning.py::test_only_the_columns_asked_for_come_and_in_that_order"
        ),
        "test_scan_projection_without_primary_key": Here(
            "acceptance/test_scanning.py::test_only_the_columns_asked_for_come_and_in_that_order"
        ),
    },
    "prune_test.rs": {
        "test_read_parquet_stats": Here(
            "acceptance/test_scanning.py::test_the_statistics_of_every_row_group_are_its_least_and_greatest_value_to_the_last_letter"
        ),
        "test_prune_tag": Here("storage/test_sst_reader.py::test_row_groups_that_cannot_match_are_skipped"),
        "test_prune_tag_and_field": Here("read/test_plan.py::test_only_conditions_on_the_key_may_skip_within_a_group"),
        "test_prune_memtable": Here("read/test_plan.py::test_what_is_not_read_holds_no_row_that_could_be_wanted"),
        "test_prune_memtable_complex_expr": Here("frames/test_resolver.py::test_a_query_agrees_with_brute_force"),
        "test_mem_range_prune": Here("read/test_scanner.py::test_a_scan_reads_what_was_there_when_it_was_planned"),
        "test_scan_filter_field_after_delete": Here(
            "read/test_scanner.py::test_no_predicate_brings_a_deleted_row_back"
        ),
    },
    "remap_manifests_test.rs": {
        "test_remap_manifests_invalid_partition_expr": REMAPPING,
        "test_remap_manifests_invalid_region_state": REMAPPING,
        "test_remap_manifests_invalid_input_regions": REMAPPING,
        "test_remap_manifests_success": REMAPPING,
    },
    "row_selector_test.rs": {
        "test_last_row_append_mode_disabled": Here(
            "acceptance/test_scanning.py::test_the_last_row_of_each_series_is_found_wherever_it_lies"
        ),
        "test_last_row_append_mode_enabled": Here(
            "acceptance/test_scanning.py::test_the_last_row_of_each_series_is_found_wherever_it_lies"
        ),
        "test_last_row_flat_format_append_mode_disabled": Here(
            "acceptance/test_scanning.py::test_the_last_row_of_each_series_is_found_wherever_it_lies",
            note="In the one format there is.",
        ),
        "test_last_row_flat_format_append_mode_enabled": Here(
            "acceptance/test_scanning.py::test_the_last_row_of_each_series_is_found_wherever_it_lies",
            note="In the one format there is.",
        ),
        "test_last_row_flat_format_prefilter_does_not_poison_selector_cache": Here(
            "acceptance/test_scanning.py::test_what_is_kept_of_the_last_rows_of_some_is_never_taken_for_those_of_all"
        ),
    },
    "scan_corrupt.rs": {
        "test_scan_corrupt": Here(
            "acceptance/test_scanning.py::test_the_statistics_of_every_row_group_are_its_least_and_greatest_value_to_the_last_letter"
        ),
    },
    "scan_test.rs": {
        "test_json_type_hint_pushdown_scanner_returns_batches": Absent("There is no type for JSON documents."),
        "test_incremental_query_stale_error": Here(
            "read/test_since.py::test_of_the_rows_that_are_seen_those_are_found_that_came_later",
            note="No bound goes stale: files know the sequences of their rows, so a flush hides none that came later.",
        ),
        "test_scan_with_min_sst_sequence": Here("read/test_since.py::test_files_without_a_later_row_are_not_read"),
        "test_full_snapshot_upper_bound_returns_outdated_after_late_flush": Here(
            "read/test_history.py::test_who_asks_for_what_is_gone_is_told_what_there_is_and_what_to_do",
            note="A flush alone makes nothing outdated: what it supersedes is kept for the grace period.",
        ),
        "test_snapshot_bound_query_binds_memtable_upper_bound_at_scan_open": Here(
            "read/test_history.py::test_an_open_scan_reads_what_there_was_when_it_was_opened"
        ),
        "test_snapshot_bound_query_keeps_open_snapshot_after_late_flush": Here(
            "read/test_history.py::test_an_open_scan_reads_what_there_was_when_it_was_opened"
        ),
        "test_snapshot_bound_query_keeps_correct_result_after_late_flush": Here(
            "read/test_history.py::test_an_open_scan_reads_what_there_was_when_it_was_opened"
        ),
        "test_max_concurrent_scan_files": Absent(
            "Of files that overlap none is held open between two reads, and what a share of a scan takes is bounded: "
            "there is no number of files at which a scan is refused."
        ),
        "test_series_scan": Here(
            "acceptance/test_scanning.py::test_dealt_by_series_a_part_has_all_rows_of_its_series_in_order"
        ),
        "test_two_phase_series_scan": Here(
            "acceptance/test_scanning.py::test_the_same_rows_are_found_however_they_are_dealt"
        ),
        "test_series_scan_flat_small_permits": Here(
            "acceptance/test_scanning.py::test_scans_of_many_parts_on_one_thread_all_come_to_an_end",
            note="By threads: there are no permits.",
        ),
        "test_range_cache_separates_or_equality_time_filters": Here(
            "acceptance/test_scanning.py::test_conditions_that_choose_other_times_never_get_each_others_rows"
        ),
    },
    "set_role_state_test.rs": {
        "test_set_role_state_gracefully": ROLES,
        "test_set_role_state_gracefully_not_exist": ROLES,
        "test_write_downgrading_region": ROLES,
        "test_unified_state_transitions": ROLES,
        "test_restricted_state_transitions": ROLES,
        "test_direct_set_region_role_staging_leader_is_noop": STAGING,
        "test_direct_set_region_role_exits_staging_state_only": STAGING,
        "test_set_region_role_can_exit_staging_to_leader": STAGING,
        "test_set_region_role_leader_clears_staging_partition_info": STAGING,
        "test_set_region_role_follower_clears_staging_partition_info": STAGING,
        "test_set_region_role_downgrading_leader_clears_staging_partition_info": STAGING,
        "test_can_reenter_staging_after_direct_exit_cleanup": STAGING,
    },
    "skip_wal_test.rs": {
        "test_close_region_skip_wal_with_pending_data": Here(
            "acceptance/test_close_and_drop.py::test_closing_a_region_without_a_log_flushes_it_whatever_was_asked"
        ),
        "test_close_region_skip_wal_without_pending_data": Here(
            "acceptance/test_close_and_drop.py::test_closing_a_region_without_a_log_and_without_rows_writes_nothing"
        ),
        "test_alter_skip_wal_stops_wal_and_flushes_on_close": Here(
            "acceptance/test_close_and_drop.py::test_a_region_whose_log_is_switched_off_writes_none_and_is_flushed_when_closed"
        ),
        "test_alter_skip_wal_on_follower_survives_promotion": NO_ROLES,
        "test_close_follower_region_skip_wal": Here(
            "acceptance/test_close_and_drop.py::test_a_reading_process_closes_a_region_without_a_log_at_once"
        ),
        "test_close_follower_region_skip_wal_with_pending_data": Absent(
            "A reading process has no rows of its own: without a log it knows those in files only."
        ),
        "test_close_region_skip_wal_while_flush_in_flight_closes_region": Here(
            "acceptance/test_close_and_drop.py::test_closing_waits_for_a_flush_under_way_and_flushes_the_rest"
        ),
        "test_close_region_skip_wal_rejects_writes_queued_after_close": Here(
            "acceptance/test_close_and_drop.py::test_a_write_that_waited_for_a_close_is_refused_and_nothing_of_it_is_there"
        ),
        "test_concurrent_close_region_skip_wal_while_flush_in_flight_succeeds": Here(
            "acceptance/test_close_and_drop.py::test_two_who_close_a_region_at_once_while_it_is_flushed_both_succeed"
        ),
        "test_close_region_after_truncate_skip_wal": Here(
            "acceptance/test_close_and_drop.py::test_rows_written_without_a_log_after_a_truncation_survive_closing"
        ),
    },
    "staging_test.rs": {
        "test_staging_state_integration": STAGING,
        "test_staging_blocks_alter_operations": STAGING,
        "test_staging_blocks_truncate_operations": STAGING,
        "test_staging_state_validation_patterns": STAGING,
        "test_staging_reject_all_writes_rejects_put": STAGING,
        "test_staging_write_partition_expr_version": STAGING,
        "test_staging_manifest_directory": STAGING,
        "test_staging_exit_success_with_manifests": STAGING,
        "test_enter_staging_writes_partition_expr_change_action": STAGING,
        "test_staging_exit_conflict_partition_expr_change_and_change": STAGING,
        "test_write_stall_on_enter_staging": STAGING,
        "test_enter_staging_clean_staging_manifest_error": STAGING,
        "test_enter_staging_save_staging_manifest_error": STAGING,
    },
    "sync_test.rs": {
        "test_sync_after_flush_region": Here(
            "acceptance/test_reading.py::test_a_reading_process_sees_files_that_were_flushed_since_it_opened"
        ),
        "test_sync_after_alter_region": Here(
            "acceptance/test_reading.py::test_a_reading_process_sees_a_schema_that_was_altered_since_it_opened"
        ),
    },
    "truncate_test.rs": {
        "test_engine_truncate_region_basic": Here(
            "acceptance/test_truncate.py::test_truncating_removes_every_row_wherever_it_lies_and_says_how_many"
        ),
        "test_engine_put_data_after_truncate": Here(
            "acceptance/test_truncate.py::test_rows_written_after_a_truncation_are_seen_and_numbered_on"
        ),
        "test_engine_truncate_after_flush": Here(
            "acceptance/test_truncate.py::test_files_go_from_the_manifest_at_once_and_from_the_store_after_the_grace"
        ),
        "test_engine_truncate_reopen": Here("acceptance/test_truncate.py::test_truncated_rows_are_not_replayed"),
        "test_engine_discard_unflushed": Here(
            "acceptance/test_truncate.py::test_giving_up_what_is_not_flushed_keeps_the_files_also_after_a_crash"
        ),
        "test_engine_discard_unflushed_skip_wal": Here(
            "acceptance/test_truncate.py::test_giving_up_rows_without_a_log_leaves_the_entry_id_at_zero"
        ),
        "test_engine_discard_unflushed_wakes_stalled_writes": Here(
            "acceptance/test_truncate.py::test_memory_that_was_given_up_lets_writes_to_other_regions_go_on",
            note="They look again when the flush that they wait for has ended, not before.",
        ),
        "test_engine_truncate_during_flush": Here(
            "acceptance/test_truncate.py::test_a_flush_under_way_finds_its_rows_truncated_and_leaves_no_file"
        ),
        "test_engine_discard_unflushed_during_flush": Here(
            "acceptance/test_truncate.py::test_a_flush_under_way_finds_its_rows_truncated_and_leaves_no_file"
        ),
        "test_engine_discard_unflushed_after_flush_commit_started": Here(
            "acceptance/test_truncate.py::test_a_flush_that_is_committed_already_is_waited_for"
        ),
    },
}

RELATED: dict[str, dict[str, Entry]] = {
    "compaction/scheduler_test.rs": {
        "test_picking_compacting_files_rolls_back_on_conflict": Here(
            "engine/test_compaction.py::test_a_plan_whose_files_went_meanwhile_is_made_anew",
            note="No file is reserved: a task is checked before it is merged, and once more before it is committed.",
        ),
        "test_find_compaction_options_db_level": Here(
            "model/test_options.py::test_what_a_table_says_of_compactions_counts_and_else_what_the_store_says"
        ),
        "test_find_compaction_options_priority": Here(
            "model/test_options.py::test_what_a_table_says_of_compactions_counts_and_else_what_the_store_says"
        ),
        "test_schedule_empty": Here(
            "acceptance/test_cycles.py::test_a_region_without_files_or_with_one_is_left_as_it_is_and_can_be_asked_again"
        ),
        "test_schedule_compaction_returns_true_when_task_scheduled": Here(
            "engine/test_background.py::test_enough_overlapping_files_are_compacted_without_being_asked"
        ),
        "test_planning_followup_reports_automatic_schedule": Here(
            "engine/test_compaction.py::test_what_becomes_due_during_a_cycle_is_merged_without_being_asked"
        ),
        "test_planning_panic_notifies_and_clears_status": Here(
            "acceptance/test_cycles.py::test_planning_that_breaks_is_told_to_who_asked_and_the_next_request_is_carried_out"
        ),
        "test_ddl_fence_prevents_repeated_regular_followups": NO_QUEUE,
        "test_pick_result_mismatched_token_keeps_status_and_waiter_untouched": Here(
            "engine/test_compaction.py::test_a_merge_that_was_begun_before_the_region_was_closed_and_opened_again_commits_nothing",
            note="Cycles have no numbers: one of a region that was let go can commit nothing any more.",
        ),
        "test_pick_result_accepts_unrelated_concurrent_flush": Here(
            "acceptance/test_cycles.py::test_a_flush_of_other_times_does_not_make_a_merge_begin_anew"
        ),
        "test_pick_result_refreshes_replaced_selected_file": Here(
            "acceptance/test_cycles.py::test_an_index_that_is_built_meanwhile_does_not_make_a_merge_begin_anew"
        ),
        "test_pick_result_local_submission_failure_releases_and_notifies_once": Here(
            "acceptance/test_cycles.py::test_a_compaction_that_nobody_takes_on_is_told_and_does_not_stick"
        ),
        "test_pick_result_remote_submission_failure_releases_and_notifies_once": Here(
            "engine/test_elsewhere.py::test_what_is_not_taken_on_is_done_here",
            note="It is always done here then: who asked gets what was asked for, and no error.",
        ),
        "test_remote_fallback_uses_new_execution_plan_id": Here(
            "engine/test_elsewhere.py::test_a_job_that_was_taken_for_refused_and_is_done_late_changes_nothing",
            note="Fenced by the names of outputs: what is done here instead has others.",
        ),
        "test_stale_plan_execution_does_not_affect_replacement_status": Here(
            "engine/test_compaction.py::test_a_merge_that_was_begun_before_the_region_was_closed_and_opened_again_commits_nothing"
        ),
        "test_schedule_compaction_skips_task_exceeding_memory_limit": Here(
            "engine/test_compaction.py::test_a_merge_that_would_take_too_much_memory_is_skipped_and_told_of",
            note="Who asked is told so by an error, when the rest is merged.",
        ),
        "test_execution_finished_without_followup_removes_status": Here(
            "engine/test_compaction.py::test_a_second_request_is_refused_while_the_first_is_carried_out",
            note="And not when it has ended.",
        ),
        "test_time_range_compaction_when_compaction_in_progress": Here(
            "acceptance/test_cycles.py::test_a_request_for_some_times_that_has_to_wait_is_carried_out_for_those_times"
        ),
        "test_automatic_compaction_merges_with_manual_compaction": Here(
            "engine/test_compaction.py::test_what_becomes_due_while_a_request_is_carried_out_is_merged_after_it"
        ),
        "test_manual_compaction_rejects_another_manual_compaction": Here(
            "engine/test_compaction.py::test_a_second_request_is_refused_while_the_first_is_carried_out"
        ),
        "test_ranged_compaction_stops_without_followup": Here(
            "engine/test_compaction.py::test_only_windows_of_the_times_asked_for_are_merged"
        ),
        "test_automatic_trigger_during_execution_clears_continuation_scope": Here(
            "engine/test_compaction.py::test_what_becomes_due_while_a_request_is_carried_out_is_merged_after_it",
            note="The request is for one window, and what comes due meanwhile is in another.",
        ),
        "test_compaction_bypass_in_staging_mode": STAGING,
        "test_add_ddl_request_to_pending": NO_QUEUE,
        "test_pending_ddl_fences_later_compaction_triggers": NO_QUEUE,
        "test_request_cancel_state_transitions": Here(
            "engine/test_compaction.py::test_truncating_cancels_what_is_merged_and_what_waits",
            note="That it is too late once it commits: acceptance/test_truncate.py.",
        ),
        "test_request_cancel_remote_compaction_is_too_late": Here(
            "engine/test_elsewhere.py::test_what_nobody_wants_any_more_is_cancelled_and_deleted",
            note="It is not too late: a change waits for nobody elsewhere, and cancels what is merged there.",
        ),
        "test_try_cancel_and_add_ddl_returns_request_when_not_running": Here(
            "acceptance/test_truncate.py::test_truncating_removes_every_row_wherever_it_lies_and_says_how_many",
            note="With nothing to cancel a change goes at once, as it always does.",
        ),
        "test_try_cancel_and_add_ddl_cancels_and_queues_atomically": Here(
            "engine/test_compaction.py::test_truncating_cancels_what_is_merged_and_what_waits",
            note="Nothing is queued: the change goes at once.",
        ),
        "test_on_compaction_cancelled_returns_pending_ddl_requests": NO_QUEUE,
        "test_on_compaction_cancelled_prioritizes_pending_ddls_over_pending_compaction": Here(
            "engine/test_compaction.py::test_truncating_cancels_what_is_merged_and_what_waits"
        ),
        "test_pending_ddl_request_failed_on_compaction_failed": NO_QUEUE,
        "test_pending_ddl_request_failed_on_region_closed": NO_QUEUE,
        "test_pending_ddl_request_failed_on_region_dropped": NO_QUEUE,
        "test_pending_ddl_request_failed_on_region_truncated": NO_QUEUE,
        "test_on_compaction_finished_returns_pending_ddl_requests": NO_QUEUE,
        "test_planning_terminal_prioritizes_pending_ddl_over_automatic_followup": NO_QUEUE,
        "test_on_compaction_finished_dispatches_pending_ddl_before_chained_regular": NO_QUEUE,
        "test_on_compaction_finished_returns_empty_when_region_absent": Here(
            "acceptance/test_cycles.py::test_what_is_merged_and_what_waits_is_told_when_the_region_goes"
        ),
        "test_on_compaction_finished_manual_schedule_error_cleans_status": Here(
            "acceptance/test_cycles.py::test_a_request_that_waits_and_that_nobody_takes_on_is_told_and_does_not_stick"
        ),
        "test_concurrent_memory_competition": Here("engine/test_allowance.py::test_what_others_have_is_not_lent"),
    },
    "gc/worker_test.rs": {
        "test_gc_worker_ignores_dropping_marker_file": Here(
            "engine/test_background.py::test_what_a_crash_left_is_deleted_after_the_grace_and_foreign_files_never",
            note="Any name that is not that of an SST; the mark of a drop lies in another folder.",
        ),
        "test_gc_worker_basic_truncate": Here(
            "acceptance/test_truncate.py::test_files_go_from_the_manifest_at_once_and_from_the_store_after_the_grace"
        ),
        "test_gc_worker_truncate_with_ref": Here(
            "acceptance/test_cleanup.py::test_files_that_are_listed_no_more_stay_as_long_as_a_scan_reads_them"
        ),
        "test_gc_worker_basic_compact": Here(
            "engine/test_background.py::test_files_of_a_finished_compaction_go_when_the_grace_is_over"
        ),
        "test_gc_worker_compact_with_ref": Here(
            "acceptance/test_cleanup.py::test_files_that_are_listed_no_more_stay_as_long_as_a_scan_reads_them"
        ),
        "test_unknown_file_within_ttl_not_deleted": Here(
            "jobs/test_gc.py::test_a_file_goes_when_nobody_needs_it_and_the_grace_is_over"
        ),
        "test_unknown_file_exceeded_ttl_deleted": Here(
            "engine/test_background.py::test_what_a_crash_left_is_deleted_after_the_grace_and_foreign_files_never"
        ),
        "test_unknown_file_dropped_region_deleted": Here(
            "acceptance/test_cleanup.py::test_of_a_dropped_region_files_that_nobody_ever_listed_go_too",
            note="When the grace period of the drop is over, and not at once.",
        ),
        "test_file_in_manifest_not_deleted": Here(
            "jobs/test_gc.py::test_whatever_is_listed_or_needed_stays_and_the_reason_is_told"
        ),
        "test_file_in_tmp_ref_not_deleted": Here(
            "jobs/test_gc.py::test_whatever_is_listed_or_needed_stays_and_the_reason_is_told"
        ),
        "test_known_file_still_lingering_not_deleted": Here(
            "jobs/test_gc.py::test_a_file_goes_when_nobody_needs_it_and_the_grace_is_over"
        ),
        "test_known_file_eligible_for_delete_deleted": Here(
            "jobs/test_gc.py::test_a_file_goes_when_nobody_needs_it_and_the_grace_is_over"
        ),
        "test_unknown_file_at_cutoff_not_deleted": Absent(
            "The other way round: a grace period of a second is over after a second, and a file just that old goes."
        ),
        "test_missing_last_modified_unknown_kept": Absent(
            "Every store says when an object was written; without that it cannot be a driver."
        ),
        "test_file_in_manifest_old_mtime_kept": Here(
            "jobs/test_gc.py::test_whatever_is_listed_or_needed_stays_and_the_reason_is_told"
        ),
        "test_file_in_tmp_ref_old_mtime_kept": Here(
            "jobs/test_gc.py::test_whatever_is_listed_or_needed_stays_and_the_reason_is_told"
        ),
        "test_on_region_gc_skipped_when_no_files_deleted": Absent(
            "There is no quick pass: each looks at every file, and hooks are told of each."
        ),
        "test_on_region_gc_fires_when_live_region_has_deleted_files": Here(
            "engine/test_hooks.py::test_gc_is_told_as_such_and_not_as_a_change_of_the_manifest"
        ),
        "test_on_region_gc_fires_for_dropped_region": Here(
            "engine/test_hooks.py::test_of_a_dropped_region_it_is_told_when_its_files_have_gone"
        ),
        "test_on_region_gc_fires_on_full_listing_without_deleted_files": Here(
            "engine/test_hooks.py::test_a_gc_that_finds_nothing_is_told_as_one_that_looked_at_every_file"
        ),
        "test_on_region_gc_failure_routes_region_to_retry": Absent(
            "A hook holds up nothing by failing, and so no clean-up either: it is logged, told by health, and the next "
            "pass comes all the same."
        ),
    },
    "manifest/tests/checkpoint.rs": {
        "manager_without_checkpoint": Here(
            "storage/test_manifest.py::test_a_checkpoint_is_written_when_that_many_deltas_have_come",
            note="There is none before; they cannot be switched off for good.",
        ),
        "manager_with_checkpoint_distance_1": Here(
            "acceptance/test_cleanup.py::test_with_a_checkpoint_for_each_version_two_of_them_are_kept_and_one_delta"
        ),
        "test_corrupted_data_causing_checksum_error": Here(
            "storage/test_manifest.py::test_without_any_good_checkpoint_the_damaged_one_is_named",
            note="As long as there is an older one that is good, nothing is lost.",
        ),
        "checkpoint_with_different_compression_types": Here(
            "storage/test_manifest.py::test_checkpoints_are_read_however_each_is_packed",
            note="There is one way of packing, and none.",
        ),
        "manifest_install_manifest_to": Here(
            "engine/test_holding.py::test_a_reader_can_be_sent_to_a_version",
            note="It goes on to the newest, which is the one that was named or comes after it.",
        ),
        "manifest_install_manifest_to_with_checkpoint": Here(
            "engine/test_holding.py::test_a_reader_can_be_sent_to_a_version_whose_deltas_a_checkpoint_has_replaced"
        ),
        "test_checkpoint_bypass_in_staging_mode": STAGING,
        "checkpoint advances and recovery works when delta deletion fails": Here(
            "acceptance/test_cleanup.py::test_checkpoints_go_on_and_are_read_while_deltas_cannot_be_deleted"
        ),
    },
}
