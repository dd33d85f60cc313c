"""`mito`: what the verbs print, what they do, and what they end with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
import pytest
from click.testing import CliRunner, Result

import mitoframe as mito
from mitoframe.cli.main import mito as program
from mitoframe.testing.golden import assert_golden

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "cli"
START = datetime(2024, 1, 1)

mpl.use("agg")


def frame(hours: range, load: float = 0.5) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": [START + timedelta(hours=hour) for hour in hours],
            "host": [("a", "b")[hour % 2] for hour in hours],
            "load": [None if hour == 3 else load + hour for hour in hours],
        }
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that is only looked at."""
    path = tmp_path_factory.mktemp("cli") / "plant"
    fill(path)
    return str(path)


@pytest.fixture
def store(filled: str, tmp_path: Path) -> str:
    """A store that may be changed."""
    return str(shutil.copytree(filled, tmp_path / "plant"))


@pytest.fixture
def left(store: str, tmp_path: Path) -> str:
    """A store whose writer died before all was in files."""
    with mito.open(store) as db:
        db.write(frame(range(28, 31)), "cpu")
        return str(shutil.copytree(store, tmp_path / "left"))


def fill(path: Path) -> None:
    with mito.open(path, compaction_mode="manual") as db:
        for first in range(20):
            options = {"compaction_window": "7d", "compaction_mode": "manual"} if not first else None
            db.write(frame(range(first, first + 4)), "cpu", time="ts", tags=["host"], options=options)
            db["cpu"].flush()
        db["cpu"].snapshot("before")
        db.write(frame(range(2)), "disk", time="ts", tags=["host"])


def run(*arguments: str, code: int = 0, width: int = 100) -> Result:
    result = CliRunner(env={"COLUMNS": str(width)}).invoke(program, list(arguments))
    assert result.exit_code == code, result.output
    return result


def parsed(*arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


def damage(store: str) -> Path:
    path = min(Path(store).glob("regions/1_0000000000/sst/*.parquet"))
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    return path


# --- looking ----------------------------------------------------------------------------------------------


def test_ls_lists_the_tables(filled: str) -> None:
    rows = parsed("ls", filled)

    assert [(row["name"], row["time"], row["tags"], row["files"], row["rows"]) for row in rows] == [
        ("cpu", "ts", ["host"], 20, 80),
        ("disk", "ts", ["host"], 1, 2),
    ]
    assert rows[0]["first_time"] == "2024-01-01T00:00:00"
    assert "disk" in run("ls", filled).stdout


def test_rows_that_are_in_no_file_yet_are_counted(left: str) -> None:
    (row, _), of_table = parsed("ls", left), parsed("info", left, "cpu")

    assert (row["files"], row["rows"], row["last_time"]) == (20, 83, "2024-01-02T06:00:00")
    assert (of_table["rows"], parsed("info", left)["rows"]) == (83, 85)


def test_info_tells_of_the_store_and_of_a_table(filled: str) -> None:
    of_store, of_table = parsed("info", filled), parsed("info", filled, "cpu")

    assert (of_store["tables"], of_store["files"], of_store["rows"]) == (2, 21, 82)
    assert of_table["columns"] == {"host": "string", "ts": "timestamp[us]", "load": "float64"}
    assert of_table["options"]["compaction_window_ms"] == 7 * 86_400_000
    assert of_table["snapshots"] == ["before"]
    assert "snapshots   before\n" in run("info", filled, "cpu").stdout


def test_files_lists_the_files(filled: str) -> None:
    rows = parsed("files", filled, "cpu")

    assert len(rows) == 20
    assert {row["rows"] for row in rows} == {4}
    assert rows[0]["max_time"] == "2024-01-01T03:00:00"


def test_timeline_draws_how_many_files_hold_each_stretch(filled: str) -> None:
    assert_golden(GOLDEN / "timeline.txt", run("timeline", filled, "cpu", "--width", "46").stdout)

    found = parsed("timeline", filled, "cpu", "--width", "23")
    assert found["levels"]["0"][:5] == [1, 2, 3, 4, 4]
    assert found["file_count"] == 20


def test_timeline_is_as_wide_as_the_terminal(filled: str) -> None:
    for width in (60, 120):
        assert max(map(len, run("timeline", filled, "cpu", width=width).stdout.splitlines())) == width


def test_timeline_draws_a_picture(filled: str, tmp_path: Path) -> None:
    run("timeline", filled, "cpu", "--picture", str(tmp_path / "files.png"))

    assert (tmp_path / "files.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_scan_prints_the_first_rows(filled: str) -> None:
    assert_golden(GOLDEN / "scan.txt", run("scan", filled, "cpu", "--limit", "5").stdout)
    assert len(run("scan", filled, "cpu").stdout.splitlines()) == 22


def test_scan_prints_all_rows_as_json_unless_told_otherwise(filled: str) -> None:
    rows = parsed("scan", filled, "cpu")

    assert len(rows) == 23
    assert {"ts": "2024-01-01T03:00:00", "host": "b", "load": None} in rows
    assert len(parsed("scan", filled, "cpu", "-n", "3")) == 3
    assert parsed("scan", filled, "cpu", "-n", "0") == []


def test_any_limit_will_do(filled: str) -> None:
    for limit in (2**32, 2**63, 10**30):
        assert len(parsed("scan", filled, "cpu", "-n", str(limit))) == 23
        assert len(run("scan", filled, "cpu", "-n", str(limit)).stdout.splitlines()) == 25


def test_scan_takes_columns_conditions_times_and_moments(filled: str) -> None:
    where = ["--where", "load > 5 AND host = 'a'", "--start", "2024-01-01T08:00", "--end", "2024-01-01T12:00"]
    rows = parsed("scan", filled, "cpu", "-c", "load", "-c", "host", *where)

    assert rows == [{"load": 8.5, "host": "a"}, {"load": 10.5, "host": "a"}]
    assert len(parsed("scan", filled, "cpu", "--as-of", "before")) == 23
    assert len(parsed("scan", filled, "cpu", "--as-of", "2")) < 23


# --- checking ---------------------------------------------------------------------------------------------


def test_verify_finds_nothing_and_ends_with_0(filled: str) -> None:
    assert run("verify", filled).stdout.startswith("nothing is wrong with 2 tables: 21 files, 82 rows, ")
    assert parsed("verify", filled, "disk")["tables"] == ["disk"]


def test_verify_finds_damage_and_ends_with_1(store: str) -> None:
    path = damage(store)

    found = parsed("verify", store, code=1)
    text = run("verify", store, code=1, width=300).stdout

    assert [(flaw["kind"], flaw["grade"], flaw["table"]) for flaw in found["flaws"]] == [("file", "damage", "cpu")]
    assert path.stem in text


def test_doctor_finds_something_and_ends_with_1(filled: str) -> None:
    assert_golden(GOLDEN / "doctor.txt", run("doctor", filled, code=1).stdout)
    assert [finding["kind"] for finding in parsed("doctor", filled, code=1)["findings"]] == ["tiny_files"]
    assert run("doctor", filled, "disk").stdout == "nothing to say about 1 table\n"


def test_doctor_mends_what_is_asked_for(store: str) -> None:
    assert "mended  tiny_files of 'cpu'" in run("doctor", store, "--fix").stdout
    assert run("doctor", store).stdout == "nothing to say about 2 tables\n"


def test_doctor_gives_rows_up_only_for_who_says_so(store: str) -> None:
    damage(store)

    left = run("doctor", store, "cpu", "--thorough", "--fix", code=1)
    run("doctor", store, "cpu", "--thorough", "--fix", "--dangerous")

    assert "left    damaged_file of 'cpu': dangerous, and not asked for" in left.stdout
    assert len(parsed("scan", store, "cpu")) == 23 - 4
    assert run("doctor", store, "--dangerous", code=2).stderr


# --- trying -----------------------------------------------------------------------------------------------


def test_sim_compares_what_is_with_what_would_be(filled: str) -> None:
    made_up = run("sim", "--late-share", "0.05", "--option", "compaction_window=2h", "--option", "ttl=1d").stdout
    assert_golden(GOLDEN / "sim.txt", made_up)

    found = parsed("sim", filled, "cpu", "--option", "compaction_trigger_files=4", "--option", "compaction_window=12h")
    assert list(found) == ["as_it_is", "as_it_would_be"]
    assert {side["flushes"] for side in found.values()} == {20}
    assert [side["compaction_window"] for side in found.values()] == [7 * 86_400.0, 12 * 3600.0]
    assert found["as_it_would_be"]["compaction_trigger_files"] == 4


def test_sim_says_what_the_table_itself_says(filled: str) -> None:
    with mito.open(filled, mode="r") as db:
        files, merges = db["cpu"].simulate({"compaction_trigger_files": 4}).summary.select("files", "merges").row(0)

    would_be = parsed("sim", filled, "cpu", "--option", "compaction_trigger_files=4")["as_it_would_be"]

    assert (would_be["files"], would_be["merges"]) == (files, merges)
    assert len(parsed("files", filled, "cpu")) == 20


def test_sim_without_other_options_tells_what_is(filled: str) -> None:
    assert list(parsed("sim", filled, "cpu")) == ["as_it_is"]
    assert "would be" not in run("sim", filled, "cpu").stdout


def test_sim_makes_rows_up_where_no_store_is_named() -> None:
    rows = ["--days", "0.5", "--series", "100", "--interval", "1s", "--row-bytes", "8", "--flush-interval", "30m"]
    late = ["--late-share", "0.1", "--late", "2h"]

    found = parsed("sim", *rows, *late, "--option", "compaction_policy=count")

    known = mito.simulate(
        days=0.5, series=100, interval="1s", row_bytes=8, flush_interval="30m", late_share=0.1, late="2h"
    )
    assert found["as_it_is"]["flushed_bytes"] == known.summary["flushed_bytes"].item()
    assert found["as_it_is"]["runs_max"] == known.summary["runs_max"].item()
    assert (found["as_it_is"]["flushes"], found["as_it_would_be"]["compaction_policy"]) == (24, "count")


# --- changing ---------------------------------------------------------------------------------------------


def test_compact_merges_files(store: str) -> None:
    would = parsed("compact", store, "cpu", "--dry-run")
    assert (len(would["removed"]), would["dry_run"]) == (20, True)
    assert len(parsed("files", store, "cpu")) == 20

    assert run("compact", store, "cpu").stdout.startswith("merged 20 files")
    assert len(parsed("files", store, "cpu")) == 1


def test_vacuum_deletes_files_of_all_tables(store: str) -> None:
    run("compact", store, "cpu")

    assert run("vacuum", store).stdout.startswith("cpu: deleted 0 files, 0 bytes; kept 20 for a snapshot")
    would = run("vacuum", store, "cpu", "--dry-run").stdout
    assert would.startswith("cpu: would have deleted 0 files, 0 bytes; kept 20 for a snapshot")
    assert [row["table"] for row in parsed("vacuum", store, "--older-than", "0s")] == ["cpu", "disk"]


def files_of_rows(tmp_path: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    rows = frame(range(4, 8))
    rows.write_parquet(tmp_path / "rows.parquet")
    rows.write_csv(tmp_path / "rows.csv")
    rows.write_ipc(tmp_path / "rows.arrow")
    yield from ((str(tmp_path / f"rows.{kind}"), rows) for kind in ("parquet", "csv", "arrow"))


def test_ingest_makes_the_store_and_the_table(tmp_path: Path) -> None:
    for number, (path, rows) in enumerate(files_of_rows(tmp_path)):
        store = str(tmp_path / f"new-{number}")

        told = run("ingest", store, "cpu", path, "--time", "ts", "--tag", "host", "--option", "dedup=merge").stdout

        assert told == f"{path}: wrote 4 rows to 'cpu' (new table)\n"
        assert len(parsed("scan", store, "cpu")) == rows.height
        assert parsed("info", store, "cpu")["options"]["dedup"] == "merge"


def test_ingest_writes_several_files_and_each_key_once(tmp_path: Path) -> None:
    (path, _), *_ = files_of_rows(tmp_path)
    store = str(tmp_path / "new")

    first = parsed("ingest", store, "cpu", path, path, "--time", "ts", "--tag", "host")
    run("ingest", store, "cpu", path, "--key", "load")

    assert [(row["rows"], row["created"]) for row in first] == [(4, True), (4, False)]
    assert "an earlier write of 4 rows had this key" in run("ingest", store, "cpu", path, "--key", "load").stdout
    assert run("ingest", store, "cpu", path, path, "--key", "load", code=2).stderr


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson", "arrow"])
def test_export_writes_what_scan_prints(filled: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"

    assert run("export", filled, "cpu", str(path), "--start", "2024-01-01T20:00").stdout.startswith(f"{path}: ")

    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "ndjson": pl.read_ndjson, "arrow": pl.read_ipc}[kind]
    assert read(path).height == 3
    assert list(tmp_path.iterdir()) == [path]


def test_export_replaces_a_file_only_for_who_says_so(filled: str, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("mine")

    assert "--overwrite" in run("export", filled, "cpu", str(path), code=2).stderr
    assert path.read_text() == "mine"
    assert parsed("export", filled, "cpu", str(path), "--overwrite") == {
        "file": str(path), "size_bytes": path.stat().st_size,
    }  # fmt: skip


def test_an_export_that_fails_leaves_nothing(store: str, tmp_path: Path) -> None:
    damage(store)
    path = tmp_path / "out.csv"

    assert "mito: " in run("export", store, "cpu", str(path), code=1).stderr
    assert sorted(item.name for item in tmp_path.iterdir()) == ["plant"]


ZONED = pl.DataFrame(
    {
        "ts": pl.Series([1, 1_700_000_000_123_456_789]).cast(pl.Datetime("ns", "America/New_York")),
        "host": ["007", "b"],
        "day": pl.Series([19_000, None]).cast(pl.Date),
        "seen": pl.Series([None, 1_700_000_000_123]).cast(pl.Datetime("ms")),
        "load": [1.0, 2.0],
        "note": ["2024-01-01", None],
    }
)


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson", "arrow"])
def test_what_was_exported_is_taken_back_as_it_was(tmp_path: Path, kind: str) -> None:
    store, path = str(tmp_path / "plant"), str(tmp_path / f"out.{kind}")
    with mito.open(store) as db:
        db.write(ZONED, "cpu", time="ts", tags=["host"])
    before = parsed("scan", store, "cpu")
    run("export", store, "cpu", path)

    run("ingest", store, "cpu", path)

    assert len(before) == 2
    assert parsed("scan", store, "cpu") == before


@pytest.mark.parametrize(
    ("name", "lines", "schema"),
    [
        (
            "rows.csv",
            ["ts,v,day,text,none", *["2024-01-01,1,2024-01-01,a,"] * 150, "2024-01-02T12:00,1.5,2024-01-02,2024,"],
            {"ts": "timestamp[us]", "v": "float64", "day": "date", "text": "string", "none": "string"},
        ),
        (
            "rows.ndjson",
            [*['{"ts":"2024-01-01T00:00Z","v":1}'] * 150, '{"ts":"2024-01-01T01:00+02:00","v":1.5,"day":"2024-01-01"}'],
            {"ts": "timestamp[us, UTC]", "v": "float64", "day": "string"},
        ),
        ("rows.csv", ["ts,v", "2024-01-01 00:00:00.000000001,1"], {"ts": "timestamp[ns]", "v": "int64"}),
        ("rows.csv", ["ts,v"], {"ts": "timestamp[us]", "v": "string"}),
    ],
    ids=["what comes late", "JSON", "nanoseconds", "no rows"],
)  # fmt: skip
def test_text_that_is_a_time_becomes_one(tmp_path: Path, name: str, lines: list[str], schema: dict[str, str]) -> None:
    (tmp_path / name).write_text("\n".join(lines) + "\n")

    run("ingest", str(tmp_path / "new"), "cpu", str(tmp_path / name), "--time", "ts")

    assert parsed("info", str(tmp_path / "new"), "cpu")["columns"] == schema


@pytest.mark.parametrize(
    ("times", "why"),
    [
        (["01/02/2024 00:00"], "'01/02/2024 00:00', which is not ISO 8601"),
        (["2024-01-01", "1/2/2024"], "'1/2/2024', which is not ISO 8601"),
        (["2024-01-01T00:00:00Z", "2024-01-01T00:00:00"], "times with a zone and times without"),
        (["2024-13-01"], "cannot be read"),
    ],
    ids=["days first or months first", "one of them", "zones", "no such month"],
)
def test_times_are_not_guessed_at(tmp_path: Path, times: list[str], why: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("ts,v\n" + "".join(f"{time},1\n" for time in times))

    refused = run("ingest", str(tmp_path / "new"), "cpu", str(path), "--time", "ts", code=2)

    assert why in refused.stderr
    assert str(path) in refused.stderr
    assert parsed("ls", str(tmp_path / "new")) == []


def test_of_several_files_the_one_that_is_wrong_is_named_and_those_before_it_are_told(tmp_path: Path) -> None:
    store, paths = str(tmp_path / "new"), [str(tmp_path / f"{name}.csv") for name in ("good", "bad", "never")]
    for path, value in zip(paths, ("1.5", "x", "2.5"), strict=True):
        Path(path).write_text(f"ts,v\n2024-01-01,{value}\n")

    result = run("ingest", store, "cpu", *paths, "--time", "ts", "--json", code=2)

    assert [row["file"] for row in json.loads(result.stdout)] == paths[:1]
    assert f"{paths[1]}: " in result.stderr
    assert parsed("scan", store, "cpu") == [{"ts": "2024-01-01T00:00:00", "v": 1.5}]


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_bytes_are_exported_only_to_what_can_hold_them(tmp_path: Path, kind: str) -> None:
    store, path = str(tmp_path / "plant"), tmp_path / f"out.{kind}"
    with mito.open(store) as db:
        db.write(pl.DataFrame({"ts": [START], "raw": [b"x"], "load": [1]}), "cpu", time="ts")

    assert "cannot hold the bytes of 'raw'" in run("export", store, "cpu", str(path), code=2).stderr
    run("export", store, "cpu", str(path), "-c", "ts", "-c", "load")
    run("export", store, "cpu", str(tmp_path / "out.arrow"))

    assert path.exists()


# --- what goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["files", "STORE"],
        ["files", "STORE", "memory"],
        ["scan", "STORE", "cpu", "-c", "lode"],
        ["scan", "STORE", "cpu", "--where", "load >"],
        ["scan", "STORE", "cpu", "--start", "noon"],
        ["scan", "STORE", "cpu", "--as-of", "never"],
        ["ls", "/nowhere/at/all"],
        ["ls", __file__],
        ["ingest", __file__, "cpu", __file__],
        ["sim", "STORE"],
        ["sim", "STORE", "cpu", "--days", "3"],
        ["sim", "STORE", "cpu", "--option", "compaction_window"],
        ["sim", "STORE", "cpu", "--option", "sync=false"],
        ["sim", "--late-share", "2"],
        ["sim", "--days", "nan"],
        ["sim", "--days", "inf"],
        ["sim", "--row-bytes", "nan"],
        ["sim", "--row-bytes", "1e300"],
        ["sim", "--series", "1" + "0" * 24],
        ["sim", "/nowhere/at/all", "cpu"],
        ["compact", "/nowhere/at/all", "cpu"],
        ["timeline", "STORE", "cpu", "--picture", "out.xls"],
        ["timeline", "STORE", "cpu", "--picture", "/nowhere/at/all.png"],
        ["export", "STORE", "cpu", "out.xls"],
        ["export", "STORE", "cpu", "/nowhere/at/all.csv"],
        ["ingest", "STORE", "cpu", "/nowhere/at/all.csv"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_carried_out_ends_with_2_and_says_why(filled: str, arguments: list[str]) -> None:
    result = run(*(filled if part == "STORE" else part for part in arguments), code=2)

    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_only_ingest_makes_a_store(tmp_path: Path) -> None:
    run("compact", str(tmp_path / "none"), "cpu", code=2)
    run("doctor", str(tmp_path / "none"), "--fix", code=2)

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("no rows")

    result = run("ingest", str(tmp_path / "new"), "cpu", str(tmp_path / "rows.parquet"), "--time", "ts", code=2)

    assert "cannot be read" in result.stderr


def test_damage_on_the_way_ends_with_1(store: str) -> None:
    path = damage(store)

    assert path.stem in run("scan", store, "cpu", code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["info", "cpu"],
        ["files", "cpu"],
        ["timeline", "cpu"],
        ["scan", "cpu"],
        ["verify"],
        ["doctor", "--thorough"],
        ["sim", "cpu"],
        ["compact", "cpu", "--dry-run"],
    ],
    ids=" ".join,
)
def test_what_only_looks_changes_nothing(left: str, arguments: list[str]) -> None:
    def found() -> dict[Path, tuple[int, bytes]]:
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(left).rglob("*") if path.is_file()}

    before = found()

    run(arguments[0], left, *arguments[1:], code=int(arguments[0] == "doctor"))

    assert found() == before


def test_a_damaged_table_does_not_keep_the_others_from_being_listed(store: str) -> None:
    for path in Path(store).glob("regions/1_0000000000/manifest/*"):
        path.write_bytes(b"nonsense")

    listed = run("ls", store, "--json", code=1)

    assert [(row["name"], row["rows"]) for row in json.loads(listed.stdout)] == [("cpu", None), ("disk", 2)]
    assert listed.stderr.startswith("mito: cpu: regions/1_0000000000/manifest/")
    assert "cpu" in run("ls", store, code=1).stdout
    assert run("info", store, code=1).stdout == ""


def test_a_store_that_somebody_writes_to_can_be_looked_at_and_not_changed(store: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", f"import mitoframe; mitoframe.open({store!r}); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        writer.stdout.readline()

        assert len(parsed("ls", store)) == 2
        assert f"process {writer.pid}" in run("compact", store, "cpu", code=3).stderr
    finally:
        writer.communicate("\n")


def test_help_lists_the_verbs_and_the_exit_codes() -> None:
    text = run("--help").stdout

    assert_golden(GOLDEN / "help.txt", text)
    assert run("--version").stdout.startswith("mito, version ")


# --- the program itself -----------------------------------------------------------------------------------


def entry_point() -> list[str]:
    """Return how an installer starts the program, by what the project says."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["mito"].split(":")
    return [sys.executable, "-c", f"import sys; from {module} import {name}; sys.exit({name}())"]


def test_the_installed_program_prints_and_ends_as_it_says(store: str) -> None:
    path = damage(store)

    unset = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [*entry_point(), "verify", store]

    done = subprocess.run(command, capture_output=True, text=True, check=False, env=unset)

    assert (done.returncode, done.stderr) == (1, "")
    assert path.stem in done.stdout


def test_whoever_reads_the_output_may_go_away(filled: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "mitoframe", "scan", filled, "cpu", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()

    assert program.wait() == 141
    assert program.stderr.read() == ""
    program.stderr.close()


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A store whose rows are more than a pipe holds."""
    with mito.open(tmp_path / "large") as db:
        times = pl.datetime_range(START, START + timedelta(days=1), "10s", eager=True)
        db.write(pl.DataFrame({"ts": times, "load": range(len(times))}), "cpu", time="ts")
    return str(tmp_path / "large")


def test_an_interrupt_ends_with_130_and_without_a_trace(large: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "mitoframe", "scan", large, "cpu", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()

    program.send_signal(signal.SIGINT)

    assert program.communicate()[1].strip() == ""
    assert program.returncode == 130


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_an_output_that_cannot_be_written_ends_with_3(filled: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mitoframe", "ls", filled],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 3
    assert done.stderr.startswith("mito: ")
    assert len(done.stderr.splitlines()) == 1


def test_what_an_encoding_lacks_is_written_in_another_way(tmp_path: Path) -> None:
    with mito.open(tmp_path / "plant") as db:
        db.write(pl.DataFrame({"ts": [START], "host": ["日本"]}), "cpu", time="ts", tags=["host"])

    done = subprocess.run(
        [sys.executable, "-m", "mitoframe", "scan", str(tmp_path / "plant"), "cpu"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u65e5\u672c" in done.stdout


def test_messages_hold_nothing_that_a_terminal_would_obey(tmp_path: Path) -> None:
    path = tmp_path / "\x1b]0;title\x07.rows"
    path.touch()

    said = run("ingest", str(tmp_path / "new"), "cpu", str(path), "--time", "ts", code=2).stderr

    assert r"\x1b]0;title\x07.rows ends in none of" in said
    assert "\x1b" not in said
