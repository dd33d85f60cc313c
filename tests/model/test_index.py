import json
from dataclasses import replace

import pyarrow as pa
import pytest
from builders import file_of, metadata_of

from mitoframe.model.alter import AddColumns, DropColumns, ModifyColumnTypes, NewColumn, SetIndexes, alter
from mitoframe.model.edit import FileEdit, RegionState, edit_from_json
from mitoframe.model.errors import ConflictError
from mitoframe.model.file import FileMeta
from mitoframe.model.index import TERMS, IndexEntry, IndexMeta, entry_of, wanted_indexes
from mitoframe.model.options import RegionOptions
from mitoframe.model.schema import INDEX_KINDS

METADATA = metadata_of(fields={"cpu": pa.int32(), "text": pa.string(), "marks": pa.list_(pa.int64())})
INDEX = IndexMeta(
    version=3,
    size_bytes=10,
    checksum=7,
    created_ms=5,
    entries=(IndexEntry(column_id=4, kind="fulltext", type="string", terms=TERMS),),
)


def wanted(*alterations) -> list[tuple[int, str, str]]:
    metadata = METADATA
    for alteration in alterations:
        metadata = alter(metadata, alteration)
    return [(entry.column_id, entry.kind, entry.type) for entry in wanted_indexes(metadata)]


def test_indexes_are_wanted_of_fields_in_a_fixed_order():
    found = wanted(SetIndexes({"text": ("fulltext", "inverted"), "cpu": ("skipping",)}))

    assert found == [(3, "skipping", "int32"), (4, "inverted", "string"), (4, "fulltext", "string")]


def test_nothing_is_built_for_tags_and_lists():
    assert wanted(SetIndexes({"host": INDEX_KINDS, "marks": ("inverted",)})) == []


def test_a_column_of_another_type_or_another_column_wants_another_index():
    before = wanted(SetIndexes({"cpu": ("skipping",)}))
    retyped = wanted(SetIndexes({"cpu": ("skipping",)}), ModifyColumnTypes({"cpu": pa.int64()}))
    again = wanted(
        DropColumns(("cpu",)), AddColumns((NewColumn("cpu", pa.int32()),)), SetIndexes({"cpu": ("skipping",)})
    )

    assert (before, retyped, again) == (
        [(3, "skipping", "int32")],
        [(3, "skipping", "int64")],
        [(6, "skipping", "int32")],
    )


def test_only_full_text_depends_on_how_texts_are_taken_apart():
    text = METADATA.columns[3]

    assert [entry_of(text, kind).terms for kind in INDEX_KINDS] == ["", "", TERMS]


def test_a_file_reads_back_with_its_index_and_an_older_one_without():
    file = file_of("a", 0, 9, index=INDEX)

    assert FileMeta.from_json(json.loads(json.dumps(file.to_json()))) == file
    assert "index" not in replace(file, index=None).to_json()
    assert FileMeta.from_json(replace(file, index=None).to_json()).index is None


def state_of(*files: FileMeta) -> RegionState:
    return RegionState(metadata=METADATA, options=RegionOptions()).apply(FileEdit(added=files))


def test_an_edit_gives_a_file_its_index_and_leaves_the_rest():
    one, other = file_of("a", 0, 9), file_of("b", 5, 9)
    edit = FileEdit(indexed=((one.file_id, INDEX),), reason="index")

    state = state_of(one, other).apply(edit_from_json(json.loads(json.dumps(edit.to_json()))))

    assert state.files[one.file_id].index == INDEX
    assert state.files[other.file_id].index is None
    assert replace(state.files[one.file_id], index=None) == state_of(one, other).files[one.file_id]
    assert edit.is_neutral
    assert RegionState.from_json(json.loads(json.dumps(state.to_json()))).files == state.files


def test_an_edit_without_indexes_is_written_as_before():
    assert "indexed" not in FileEdit().to_json()["files"]


def test_a_file_that_has_gone_gets_no_index():
    one = file_of("a", 0, 9)
    state = state_of(one).apply(FileEdit(removed=(one.file_id,)))

    with pytest.raises(ConflictError, match="not in the region any more"):
        state.apply(FileEdit(indexed=((one.file_id, INDEX),)))
