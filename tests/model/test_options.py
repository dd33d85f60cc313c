from __future__ import annotations

import json

import pytest

from mitoframe.model.errors import ConfigError
from mitoframe.model.options import MitoConfig, RegionOptions

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
        ({"compaction_trigger_files": 1}, "compaction_trigger_files=1 must be an integer of at least 2"),
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


@pytest.mark.parametrize("options", [RegionOptions(), RegionOptions(compaction_window_ms=3_600_000)], ids=repr)
def test_options_survive_being_json(options):
    assert RegionOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_an_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no option 'compaction_window'; did you mean 'compaction_window_ms'\?"):
        RegionOptions.from_json({"compaction_window": 1})
