from __future__ import annotations

import json

from builders import file_id_of, file_of

from mitoframe.model.file import FileMeta, RemovedFile


def test_what_is_known_of_a_file_survives_being_json():
    file = file_of("a", -5, 2**62, checksum=2**32 - 1, delete_count=3)
    removed = RemovedFile(file_id=file_id_of("b"), removed_ms=12)

    assert FileMeta.from_json(json.loads(json.dumps(file.to_json()))) == file
    assert RemovedFile.from_json(json.loads(json.dumps(removed.to_json()))) == removed
