from __future__ import annotations

import json

from builders import file_id_of, file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.file import FileMeta, RemovedFile


@settings(deadline=None)
@given(st.integers(0, 8), st.integers(0, 4), st.integers(0, 8), st.integers(0, 4))
def test_files_overlap_when_they_have_a_time_in_common(first, length, other_first, other_length):
    left, right = file_of("a", first, first + length), file_of("b", other_first, other_first + other_length)

    common = set(range(first, first + length + 1)) & set(range(other_first, other_first + other_length + 1))

    assert left.overlaps(right) == right.overlaps(left) == bool(common)


def test_what_is_known_of_a_file_survives_being_json():
    file = file_of("a", -5, 2**62, checksum=2**32 - 1, delete_count=3)
    removed = RemovedFile(file_id=file_id_of("b"), removed_ms=12)

    assert FileMeta.from_json(json.loads(json.dumps(file.to_json()))) == file
    assert RemovedFile.from_json(json.loads(json.dumps(removed.to_json()))) == removed
