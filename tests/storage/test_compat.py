from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import HOST, REGION, Row, batch_of, file_id_of, metadata_of, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.frames.arrow import to_batch
from mitoframe.model.alter import (
    AddColumns,
    Alteration,
    DropColumns,
    DropDefaults,
    ModifyColumnTypes,
    NewColumn,
    SetDefaults,
    SetIndexes,
    UnsetIndexes,
    alter,
)
from mitoframe.model.batch import Batch, OpType
from mitoframe.model.errors import SchemaMismatchError
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import Sequence
from mitoframe.model.predicate import And, Compare, IsNull, matching
from mitoframe.model.schema import RegionMetadata
from mitoframe.storage.compat import fit_batch, fit_fields, former_fields, is_unchanged, reads_as_it_is
from mitoframe.storage.paths import sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of(HOST, {"cpu": pa.int32(), "note": pa.large_string()})
FIELDS = pa.RecordBatch.from_pydict(
    {"cpu": [1, None], "note": ["a", "b"]}, schema=METADATA.arrow_schema().remove(0).remove(0)
)


def fitted(*alterations: Alteration, names: list[str] | None = None) -> dict[str, list[Any]]:
    new = METADATA
    for alteration in alterations:
        new = alter(new, alteration)
    found = fit_fields(FIELDS, METADATA, new, names)
    assert found.schema.types == [new.arrow_schema().field(name).type for name in found.schema.names]
    assert found.num_rows == 2
    return found.to_pydict()


def add(*columns: NewColumn) -> AddColumns:
    return AddColumns(columns)


# --- fields ---------------------------------------------------------------------------------------------


def test_fields_of_the_same_schema_are_handed_on_as_they_are():
    found = fit_fields(FIELDS, METADATA, METADATA, ["note", "cpu"])

    assert found.schema.names == ["note", "cpu"]
    assert [column.buffers()[-1].address for column in found.columns] == [
        FIELDS.column(name).buffers()[-1].address for name in ("note", "cpu")
    ]


def test_a_field_that_was_added_reads_as_its_first_default_or_null():
    added = add(NewColumn("mem", pa.int8(), default=7, first=True), NewColumn("disk", pa.string()))
    later = SetDefaults({"mem": 8, "disk": "x"})

    assert fitted(added) == {"mem": [7, 7], "cpu": [1, None], "note": ["a", "b"], "disk": [None, None]}
    assert fitted(added, later) == fitted(added, DropDefaults(("mem",))) == fitted(added)


def test_a_field_that_was_there_keeps_its_nulls_whatever_its_default():
    assert fitted(SetDefaults({"cpu": 5})) == {"cpu": [1, None], "note": ["a", "b"]}


def test_a_field_that_was_dropped_is_another_than_one_added_under_its_name():
    dropped = DropColumns(("cpu",))

    assert fitted(dropped) == {"note": ["a", "b"]}
    assert fitted(dropped, add(NewColumn("cpu", pa.int32()))) == {"note": ["a", "b"], "cpu": [None, None]}


def test_a_retyped_field_and_its_first_default_are_cast():
    added = add(NewColumn("mem", pa.int8(), default=7))

    assert fitted(added, ModifyColumnTypes({"cpu": pa.string(), "mem": pa.float64()})) == {
        "cpu": ["1", None],
        "note": ["a", "b"],
        "mem": [7.0, 7.0],
    }


def test_only_the_named_fields_are_fitted():
    added = add(NewColumn("mem", pa.int8(), default=7))

    assert fitted(added, names=["mem", "note"]) == {"mem": [7, 7], "note": ["a", "b"]}
    assert fitted(added, names=[]) == {}
    assert fitted(DropColumns(("cpu", "note"))) == {}


def test_only_fields_that_are_there_and_wanted_need_be_read():
    new = alter(alter(METADATA, DropColumns(("cpu",))), add(NewColumn("cpu", pa.int32()), NewColumn("mem", pa.int8())))

    assert former_fields(METADATA, new, ["mem", "note", "cpu"]) == [METADATA.fields[1]]


@pytest.mark.parametrize(
    ("alterations", "wanted"),
    [
        ([], [True]),
        ([add(NewColumn("mem", pa.int8()))], [True, True]),
        ([add(NewColumn("mem", pa.int8(), default=1))], [False, True]),
        ([ModifyColumnTypes({"cpu": pa.int64()})], [False, True]),
        ([DropColumns(("cpu",))], [True, True]),
        ([DropColumns(("cpu",)), add(NewColumn("cpu", pa.int32()))], [False, False, True]),
        ([SetDefaults({"cpu": 1}), DropDefaults(("cpu",))], [True, True, True]),
        ([SetIndexes({"cpu": ("skipping",)})], [True, True]),
    ],
    ids=repr,
)
def test_files_older_than_a_change_of_what_a_name_means_are_not_read_by_name(alterations, wanted):
    metadata = METADATA
    for alteration in alterations:
        metadata = alter(metadata, alteration)

    assert [reads_as_it_is(metadata, version) for version in range(1, metadata.schema_version + 1)] == wanted


# --- rows that are yet to be written --------------------------------------------------------------------


def batch(metadata: RegionMetadata = METADATA, **fields: Any) -> Batch:
    """Make two rows that have the named fields only."""
    columns = tuple(column for column in metadata.columns if column.name in {"host", "ts", *fields})
    rows = [Row(n + 1, n, ("ab"[n],), tuple(values[n] for values in fields.values())) for n in range(2)]
    return batch_of(replace(metadata, columns=columns), rows)


def fields_of(batch: Batch) -> dict[str, list[Any]]:
    return batch.fields.to_pydict()


CPU_AND_NOTE = {"cpu": [1, None], "note": ["a", "b"]}


def test_rows_that_fit_are_handed_on_as_they_are():
    rows = batch(**CPU_AND_NOTE)

    assert fit_batch(rows, METADATA) is fit_batch(rows, METADATA, METADATA) is rows
    assert fit_batch(rows, alter(METADATA, SetDefaults({"cpu": 5})), METADATA) is rows


def test_rows_without_a_field_get_its_default():
    metadata = alter(alter(METADATA, add(NewColumn("mem", pa.int8(), default=7))), SetDefaults({"mem": 8, "cpu": 9}))

    assert fields_of(fit_batch(batch(**CPU_AND_NOTE), metadata, METADATA)) == CPU_AND_NOTE | {"mem": [8, 8]}
    assert fields_of(fit_batch(batch(note=["a", None]), metadata)) == {
        "cpu": [9, 9],
        "note": ["a", None],
        "mem": [8, 8],
    }
    assert fit_batch(batch(cpu=[None, None]), metadata_of(HOST, {}), METADATA).fields.shape == (2, 0)


def test_a_delete_has_no_defaults():
    metadata = alter(METADATA, add(NewColumn("mem", pa.list_(pa.int8()), default=[7])))
    rows = replace(batch(cpu=[1, None]), op_types=np.array([OpType.PUT, OpType.DELETE], dtype=np.uint8))

    assert fields_of(fit_batch(rows, metadata)) == {"cpu": [1, None], "note": [None, None], "mem": [[7], None]}


def test_fields_that_were_retyped_meanwhile_are_cast():
    metadata = alter(METADATA, ModifyColumnTypes({"cpu": pa.string()}))

    for made_for in (METADATA, None):
        assert fields_of(fit_batch(batch(**CPU_AND_NOTE), metadata, made_for)) == CPU_AND_NOTE | {"cpu": ["1", None]}


def test_values_of_a_field_that_was_dropped_meanwhile_are_refused():
    dropped = alter(METADATA, DropColumns(("note",)))
    renewed = alter(dropped, add(NewColumn("note", pa.string())))

    for metadata in (dropped, renewed):
        with pytest.raises(SchemaMismatchError, match="column 'note' was dropped from the table meanwhile"):
            fit_batch(batch(**CPU_AND_NOTE), metadata, METADATA)
    empty = batch(cpu=[1, 2], note=[None, None])
    assert fields_of(fit_batch(empty, dropped, METADATA)) == {"cpu": [1, 2]}
    assert fields_of(fit_batch(empty, renewed, METADATA)) == {"cpu": [1, 2], "note": [None, None]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (batch(metadata_of(HOST, {"cup": pa.int32()}), cup=[1, 2]), "no field 'cup'; did you mean 'cpu'"),
        (batch(metadata_of(HOST, {"cup": pa.int32()}), cup=[None, None]), "no field 'cup'; did you mean 'cpu'"),
        (batch(metadata_of(HOST, {"cpu": pa.int64()}), cpu=[1, 2]), "field 'cpu' is int64, the table has int32"),
        (batch_of(metadata_of({"hots": pa.string()}, {}), [Row(1, 1, ("a",), ())]), r"the tags \['hots'\]"),
        (
            batch_of(metadata_of({"host": pa.int8()}, {}), [Row(1, 1, (5,), ())]),
            r"the tags \['host'\] where the table has host string",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(SchemaMismatchError, match=message):
        fit_batch(rows, METADATA)


# --- files ----------------------------------------------------------------------------------------------


def store_rows(store: MemoryObjectStore, metadata: RegionMetadata, batch: Batch, name: str) -> FileMeta:
    return write_sst(
        store,
        metadata,
        sort_batches([batch]),
        file_id=file_id_of(name),
        level=0,
        row_group_rows=2,
        created_ms=0,
    )


def pruning(*alterations: Alteration) -> Callable[[Any], list[int]]:
    """Write cpu 0 to 3, two to a row group, alter, and return which row groups a predicate leaves."""
    store = MemoryObjectStore()
    table = pa.table({"host": ["a"] * 4, "ts": pa.array(range(4), pa.timestamp("ms")), "cpu": [0, 1, 2, 3]})
    file = store_rows(store, METADATA, to_batch(METADATA, table).with_sequence(Sequence(1)), "a")
    metadata = METADATA
    for alteration in alterations:
        metadata = alter(metadata, alteration)
    return lambda predicate: SstReader(store).matching_row_groups(metadata, file, predicate)


def test_statistics_of_a_field_that_is_still_what_it_was_skip_row_groups():
    assert pruning()(Compare("cpu", "==", 3)) == [1]
    assert pruning(add(NewColumn("cpu2", pa.int32())), SetDefaults({"cpu": 9}))(Compare("cpu", "==", 3)) == [1]


@pytest.mark.parametrize(
    "alterations",
    [
        [ModifyColumnTypes({"cpu": pa.string()})],
        [ModifyColumnTypes({"cpu": pa.int64()})],
        [DropColumns(("cpu",)), add(NewColumn("cpu", pa.int32(), default=9))],
        [DropColumns(("cpu",)), add(NewColumn("cpu", pa.int32()))],
    ],
    ids=repr,
)
def test_statistics_of_another_field_of_that_name_skip_nothing(alterations):
    matching = pruning(*alterations)

    for predicate in (Compare("cpu", "==", 9), Compare("cpu", "==", "9"), IsNull("cpu"), Compare("cpu", "<", 0)):
        assert matching(predicate) == [0, 1]


def test_a_condition_on_a_field_that_older_rows_have_by_default_skips_nothing_of_itself():
    matching = pruning(add(NewColumn("mem", pa.int32(), default=9)))

    assert matching(Compare("mem", "==", 9)) == matching(IsNull("mem")) == [0, 1]
    assert matching(And((Compare("mem", "==", 9), Compare("cpu", ">", 1)))) == [1]


def test_a_column_is_unchanged_if_it_has_the_same_id_and_type():
    retyped = alter(METADATA, ModifyColumnTypes({"cpu": pa.int64()}))
    renewed = alter(alter(METADATA, DropColumns(("cpu",))), add(NewColumn("cpu", pa.int32())))

    assert [is_unchanged(column, METADATA) for column in retyped.columns] == [True, True, False, True]
    assert [is_unchanged(column, METADATA) for column in renewed.columns] == [True, True, True, False]


# --- any history ----------------------------------------------------------------------------------------

VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.large_string(): st.text(max_size=3),
    pa.date32(): st.dates(),
    pa.timestamp("ms"): st.datetimes().map(lambda moment: moment.replace(microsecond=0, fold=0)),
    pa.large_list(pa.int8()): st.lists(st.none() | st.integers(-128, 127), max_size=2),
    pa.large_list(pa.int32()): st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=2),
}
WIDER: dict[pa.DataType, list[pa.DataType]] = {
    pa.int8(): [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.large_string()],
    pa.int32(): [pa.int64(), pa.float64(), pa.large_string()],
    pa.int64(): [pa.large_string()],
    pa.float32(): [pa.float64()],
    pa.date32(): [pa.timestamp("ms")],
    pa.large_list(pa.int8()): [pa.large_list(pa.int32())],
}
NAMES = ("a", "b", "c", "d")


def widened(value: Any, new: pa.DataType) -> Any:
    """The oracle of a cast, in Python's own types."""
    if value is None:
        return None
    if isinstance(value, list):
        return [widened(item, new.value_type) for item in value]
    if new == pa.large_string():
        return str(value)
    if pa.types.is_floating(new):
        return float(value)
    if pa.types.is_timestamp(new) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


@dataclass(frozen=True, slots=True)
class Known:
    """A field as the model has it. ``mark`` tells it apart from others of its name."""

    mark: int
    type: pa.DataType
    default: Any = None
    initial: Any = None


class Model:
    """What the table should read as: a dictionary of fields, and for each row a dictionary of values by mark."""

    def __init__(self) -> None:
        self.fields = {"a": Known(0, pa.int8())}
        self.rows: list[dict[int, Any]] = []
        self.marks = 1

    def add(self, name: str, data_type: pa.DataType, default: Any, after: str | None) -> None:
        names = list(self.fields)
        names.insert(0 if after is None else names.index(after) + 1, name)
        known = self.fields | {name: Known(self.marks, data_type, default, default)}
        self.fields = {each: known[each] for each in names}
        self.marks += 1

    def widen(self, name: str, data_type: pa.DataType) -> None:
        old = self.fields[name]
        default, initial = widened(old.default, data_type), widened(old.initial, data_type)
        self.fields[name] = Known(old.mark, data_type, default, initial)
        for row in self.rows:
            if old.mark in row:
                row[old.mark] = widened(row[old.mark], data_type)

    def write(self, given: dict[str, list[Any]], rows: int) -> None:
        for number in range(rows):
            values = {
                name: given[name][number] if name in given else known.default for name, known in self.fields.items()
            }
            self.rows.append({self.fields[name].mark: value for name, value in values.items()})

    def expected(self, number: int) -> tuple[Any, ...]:
        return tuple(self.rows[number].get(known.mark, known.initial) for known in self.fields.values())


class History:
    """A table and its model, going through the same."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.model = Model()
        self.metadata = metadata_of(HOST, {"a": pa.int8()})
        self.store = MemoryObjectStore()
        self.reader = SstReader(self.store)
        self.files: list[FileMeta] = []
        self.written = 0

    def alter(self, alteration: Alteration) -> None:
        self.metadata = alter(self.metadata, alteration)
        assert RegionMetadata.from_json(json.loads(json.dumps(self.metadata.to_json()))) == self.metadata

    def names(self) -> st.SearchStrategy[str]:
        return st.sampled_from(sorted(self.model.fields))

    def add(self) -> None:
        free = sorted(set(NAMES).difference(self.model.fields))
        if not free:
            return
        name, data_type = self.draw(st.sampled_from(free)), self.draw(st.sampled_from(list(VALUES)))
        default = self.draw(st.none() | VALUES[data_type])
        after = self.draw(st.none() | self.names()) if self.model.fields else None
        arrow = None if default is None else pa.scalar(default, data_type)
        self.alter(AddColumns((NewColumn(name, data_type, default=arrow, after=after, first=after is None),)))
        self.model.add(name, data_type, default, after)

    def drop(self) -> None:
        names = self.draw(st.lists(self.names(), unique=True)) if self.model.fields else []
        self.alter(DropColumns(tuple(names)))
        for name in names:
            del self.model.fields[name]

    def widen(self) -> None:
        names = sorted(name for name, known in self.model.fields.items() if known.type in WIDER)
        if names:
            name = self.draw(st.sampled_from(names))
            data_type = self.draw(st.sampled_from(WIDER[self.model.fields[name].type]))
            self.alter(ModifyColumnTypes({name: data_type}))
            self.model.widen(name, data_type)

    def set_default(self) -> None:
        if self.model.fields:
            name = self.draw(self.names())
            known = self.model.fields[name]
            value = self.draw(VALUES[known.type])
            self.alter(SetDefaults({name: pa.scalar(value, known.type)}))
            self.model.fields[name] = replace(known, default=value)

    def drop_default(self) -> None:
        if self.model.fields:
            name = self.draw(self.names())
            self.alter(DropDefaults((name,)))
            self.model.fields[name] = replace(self.model.fields[name], default=None)

    def index(self) -> None:
        self.alter(SetIndexes({"host": ("inverted",)}))
        self.alter(UnsetIndexes(("host",)))

    def write(self) -> None:
        rows = self.draw(st.integers(1, 3))
        left_out = self.draw(st.sets(self.names())) if self.model.fields else set()
        given = {
            name: self.draw(st.lists(st.none() | VALUES[known.type], min_size=rows, max_size=rows))
            for name, known in self.model.fields.items()
            if name not in left_out
        }
        first = len(self.model.rows)
        key = {
            "host": pa.array(["a"] * rows),
            "ts": pa.array(range(first, first + rows), pa.int64()).cast(pa.timestamp("ms")),
        }
        fields = {name: pa.array(values, self.model.fields[name].type) for name, values in given.items()}
        batch = to_batch(self.metadata, pa.table(key | fields)).with_sequence(Sequence(first))
        self.keep(batch)
        self.model.write(given, rows)

    def keep(self, batch: Batch) -> None:
        self.files.append(store_rows(self.store, self.metadata, batch, f"{self.written:032x}"))
        self.written += 1

    def rewrite(self) -> None:
        if self.files:
            file = self.files[self.draw(st.integers(0, len(self.files) - 1))]
            self.keep(self.read(file))
            self.files[self.files.index(file)] = self.files.pop()

    def read(self, file: FileMeta) -> Batch:
        names = [field.name for field in self.metadata.fields]
        return self.reader.read(self.metadata, file, range(file.row_group_count), names)

    def check(self) -> None:
        assert [field.name for field in self.metadata.fields] == list(self.model.fields)
        for file in self.files:
            batch = self.read(file)
            found = {row.time: row.fields for row in rows_of(batch)}
            assert repr(found) == repr({number: self.model.expected(number) for number in found})
            if reads_as_it_is(self.metadata, file.schema_version):
                self.check_by_name(file, batch)
            self.check_pruning(file, batch)
        assert sum(file.row_count for file in self.files) == len(self.model.rows)

    def check_by_name(self, file: FileMeta, batch: Batch) -> None:
        stored = pq.read_table(io.BytesIO(self.store.get(sst_key(REGION, file.file_id))))
        for field in self.metadata.fields:
            if field.name in stored.schema.names:
                assert stored.schema.field(field.name).type == field.type
                assert repr(stored.column(field.name).to_pylist()) == repr(batch.fields.column(field.name).to_pylist())
            else:
                assert batch.fields.column(field.name).null_count == len(batch)

    def check_pruning(self, file: FileMeta, batch: Batch) -> None:
        names = [name for name, known in self.model.fields.items() if not pa.types.is_nested(known.type)]
        if not names:
            return
        name = self.draw(st.sampled_from(names))
        column = batch.fields.column(name)
        plain = pa.types.is_timestamp(column.type)  # A predicate on a timestamp has its integer.
        values = (column.view(pa.int64()) if plain else column).to_pylist()
        predicate = self.draw(
            st.sampled_from([IsNull(name)] + [Compare(name, "==", value) for value in values if value is not None])
        )
        rows = pa.RecordBatch.from_pydict({name: column, "row": pa.array(range(len(batch)))})
        found = rows.filter(matching(predicate, rows)).column("row").to_pylist()
        assert {row // 2 for row in found} <= set(self.reader.matching_row_groups(self.metadata, file, predicate))


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_rows_of_any_schema_read_as_the_newest_says(data):
    history = History(data)
    steps = [
        history.write,
        history.add,
        history.widen,
        history.drop,
        history.set_default,
        history.drop_default,
        history.index,
        history.rewrite,
    ]

    for step in data.draw(st.lists(st.sampled_from(range(len(steps))), max_size=14)):
        steps[step]()

    history.check()


def test_the_oracle_of_casts_knows_a_date_from_a_moment():
    assert widened(date(2024, 1, 2), pa.timestamp("ms")) == datetime(2024, 1, 2)
