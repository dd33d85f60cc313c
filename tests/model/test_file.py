from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest
from builders import file_id_of, file_of, metadata_of, with_field

from mitoframe.model.file import FileMeta, RemovedFile, columns_without_nan
from mitoframe.model.predicate import ColumnStats


def test_what_is_known_of_a_file_survives_being_json():
    file = file_of("a", -5, 2**62, checksum=2**32 - 1, delete_count=3)
    removed = RemovedFile(file_id=file_id_of("b"), removed_ms=12)

    assert FileMeta.from_json(json.loads(json.dumps(file.to_json()))) == file
    assert RemovedFile.from_json(json.loads(json.dumps(removed.to_json()))) == removed


def test_what_is_not_known_of_a_file_is_left_out_as_older_versions_did():
    file = file_of("a", 0, 10)

    value = file.to_json()

    unknown = {"leading_tags", "nan_columns", "covers", "blocks", "index", "sequence_base", "derived_version"}
    assert not unknown & value.keys()
    assert FileMeta.from_json(json.loads(json.dumps(value))) == file


@pytest.mark.parametrize(
    ("minimum", "maximum"),
    [("", "ü\ud7ff\U0010ffff"), ("z", None), (-(2**63), 2**64 - 1), (False, True), (date(1, 1, 1), date(9999, 12, 31))],
    ids=repr,
)
def test_tags_and_nan_of_a_file_survive_being_json(minimum, maximum):
    constant = ColumnStats(minimum="a", maximum="a", null_count=0, row_count=3)
    several = ColumnStats(minimum=minimum, maximum=maximum, null_count=1, row_count=3)
    file = file_of("a", 0, 10, series_count=3, leading_tags=(constant, several), nan_columns=(4, 7))

    found = FileMeta.from_json(json.loads(json.dumps(file.to_json())))

    assert found == file
    assert [type(stats.minimum) for stats in found.leading_tags] == [str, type(minimum)]
    assert FileMeta.from_json(replace(file, nan_columns=()).to_json()).nan_columns == ()


def test_a_column_is_without_nan_if_all_files_are_known_to_hold_none_under_its_id():
    metadata = metadata_of(fields={"cpu": pa.float64(), "load": pa.float32(), "rack": pa.int64()})
    cpu, load, _ = (field.column_id for field in metadata.fields)
    neither, with_cpu, unknown = (file_of("a", 0, 1, nan_columns=known) for known in ((), (cpu,), None))

    assert columns_without_nan(metadata, [neither, neither]) == {"cpu", "load"}
    assert columns_without_nan(metadata, [neither, with_cpu]) == {"load"}
    assert columns_without_nan(metadata, [neither, unknown]) == frozenset()
    assert columns_without_nan(with_field(metadata, "new", pa.float64()), [with_cpu]) == {"load", "new"}
    assert load not in with_cpu.nan_columns
