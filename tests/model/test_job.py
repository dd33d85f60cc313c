from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from builders import file_id_of, file_of, metadata_of, with_field
from hypothesis import given
from hypothesis import strategies as st

from mitoframe.model.errors import ConfigError, InvalidInputError
from mitoframe.model.job import JOB_FORMAT, CompactionJob
from mitoframe.model.timerange import EVERYTHING, TimeRange

JOB = CompactionJob(
    job_id="0" * 32,
    metadata=with_field(metadata_of(), "load", pa.float32()),
    inputs=(file_of("a", 0, 9), file_of("b", 5, 20, blocks=(1, 2**32 - 1), block_bytes=7, nan_columns=(3,))),
    output_ids=(file_id_of("c"), file_id_of("d")),
    dedup="merge",
    drop_deletes=True,
    row_group_rows=100,
    now_ms=5,
)


@given(
    dedup=st.sampled_from(["last", "merge", "none"]),
    drop_deletes=st.booleans(),
    windows=st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62)), max_size=3),
    size_bytes=st.none() | st.integers(1, 2**40),
    helpers=st.integers(0, 9),
)
def test_a_job_is_read_as_it_was_written(dedup, drop_deletes, windows, size_bytes, helpers):
    job = replace(
        JOB,
        dedup=dedup,
        drop_deletes=drop_deletes,
        output_windows=tuple(TimeRange(*window) for window in windows) or (EVERYTHING,),
        output_size_max_bytes=size_bytes,
        helpers_max=helpers,
    )

    line = job.to_line()

    assert CompactionJob.from_line(line) == job
    assert line.count(b"\n") == 1


def test_a_job_of_a_newer_mitoframe_is_refused():
    value = json.loads(JOB.to_line()) | {"format": JOB_FORMAT + 1}

    with pytest.raises(ConfigError, match="update mitoframe there"):
        CompactionJob.from_line(json.dumps(value).encode())


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"null", b"{}", b"\xff", b'{"format": 1}', JOB.to_line()[:-40], JOB.to_line().replace(b"dedup", b"d")],
    ids=["nothing", "list", "null", "empty", "no text", "format only", "cut short", "another name"],
)
def test_what_is_no_job_is_refused(line):
    with pytest.raises(InvalidInputError, match="this is no job that mitoframe wrote"):
        CompactionJob.from_line(line)
