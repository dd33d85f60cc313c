from __future__ import annotations

import json

import pytest

from mitoframe.model.errors import ConfigError
from mitoframe.model.options import MitoConfig, RegionOptions, compaction_options

AT_LEAST_ONE = [
    "sync_interval_ms",
    "wal_segment_size_bytes",
    "write_buffer_size_bytes",
    "write_stall_ms",
    "checkpoint_distance",
    "row_group_rows",
]


@pytest.mark.parametrize("name", AT_LEAST_ONE)
@pytest.mark.parametrize("value", [0, -1, 1.5, "1", None, True], ids=repr)
def test_a_limit_that_is_not_a_positive_integer_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name}={value!r} must be an integer of at least 1"):
        MitoConfig(**{name: value})


@pytest.mark.parametrize("name", AT_LEAST_ONE)
def test_a_limit_of_one_is_fine(name):
    assert getattr(MitoConfig(**{name: 1}), name) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sync": "often"}, "sync='often' is not one of 'always', 'interval', 'never'"),
        ({"wal_recovery": "hope"}, "wal_recovery='hope' is not one of"),
        ({"gc_grace_ms": -1}, "gc_grace_ms=-1 must be an integer of at least 0"),
        ({"gc_unknown_grace_ms": -1}, "gc_unknown_grace_ms=-1 must be an integer of at least 0"),
        ({"manifest_compression": "gzip"}, "manifest_compression='gzip' is not one of 'none', 'zlib'"),
        ({"compaction_trigger_files": 1}, "compaction_trigger_files=1 must be an integer of at least 2"),
        ({"compaction_memory_limit_bytes": 0}, "compaction_memory_limit_bytes=0 must be an integer of at least 1"),
        ({"compaction_memory_wait_ms": -1}, "compaction_memory_wait_ms=-1 must be an integer of at least 0"),
        ({"compaction_runner": "moon"}, "compaction_runner='moon' is not one of 'local', 'processes'"),
        ({"compaction_threads": 0}, "compaction_threads=0 must be an integer of at least 1"),
        ({"compaction_on_exhausted": "cry"}, "compaction_on_exhausted='cry' is not one of 'wait', 'fail'"),
        ({"compaction_mode": "never"}, "compaction_mode='never' is not one of 'automatic', 'manual'"),
        ({"compaction_mode": None}, "compaction_mode=None is not one of 'automatic', 'manual'"),
        ({"compaction_policy": "all"}, "compaction_policy='all' is not one of 'runs', 'count'"),
        ({"compaction_settled_trigger_files": 1}, "compaction_settled_trigger_files=1 must be an integer of at least"),
        ({"compaction_settle_ms": -1}, "compaction_settle_ms=-1 must be an integer of at least 0"),
        ({"compaction_input_files_max": 1}, "compaction_input_files_max=1 must be an integer of at least 2"),
        ({"compaction_input_files_max": 3}, "compaction_trigger_files=4 is above compaction_input_files_max=3"),
        ({"compaction_input_size_max_bytes": 5}, "sst_size_bytes is above compaction_input_size_max_bytes"),
        ({"sst_size_bytes": "big", "compaction_input_size_max_bytes": 5}, "sst_size_bytes='big' must be an integer"),
        ({"write_buffer_limit_bytes": 5}, "write_buffer_limit_bytes is below write_buffer_size_bytes"),
        ({"write_buffer_limit_bytes": "much"}, "write_buffer_limit_bytes='much' must be an integer"),
        ({"flush_on_close": "no"}, "flush_on_close='no' is not one of True, False"),
        ({"sync": ["always"]}, r"sync=\['always'\] is not one of"),
    ],
    ids=repr,
)
def test_a_bad_setting_is_refused_by_name(setting, message):
    with pytest.raises(ConfigError, match=message):
        MitoConfig(**setting)


@pytest.mark.parametrize("value", [999, 0, -1, 1.5, "1h", True], ids=repr)
def test_a_compaction_window_below_a_second_is_refused(value):
    with pytest.raises(ConfigError, match=r"compaction_window_ms=.* must be an integer of at least 1000"):
        RegionOptions(compaction_window_ms=value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl_ms": 0}, "ttl_ms=0 must be an integer of at least 1"),
        ({"ttl_ms": 1.5}, "ttl_ms=1.5 must be an integer"),
        ({"sst_size_bytes": 0}, "sst_size_bytes=0 must be an integer of at least 1"),
        ({"compaction_mode": "never"}, "compaction_mode='never' is not one of 'automatic', 'manual', None"),
        ({"compaction_trigger_files": True}, "compaction_trigger_files=True must be an integer of at least 2"),
        ({"compaction_trigger_files": 9, "compaction_input_files_max": 8}, "compaction_trigger_files=9 is above"),
        ({"sst_size_bytes": 9, "compaction_input_size_max_bytes": 8}, "sst_size_bytes is above"),
    ],
    ids=repr,
)
def test_a_bad_option_of_a_table_is_refused_by_name(options, message):
    with pytest.raises(ConfigError, match=message):
        RegionOptions(**options)


def test_what_a_table_says_of_compactions_counts_and_else_what_the_store_says():
    config = MitoConfig(compaction_trigger_files=5, compaction_settle_ms=7, sst_size_bytes=1000)

    found = compaction_options(config, RegionOptions(compaction_settle_ms=0, compaction_policy="runs", ttl_ms=9))

    assert (found.trigger_files, found.settle_ms, found.policy, found.ttl_ms) == (5, 0, "runs", 9)
    assert (found.output_size_max_bytes, found.input_files_max, found.window_ms) == (1000, 32, None)


def test_a_limit_of_the_store_gives_way_to_what_a_table_says():
    config = MitoConfig(
        compaction_trigger_files=6,
        compaction_input_files_max=8,
        sst_size_bytes=1000,
        compaction_input_size_max_bytes=2000,
    )

    def known(**options):
        found = compaction_options(config, RegionOptions(**options))
        return found.trigger_files, found.input_files_max, found.output_size_max_bytes, found.input_size_max_bytes

    assert known() == (6, 8, 1000, 2000)
    assert known(compaction_trigger_files=50) == (50, 50, 1000, 2000)
    assert known(compaction_input_files_max=5) == (5, 5, 1000, 2000)
    assert known(sst_size_bytes=3000) == (6, 8, 3000, 3000)
    assert known(compaction_input_size_max_bytes=10) == (6, 8, 10, 10)


def test_as_many_files_as_start_a_merge_can_be_merged():
    assert compaction_options(MitoConfig(compaction_trigger_files=1000), RegionOptions()).input_files_max == 1000


ALL_OPTIONS = RegionOptions(
    ttl_ms=1000,
    sst_size_bytes=5,
    compaction_mode="manual",
    compaction_policy="runs",
    compaction_trigger_files=2,
    compaction_settled_trigger_files=3,
    compaction_settle_ms=0,
    compaction_input_files_max=9,
    compaction_input_size_max_bytes=10,
)


@pytest.mark.parametrize(
    "options",
    [RegionOptions(), RegionOptions(compaction_window_ms=3_600_000), ALL_OPTIONS],
    ids=["none", "window", "all"],
)
def test_options_survive_being_json(options):
    assert RegionOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_an_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no option 'compaction_window'; did you mean 'compaction_window_ms'\?"):
        RegionOptions.from_json({"compaction_window": 1})
