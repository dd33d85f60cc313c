"""Pictures of windows, jobs, amplification, coverage and keys: what they count and what they show."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.axes import Axes

import mitoframe as mito
from mitoframe.views.amplification import live_files, write_amplification
from mitoframe.views.coverage import draw_coverage, lay_out
from mitoframe.views.keys import place_keys
from mitoframe.views.movie import shoot_movie

START = dt.datetime(2024, 1, 1)
HOUR = dt.timedelta(hours=1)
MANY = 30_000


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    mpl.use("Agg")
    yield
    pyplot.close("all")


@pytest.fixture
def database() -> Iterator[mito.Database]:
    with mito.open("memory://", compaction_mode="manual") as database:
        yield database


def frame(*hours: float, host: str = "a") -> pl.DataFrame:
    return pl.DataFrame({"ts": [START + hour * HOUR for hour in hours], "host": host, "cpu": 0.5})


def write(database: mito.Database, *hours: float, host: str = "a") -> mito.Table:
    database.write(frame(*hours, host=host), "cpu", time="ts", tags=["host"])
    database["cpu"].flush()
    return database["cpu"]


def words_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    found = [text.get_text() for text in axes.texts]
    return found + ([text.get_text() for text in legend.get_texts()] if legend else [])


# --- coverage --------------------------------------------------------------------------------------------


intervals = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 39), st.integers(0, 12), st.booleans()), min_size=1, max_size=25
)


@settings(deadline=None)
@given(intervals)
def test_a_cell_is_as_deep_as_the_files_that_overlap_in_it(found: list[tuple[int, int, int, bool]]) -> None:
    lines = np.array([line for line, *_ in found])
    starts = np.array([start * 1.0 for _, start, *_ in found])
    ends = np.array([start + length * 1.0 for _, start, length, _ in found])
    late = np.array([is_late for *_, is_late in found])

    grid = lay_out(lines, starts, ends, late, columns=7)

    moments = np.unique(np.concatenate([starts, ends, (grid.first + (np.arange(7 * 64) + 0.5) / 64 * _width(grid))]))
    for line in range(grid.depth.shape[0]):
        expected = np.zeros(7, dtype=int)
        for moment in moments[(moments >= grid.first) & (moments <= grid.last)]:
            column = min(int((moment - grid.first) / _width(grid)), 6)
            depth = int(((lines == line) & (starts <= moment) & (moment <= ends)).sum())
            expected[column] = max(expected[column], depth)
        assert grid.depth[line].tolist() == expected.tolist()
        has_late = ((lines == line) & late).any()
        assert grid.late[line].any() == has_late


def _width(grid) -> float:
    return (grid.last - grid.first) / grid.depth.shape[1]


def test_a_gap_is_white_and_late_rows_are_marked(database: mito.Database) -> None:
    write(database, 0, 1)
    write(database, 9, 10)
    table = write(database, 0.5, host="b")

    axes = table.plot.coverage(by="host")

    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    image = axes.images[0].get_array()
    assert [bool(image[0, column]) for column in (0, 200, 399)] == [True, False, True]
    assert words_of(axes)[-1] == "holds rows that came late"
    assert table.coverage()["is_late"].to_list() == [False, False, True]
    assert table.coverage(by="host").select("value", "is_late").rows() == [("a", False), ("a", False), ("b", True)]
    assert axes.get_title(loc="left") == "Coverage: 5 rows of 2 values"


def test_what_is_in_memory_is_covered_too(database: mito.Database) -> None:
    table = write(database, 0, 1)
    database.write(frame(5, 7), "cpu", time="ts", tags=["host"])

    found, by_host = table.coverage(), table.coverage(by="host")

    assert found["file_id"].to_list()[-1] == by_host["file_id"].to_list()[-1] == "memtable"
    assert found.select("rows", "min_time").rows()[-1] == (2, START + 5 * HOUR)
    assert by_host.select("value", "rows", "max_time").rows()[-1] == ("a", 2, START + 7 * HOUR)


def test_a_tag_that_is_not_there_is_named(database: mito.Database) -> None:
    table = write(database, 0)

    with pytest.raises(mito.InvalidInputError, match="did you mean 'host'"):
        table.plot.coverage(by="hots")


def test_many_values_share_a_line() -> None:
    values = [f"host_{number:04d}" for number in range(1_000)]
    table = pl.DataFrame(
        {"value": values, "file_id": "f", "min_time": START, "max_time": START + HOUR, "rows": 1, "is_late": False}
    )

    axes = draw_coverage(table)

    assert axes.get_ylabel() == "5 to a line"
    assert axes.images[0].get_array().shape[0] == 200


# --- windows, jobs, amplification ------------------------------------------------------------------------


def test_windows_are_as_high_as_they_have_files_and_say_what_is_due(database: mito.Database) -> None:
    for hour in (0, 0.2, 0.4, 0.6, 30):
        table = write(database, hour)

    axes = table.plot.windows()

    files, runs = (
        [float(path.vertices[:, 1].max()) for path in collection.get_paths()] for collection in axes.collections
    )
    found = table.windows()
    assert (files, runs) == (found["files"].to_list(), found["runs"].to_list())
    assert axes.get_title(loc="left").startswith(f"Compaction windows: {len(found)} with 5 files")
    assert found["window_start"].is_sorted()


def test_a_job_is_as_long_as_it_took(database: mito.Database) -> None:
    for hour in (0, 0.2, 0.4):
        table = write(database, hour)
    table.compact()

    axes = table.plot.compactions()

    found = table.history()
    kinds = [label.get_text().splitlines()[0] for label in axes.get_yticklabels()]
    assert kinds == ["flush", "compact", "create"]
    assert [len(collection.get_paths()) for collection in axes.collections] == [3, 1, 1]
    for collection, kind in zip(axes.collections, kinds, strict=True):
        ended = found.filter(what=kind)["at"].dt.epoch("ms").to_numpy() / 86_400_000
        drawn = np.array([path.vertices[:, 0].max() for path in collection.get_paths()])
        assert (drawn >= ended - 1e-9).all()


def test_amplification_counts_what_was_written_and_the_files_there_are(database: mito.Database) -> None:
    table = write(database, 0)
    expected = [0, len(table.files())]
    for hour in (0.2, 0.4):
        write(database, hour)
        expected.append(len(table.files()))
    table.compact()
    expected.append(len(table.files()))
    table.vacuum("0s")
    expected.append(len(table.files()))
    table.truncate()
    expected.append(len(table.files()))

    history = pa.table(table.history())

    sizes = history["bytes_out"].to_pylist()
    assert live_files(history).tolist() == expected
    found = write_amplification(history)
    assert np.isnan(found[0])
    assert found[1:].tolist() == pytest.approx([1, 1, 1, *([sum(sizes) / sum(sizes[1:4])] * 3)])
    assert table.plot.amplification().get_title(loc="left") == f"Write amplification: {found[-1]:.2f}"


# --- keys ------------------------------------------------------------------------------------------------


def test_files_lie_at_the_keys_they_hold(database: mito.Database) -> None:
    for hosts in (("a", "c"), ("b", "d"), (None, "b")):
        rows = pl.concat([frame(0), frame(1)]).with_columns(host=pl.Series(hosts))
        database.write(rows, "cpu", time="ts", tags=["host"])
        database["cpu"].flush()
    table = database["cpu"]

    axes = table.plot.keys()

    assert [label.get_text() for label in axes.get_yticklabels()] == ["null", "a", "b", "c", "d"]
    boxes = {tuple(np.unique(path.vertices[:, 1]).tolist()) for path in axes.collections[0].get_paths()}
    assert boxes == {(1.0, 4.0), (2.0, 5.0), (0.0, 3.0)}


keys = st.lists(st.tuples(st.sampled_from([None, "", "a", "b"]), st.sampled_from([None, "x"])), min_size=1)


@given(keys)
def test_a_null_comes_before_any_text(found: list[tuple[str | None, ...]]) -> None:
    ordered, firsts, lasts = place_keys(found, found[::-1])

    assert [ordered[place] for place in firsts] == found
    assert [ordered[place] for place in lasts] == found[::-1]
    ranks = [tuple("" if value is None else "x" + value for value in key) for key in ordered]
    assert ranks == sorted(set(ranks))


# --- all of them -----------------------------------------------------------------------------------------


PICTURES = ["timeline", "windows", "compactions", "amplification", "coverage", "keys"]


@pytest.mark.parametrize("picture", PICTURES)
def test_an_empty_table_says_so(database: mito.Database, picture: str) -> None:
    table = database.create_table("cpu", {"ts": pl.Datetime("ms"), "host": pl.String}, time="ts", tags=["host"])

    axes = getattr(table.plot, picture)()

    assert picture == "compactions" or "yet" in words_of(axes)[0]


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_drawn_where_it_is_asked_for(database: mito.Database, picture: str) -> None:
    table = write(database, 0, 1)
    _, axes = pyplot.subplots()

    assert getattr(table.plot, picture)(ax=axes) is axes
    assert pyplot.get_fignums() == [1]
    axes.figure.canvas.draw()


def test_thirty_thousand_files_are_drawn() -> None:
    first = pl.Series([START + number * HOUR for number in range(MANY)])
    table = pl.DataFrame({"file_id": "f", "min_time": first, "max_time": first + HOUR, "rows": 1, "is_late": False})

    axes = draw_coverage(table)

    axes.figure.canvas.draw()
    assert axes.images[0].get_array().max() == 2, "each file begins when the one before it ends"


# --- a film ----------------------------------------------------------------------------------------------


def test_a_film_shows_the_files_of_each_version(database: mito.Database, tmp_path: Path) -> None:
    expected = []
    for hour in (0, 0.2, 0.4):
        table = write(database, hour)
        expected.append(len(table.files()))
    table.compact()
    expected.append(len(table.files()))
    table.vacuum("0s")
    write(database, 2)
    expected.append(len(table.files()))

    movie = table.plot.movie()
    some = table.plot.movie(first=2, last=4)

    shown = []
    for step in movie.new_saved_frame_seq():
        [drawn] = movie._func(step)
        shown.append(len(drawn.get_paths()))
    assert [count for count in shown if count] == expected
    assert len(list(some.new_saved_frame_seq())) == 3
    for film in (movie, some):
        film.save(tmp_path / "cpu.gif", writer="pillow", dpi=20)


def test_a_film_leaves_rows_in_memory_out(database: mito.Database) -> None:
    table = write(database, 0)
    database.write(pl.DataFrame({"ts": [START + HOUR], "host": ["a"], "cpu": [0.5]}), "cpu")

    movie = table.plot.movie()

    [drawn] = movie._func(list(movie.new_saved_frame_seq())[-1])
    assert len(drawn.get_paths()) == table.files().height
    movie._draw_was_started = True


def test_a_film_of_many_versions_shows_some_of_them_and_the_ends(database: mito.Database, tmp_path: Path) -> None:
    for number in range(12):
        table = write(database, number)

    files, history = table._past()
    movie = shoot_movie(files, history, pictures_max=4)

    steps = list(movie.new_saved_frame_seq())
    assert len(steps) == 4
    assert steps[-1] == 12
    movie.save(tmp_path / "cpu.gif", writer="pillow", dpi=40)
    assert (tmp_path / "cpu.gif").stat().st_size > 1_000


def test_a_film_of_many_files_shows_their_colours(database: mito.Database, tmp_path: Path) -> None:
    table = write(database, 0)
    files, history = (pl.DataFrame(frame) for frame in table._past())
    start = pl.Series("min_time", [START + number * HOUR for number in range(MANY)])
    names = pl.int_range(MANY, eager=True).cast(pl.String)
    many = pl.concat([files] * MANY).with_columns(
        start, max_time=start + HOUR, file_id=names, created=files["created"][0]
    )

    movie = shoot_movie(many, history, first=history["version"].max())

    movie.save(tmp_path / "cpu.gif", writer="pillow", dpi=40)
    axes = pyplot.gcf().axes[0]
    assert "30,000 files" in axes.get_title(loc="left")
    assert "left out" not in axes.get_title(loc="left")
    [drawn] = axes.collections
    assert (drawn.get_edgecolor() == drawn.get_facecolor()).all(), "none of them is new, and an outline would hide it"


def test_a_film_of_an_empty_table_says_so(database: mito.Database, tmp_path: Path) -> None:
    table = database.create_table("cpu", {"ts": pl.Datetime("ms"), "host": pl.String}, time="ts", tags=["host"])

    movie = table.plot.movie()
    movie.save(tmp_path / "cpu.gif", writer="pillow", dpi=40)

    assert "yet" in words_of(pyplot.gcf().axes[0])[0]
