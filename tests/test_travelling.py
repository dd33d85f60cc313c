"""Earlier moments as users ask for them, against the frames there were."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe.model.errors import CorruptionError
from mitoframe.travelling import telling_apart

START = datetime(2024, 1, 1)
KEYS = ["host", "ts"]


def rows(first: int, last: int, load: float, host: str = "a") -> pl.DataFrame:
    minutes = range(first, last)
    return pl.DataFrame(
        {
            "ts": [START + timedelta(minutes=minute) for minute in minutes],
            "host": [host] * len(minutes),
            "load": [load + minute for minute in minutes],
        }
    )


@pytest.fixture
def db():
    with mito.open("memory://") as store:
        yield store


@pytest.fixture
def cpu(db):
    db.write(rows(0, 10, 0.0), "cpu", time="ts", tags=["host"])
    return db["cpu"]


def seen(scan) -> pl.DataFrame:
    return scan.collect().sort(KEYS).select("ts", *(name for name in scan.metadata.names if name != "ts"))


def live_through(cpu) -> list[pl.DataFrame]:
    """Do something of everything, and return what there was after each step; each has a snapshot by its number."""
    shown = []

    def note() -> None:
        cpu.snapshot(f"step {len(shown)}")
        shown.append(cpu.scan().collect().sort(KEYS))

    note()
    cpu.flush()
    cpu.write(rows(5, 15, 100.0))
    note()
    cpu.flush()
    cpu.delete(tags={"host": "a"}, end=START + timedelta(minutes=3))
    note()
    cpu.write(rows(0, 2, 0.0, "b"))
    cpu.flush()
    cpu.compact()
    note()
    cpu.replace_range(rows(7, 9, -1.0), START + timedelta(minutes=6), START + timedelta(minutes=12))
    note()
    cpu.truncate()
    note()
    cpu.write(rows(3, 5, 50.0))
    note()
    return shown


# --- as_of ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_snapshot_reads_the_same_for_ever(cpu, engine):
    shown = live_through(cpu)

    cpu.vacuum(older_than="0s")

    for number, frame in enumerate(shown):
        found = cpu.scan(as_of=f"step {number}").to_polars().sort(KEYS).collect(engine=engine)
        assert_frame_equal(found, frame)
        assert cpu.scan(as_of=f"step {number}").count() == frame.height


def test_filters_and_columns_go_down_into_an_earlier_moment(cpu):
    shown = live_through(cpu)
    wanted = (pl.col("load") > 104) & (pl.col("ts") < START + timedelta(minutes=13))

    found = cpu.scan(as_of="step 2", where=wanted, columns=["load"]).to_polars().collect()

    assert_frame_equal(found, shown[2].filter(wanted).select("load"), check_row_order=False)


def test_a_version_a_time_and_a_sequence_mean_the_moment_they_name(cpu):
    first = cpu.sequence
    snapshot = cpu.snapshot("first")
    later = cpu.write(rows(0, 10, 100.0))

    for as_of in ("first", snapshot.version, mito.AtSequence(first), mito.AtSequence(later.first_sequence - 1)):
        assert cpu.scan(as_of=as_of).collect()["load"].max() == 9.0, as_of
    assert cpu.scan(as_of=mito.AtSequence(later.first_sequence)).collect()["load"].max() == 100.0
    assert cpu.scan(as_of=datetime.now(UTC)).collect()["load"].max() == 109.0


def test_a_time_means_what_had_been_written_by_then(tmp_path):
    with mito.open(tmp_path) as db:
        db.write(rows(0, 1, 1.0), "cpu", time="ts", tags=["host"])
        cpu = db["cpu"]
        [created] = cpu.versions()["at"]
        cpu.write(rows(0, 1, 2.0))
        cpu.flush()
        flushed = cpu.versions()["at"][-1]

        assert cpu.scan(as_of=flushed).collect()["load"].to_list() == [2.0]
        assert cpu.scan(as_of=flushed.isoformat()).collect()["load"].to_list() == [2.0]
        assert cpu.scan(as_of=flushed.replace(tzinfo=None)).collect()["load"].to_list() == [2.0]
        assert created <= flushed


def test_a_frame_that_is_held_keeps_what_it_reads(cpu):
    cpu.flush()
    first = cpu.versions()["version"][-1]
    cpu.write(rows(0, 10, 100.0))
    cpu.flush()
    held = cpu.scan(as_of=first).to_polars()

    cpu.compact()
    cpu.vacuum(older_than="0s")

    assert held.collect()["load"].max() == 9.0
    del held
    cpu.vacuum(older_than="0s")
    with pytest.raises(mito.SnapshotExpiredError, match=f"version {first} is not kept any more"):
        cpu.scan(as_of=first)


def test_an_earlier_moment_has_the_columns_of_then(cpu):
    cpu.snapshot("before")
    cpu.alter(add={"room": pl.String}, drop=["load"])

    assert cpu.scan(as_of="before").collect().columns == ["host", "ts", "load"]
    assert cpu.scan().collect().columns == ["host", "ts", "room"]
    with pytest.raises(mito.InvalidInputError, match="no column 'room'"):
        cpu.scan(as_of="before", columns=["room"])


def test_two_moments_can_be_joined(cpu):
    cpu.snapshot("before")
    cpu.write(rows(0, 5, 100.0))

    both = cpu.scan(as_of="before").to_polars().join(cpu.scan().to_polars(), on=KEYS).sort("ts").collect()

    assert (both["load_right"] - both["load"]).to_list() == [100.0] * 5 + [0.0] * 5


def test_snapshots_are_there_after_the_store_was_opened_again(tmp_path):
    with mito.open(tmp_path) as db:
        db.write(rows(0, 10, 0.0), "cpu", time="ts", tags=["host"])
        shown = live_through(db["cpu"])
    with mito.open(tmp_path, gc_grace_ms=0) as db:
        db["cpu"].compact()
        db["cpu"].vacuum()
        for number, frame in enumerate(shown):
            assert_frame_equal(seen_as(db["cpu"], f"step {number}"), frame)
    with mito.open(tmp_path, mode="r") as db:
        for number, frame in enumerate(shown):
            assert_frame_equal(seen_as(db["cpu"], f"step {number}"), frame)


def seen_as(table, as_of) -> pl.DataFrame:
    return table.scan(as_of=as_of).collect().sort(KEYS)


@pytest.mark.parametrize(
    ("as_of", "error", "message"),
    [
        (99, mito.InvalidInputError, "as_of=99 is not a version: there are 0 to 1"),
        (-1, mito.InvalidInputError, "as_of=-1 is not a version"),
        (True, mito.InvalidInputError, "as_of is a bool"),
        (1.5, mito.InvalidInputError, "as_of is a float"),
        ("frist", mito.InvalidInputError, "no snapshot 'frist'; did you mean 'first'"),
        ("3000-01-01", mito.InvalidInputError, "is yet to come"),
        (datetime(3000, 1, 1), mito.InvalidInputError, "is yet to come"),
        (date(2000, 1, 1), mito.SnapshotExpiredError, "is not kept any more, or never was. Kept are versions 0 to 1"),
        (mito.AtSequence(11), mito.InvalidInputError, "is yet to come: the newest is 10"),
    ],
    ids=str,
)
def test_a_moment_that_cannot_be_read_is_refused(cpu, as_of, error, message):
    cpu.snapshot("first")

    with pytest.raises(error, match=message):
        cpu.scan(as_of=as_of)


@pytest.mark.parametrize("sequence", [-1, True, 1.5, "1"])
def test_a_sequence_is_a_number(sequence):
    with pytest.raises(mito.InvalidInputError, match="is not an integer of at least 0"):
        mito.AtSequence(sequence)


# --- since ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushed", [False, True])
def test_what_came_since_is_found_piece_by_piece(cpu, flushed):
    pieces, marks = [], [0]
    for step in range(4):
        cpu.write(rows(step, step + 3, 10.0 * step))
        if flushed:
            cpu.flush()
        pieces.append(cpu.scan(since=mito.AtSequence(marks[-1]), where=pl.col("load") >= 0).collect())
        marks.append(cpu.sequence)

    assert [piece.height for piece in pieces] == [10, 3, 3, 3]
    assert cpu.scan(since=mito.AtSequence(cpu.sequence)).count() == 0


def test_since_a_snapshot_and_as_of_another_is_what_came_between(cpu):
    cpu.snapshot("first")
    cpu.write(rows(0, 3, 100.0))
    cpu.snapshot("second")
    cpu.write(rows(2, 5, 200.0))

    found = cpu.scan(since="first", as_of="second").collect().sort(KEYS)

    assert found["load"].to_list() == [100.0, 101.0, 102.0]


# --- snapshots and versions -----------------------------------------------------------------------------


def test_versions_say_what_happened(cpu):
    cpu.snapshot("first")
    cpu.flush()
    cpu.write(rows(0, 10, 1.0))
    cpu.flush()
    cpu.compact()
    cpu.alter(add={"room": pl.String})
    cpu.truncate()

    found = cpu.versions()

    assert found["what"].to_list() == ["create", "snapshot", "flush", "flush", "compact", "alter", "truncate"]
    assert found["version"].to_list() == list(range(7))
    assert found["rows"].to_list() == [0, 0, 10, 20, 10, 10, 0]
    assert found["sequence"].to_list() == [0, 10, 10, 20, 20, 20, 20]
    assert found["snapshot"].to_list() == [None, "first", None, None, None, None, None]
    assert found.schema["at"] == pl.Datetime("ms", "UTC")
    for entry in found.iter_rows(named=True):
        cpu.scan(as_of=entry["version"]).collect()


def test_a_name_is_given_once_and_can_be_given_again_when_it_was_dropped(cpu):
    assert repr(cpu.snapshot("one")) == "snapshot 'one' of 'cpu': version 1, sequence 10"
    with pytest.raises(mito.InvalidInputError, match="there is a snapshot 'one' already"):
        cpu.snapshot("one")

    assert repr(cpu.drop_snapshot("one")) == "dropped snapshot 'one' of 'cpu'"

    with pytest.raises(mito.InvalidInputError, match="no snapshot 'one'; there are no snapshots yet"):
        cpu.drop_snapshot("one")
    assert cpu.snapshot("one").version == 3


@pytest.mark.parametrize("name", ["", "2024-01-01", "x" * 256, "a\nb", 7, None])
def test_what_cannot_be_a_name_is_refused(cpu, name):
    with pytest.raises(mito.InvalidInputError):
        cpu.snapshot(name)


def test_a_store_that_is_read_is_not_changed(tmp_path):
    with mito.open(tmp_path) as db:
        db.write(rows(0, 1, 0.0), "cpu", time="ts", tags=["host"])
        db["cpu"].snapshot("one")
    with mito.open(tmp_path, mode="r") as db:
        cpu = db["cpu"]
        assert cpu.scan(as_of="one").count() == cpu.versions()["rows"].max() == 1
        assert cpu.diff("one").collect().is_empty()
        for change in (cpu.snapshot, cpu.drop_snapshot, cpu.restore):
            with pytest.raises(mito.ReadOnlyError):
                change("one")


# --- restore --------------------------------------------------------------------------------------------


def test_a_table_goes_back_to_any_moment_and_forth(cpu):
    shown = live_through(cpu)

    for number in (4, 0, 2, 5, 1, 6, 3):
        result = cpu.restore(f"step {number}")
        assert_frame_equal(cpu.scan().collect().sort(KEYS), shown[number])
        assert result.changed
        cpu.compact()
        cpu.vacuum(older_than="0s")

    for number, frame in enumerate(shown):
        assert_frame_equal(seen_as(cpu, f"step {number}"), frame)


def test_a_restore_is_taken_back_by_its_own_words(cpu):
    cpu.snapshot("full")
    cpu.write(rows(0, 10, 7.0))
    before = cpu.scan().collect().sort(KEYS)

    result = cpu.restore("full")

    assert repr(result) == (
        f"restored 'cpu' to version 1, sequence {result.sequence}; restore({result.before}) takes it back"
    )
    cpu.restore(result.before)
    assert_frame_equal(cpu.scan().collect().sort(KEYS), before)
    assert repr(cpu.restore(cpu.versions()["version"][-1])).startswith("nothing to restore")


def test_writing_goes_on_after_a_restore(cpu):
    cpu.snapshot("full")
    cpu.truncate()

    cpu.restore("full")
    cpu.write(rows(9, 12, 50.0))
    cpu.flush()
    cpu.compact()

    assert cpu.scan().collect().sort(KEYS)["load"].to_list() == [*map(float, range(9)), 59.0, 60.0, 61.0]


# --- diff -----------------------------------------------------------------------------------------------


def by_hand(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Compare two frames with a full join."""
    both = before.with_columns(was=True).join(
        after.with_columns(now=True), on=KEYS, how="full", coalesce=True, suffix="_after"
    )
    differs = pl.col("load").ne_missing(pl.col("load_after"))
    changed = both.filter(pl.col("was").is_null() | pl.col("now").is_null() | differs)
    old = changed.filter("was").select(
        *KEYS, "load", __change=pl.when(pl.col("now")).then(pl.lit("update_before")).otherwise(pl.lit("delete"))
    )
    new = changed.filter("now").select(
        *KEYS,
        load="load_after",
        __change=pl.when(pl.col("was")).then(pl.lit("update_after")).otherwise(pl.lit("insert")),
    )
    return pl.concat([old, new]).sort(*KEYS, "__change")


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_diff_is_what_a_full_join_finds(cpu, engine):
    shown = live_through(cpu)
    numbers = range(len(shown))

    for first, second in [*pairwise(numbers), *pairwise(reversed(numbers)), (0, 6), (2, 2)]:
        found = cpu.diff(f"step {first}", f"step {second}").collect(engine=engine)
        assert_frame_equal(found.select(*KEYS, "load", "__change").sort(*KEYS, "__change"),
                           by_hand(shown[first], shown[second]))  # fmt: skip


def test_a_diff_is_lazy_and_takes_filters(cpu):
    cpu.snapshot("first")
    cpu.write(rows(5, 12, 100.0))

    changes = cpu.diff("first")
    cpu.truncate()

    assert changes.collect_schema().names() == ["host", "ts", "load", "__change"]
    inserted = changes.filter(pl.col("__change") == "insert").select(pl.len()).collect().item()
    assert inserted == 2
    early = changes.filter(pl.col("ts") < START + timedelta(minutes=6)).select("load", "__change").collect()
    assert early.rows() == [(5.0, "update_before"), (105.0, "update_after")]
    assert changes.head(1).collect().height == 1
    assert cpu.diff("first").filter(pl.col("__change") == "delete").collect().height == 10


# --- why ------------------------------------------------------------------------------------------------


def test_why_tells_in_words_and_as_a_frame(cpu):
    cpu.flush()
    cpu.write(rows(0, 1, 7.0))
    cpu.delete(tags={"host": "a"}, end=START + timedelta(minutes=1))

    found = cpu.why(host="a", time=START)

    frame = found.to_polars()
    assert frame.columns == [
        "sequence", "op", "fate", "by_sequence", "by_version", "by_what", "written", "file_id", "level", "row_group",
        "row", "listed", "load",
    ]  # fmt: skip
    assert frame.select("sequence", "op", "fate", "by_sequence", "load").rows() == [
        (12, "delete", "delete marker", None, None),
        (11, "put", "deleted", 12, 7.0),
        (1, "put", "shadowed", 11, 0.0),
    ]
    assert frame["file_id"].to_list() == [None, None, cpu.files()["file_id"][0]]
    lines = repr(found).splitlines()
    assert lines[0] == "'cpu', host=a, ts=2024-01-01 00:00:00.000000: 3 versions"
    assert lines[1] == "  sequence 12: delete; delete marker"
    assert "  sequence 11: load=7.0; deleted by 12" in lines
    assert "  sequence 1: load=0.0; shadowed by 11" in lines
    assert "    in memory" in lines
    assert "&#x27;cpu&#x27;, host=a" in found._repr_html_()


def test_why_takes_a_row_of_a_frame(cpu):
    row = cpu.scan().collect().row(3, named=True)

    assert cpu.why(row).to_polars()["load"].to_list() == [row["load"]]
    assert cpu.why(row, host="zzz").to_polars().is_empty()
    assert repr(cpu.why(row, host="zzz")).endswith("no version of this row is known")
    assert cpu.why(row, host="zzz")._repr_html_().endswith("known</div></div>")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"time": START}, "'host' is missing"),
        ({"host": "a"}, "'ts' is missing"),
        ({"host": "a", "time": START, "hots": 1}, "no column 'hots'; did you mean 'host'"),
        ({"host": 7.5, "time": START}, "host=7.5 cannot be a value of that tag"),
        ({"host": "a", "time": "noon"}, "is not ISO 8601"),
    ],
    ids=["no tag", "no time", "another column", "another type", "no time at all"],
)
def test_why_needs_the_whole_key(cpu, key, message):
    with pytest.raises(mito.InvalidInputError, match=message):
        cpu.why(key)


# --- files that another process deleted -----------------------------------------------------------------


def test_a_file_that_was_deleted_elsewhere_is_told_from_one_that_is_lost(tmp_path):
    with mito.open(tmp_path) as db:
        db.write(rows(0, 10, 0.0), "cpu", time="ts", tags=["host"])
        cpu = db["cpu"]
        cpu.flush()
        [lost] = tmp_path.glob("regions/*/sst/*.parquet")
        cpu.write(rows(0, 10, 1.0))
        cpu.flush()
        known = CorruptionError("missing", path=f"regions/{cpu.region_id >> 32}_0000000000/sst/{lost.name}")

        with pytest.raises(CorruptionError), telling_apart(db.engine, cpu.region_id):
            raise known
        cpu.compact()
        cpu.vacuum(older_than="0s")
        with pytest.raises(mito.SnapshotExpiredError) as caught, telling_apart(db.engine, cpu.region_id):
            raise known
        with pytest.raises(CorruptionError), telling_apart(db.engine, cpu.region_id):
            raise CorruptionError("missing", path="wal")

    assert caught.value.__cause__ is known


def test_a_scan_of_an_earlier_moment_cannot_be_followed_and_one_since_a_moment_can() -> None:
    frame = pl.DataFrame({"ts": [datetime(2024, 1, 1)], "x": [1]})
    with mito.open("memory://") as database:
        database.write(frame, "t", time="ts")
        database["t"].snapshot("then")

        with pytest.raises(mito.InvalidInputError, match=r"earlier moment.*leave as_of out"):
            database.scan("t", as_of="then").tail(follow=True)

        followed = database.scan("t", since="then").tail(follow=True)
        database.write(frame.with_columns(x=2), "t")
        assert next(followed)["x"].to_list() == [2]
