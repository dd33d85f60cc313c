"""Golden texts of the picker: files and questions in, windows as pictures and tasks out.

    # Any number of comments.
    files
    a L0 08:01..08:40 10MB made=09:00 rows=100 deletes=5 seq=1..10 of=7

    plan now=12:00 window=1h
    ----
    the answer, up to an empty line; more questions may follow

Times are hours and minutes since 1970. A file that says no more is of 1 MB and 1000 rows, was made when its last row
came, and has the ten sequences after those of the file above it; ``of`` is the manifest version of the merge that made
it. A question may have any of `QUESTION`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from builders import file_id_of, file_of

from mitoframe.jobs.tasks import CompactionPlan, CompactionScope, CompactionTask, WindowPlan
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import ManifestVersion, Sequence
from mitoframe.model.options import CompactionOptions
from mitoframe.model.timerange import TimeRange, parse_duration_ms
from mitoframe.storage.memtable import RangeStats

MB = 1 << 20
COLUMNS = 40
_RULE = "----\n"
_UNITS = {"B": 1, "KB": 1 << 10, "MB": MB, "GB": 1 << 30}


def to_ms(clock: str) -> int:
    hours, minutes = clock.lstrip("-").split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000 * (-1 if clock.startswith("-") else 1)


def to_clock(milliseconds: int) -> str:
    minutes = abs(milliseconds) // 60_000
    return f"{'-' if milliseconds < 0 else ''}{minutes // 60:02}:{minutes % 60:02}"


def to_bytes(text: str) -> int:
    [(number, unit)] = re.findall(r"^(\d+)(\w+)$", text)
    return int(number) * _UNITS[unit]


def to_size(size_bytes: int) -> str:
    unit = next(unit for unit in ("GB", "MB", "KB", "B") if size_bytes % _UNITS[unit] == 0)
    return f"{size_bytes // _UNITS[unit]} {unit}"


def to_range(text: str) -> TimeRange:
    first, last = text.split("..")
    return TimeRange(to_ms(first), to_ms(last))


def _duration(text: str) -> int:
    return parse_duration_ms(text, "duration")


OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "window": ("window_ms", _duration),
    "policy": ("policy", str),
    "trigger": ("trigger_files", int),
    "settled_trigger": ("settled_trigger_files", int),
    "settle": ("settle_ms", _duration),
    "inputs": ("input_files_max", int),
    "input": ("input_size_max_bytes", to_bytes),
    "output": ("output_size_max_bytes", to_bytes),
    "ttl": ("ttl_ms", _duration),
    "dedup": ("dedup", str),
}
QUESTION = {*OPTIONS, "now", "mode", "times", "known", "busy", "held", "tasks", "buffered", "buffered_seq"}


def answer(text: str) -> str:
    """Write the answers of a golden text anew."""
    head, *questions = re.split(r"^(?=plan )", text, flags=re.MULTILINE)
    files = read_files(head)
    return head + "\n".join(_answered(question, files) for question in questions)


def _answered(question: str, files: list[FileMeta]) -> str:
    line = question.partition("\n")[0]
    return f"{line}\n{_RULE}{draw(ask(line, files))}"


def read_files(text: str) -> list[FileMeta]:
    files: list[FileMeta] = []
    for line in text.splitlines():
        if match := re.match(r"(\w+) L([01]) (\S+)\.\.(\S+)(.*)", line):
            name, level, first, last, rest = match.groups()
            files.append(_file(name, int(level), to_ms(first), to_ms(last), rest.split(), len(files)))
    return files


def _file(name: str, level: int, first: int, last: int, words: list[str], number: int) -> FileMeta:
    said = dict(word.split("=") for word in words if "=" in word)
    sizes = [to_bytes(word) for word in words if "=" not in word]
    oldest, newest = said.get("seq", f"{10 * number + 1}..{10 * number + 10}").split("..")
    return file_of(
        f"{name}.",
        first,
        last,
        level=level,
        size_bytes=sizes[0] if sizes else MB,
        row_count=int(said.get("rows", 1000)),
        delete_count=int(said.get("deletes", 0)),
        created_ms=to_ms(said["made"]) if "made" in said else last,
        min_sequence=Sequence(int(oldest)),
        max_sequence=Sequence(int(newest)),
        derived_version=ManifestVersion(int(said.get("of", 0))),
    )


def name_of(file: FileMeta) -> str:
    return file.file_id.partition(".")[0]


def ask(line: str, files: list[FileMeta]) -> CompactionPlan:
    said = dict(word.split("=") for word in line.split()[1:])
    assert said.keys() <= QUESTION, f"{said.keys() - QUESTION} cannot be said"
    options = {name: read(said[word]) for word, (name, read) in OPTIONS.items() if word in said}
    scope = CompactionScope(
        mode=said.get("mode", "due"), times=to_range(said["times"]) if "times" in said else TimeRange()
    )
    return plan_compaction(
        files,
        CompactionOptions(**options),
        to_ms(said["now"]),
        known_window_ms=_duration(said["known"]) if "known" in said else None,
        scope=scope,
        buffered=_buffered(said),
        busy=[file_id_of(f"{name}.") for name in said.get("busy", "").split(",")],
        held_sequence=Sequence(int(said["held"])) if "held" in said else None,
        tasks_max=int(said["tasks"]) if "tasks" in said else None,
    )


def _buffered(said: dict[str, str]) -> list[RangeStats]:
    if "buffered" not in said:
        return []
    times, (oldest, newest) = to_range(said["buffered"]), said["buffered_seq"].split("..")
    return [
        RangeStats(
            row_count=1000,
            delete_count=0,
            min_time=times.start,
            max_time=times.end,
            min_sequence=Sequence(int(oldest)),
            max_sequence=Sequence(int(newest)),
        )
    ]


# --- drawing --------------------------------------------------------------------------------------------


def draw(plan: CompactionPlan) -> str:
    lines = []
    if plan.expiry is not None:
        guarded = ", guarded" if plan.expiry.is_guarded else ""
        lines.append(f"kept from {to_clock(plan.expiry.cutoff)}{guarded}")
        lines += [f"  expired: {' '.join(map(name_of, plan.expiry.files))}"] * bool(plan.expiry.files)
        lines += [f"  waiting: {' '.join(map(name_of, plan.expiry.waiting))}"] * bool(plan.expiry.waiting)
    for window in plan.windows:
        tasks = [task for task in plan.tasks if task.window_start == window.times.start]
        lines += [_title(window), *(line for task in tasks for line in _task_lines(task))]
    shown = {window.times.start for window in plan.windows}
    lines += [line for task in plan.tasks if task.window_start not in shown for line in _task_lines(task)]
    return "\n".join(lines or ["no files"]) + "\n"


def _title(window: WindowPlan) -> str:
    files = f"{window.file_count} file{'s' * (window.file_count != 1)}"
    runs = f"{window.run_count} run{'s' * (window.run_count != 1)}"
    state = "active" if window.is_active else "settled"
    times = f"{to_clock(window.times.start)}..{to_clock(window.times.end)}"
    reason = re.sub(r"\b(\w+)(\.\1)+\.", r"\1", window.reason)
    return f"{times}  {files}, {runs}, {to_size(window.size_bytes)}, {state}: {reason}"


def _task_lines(task: CompactionTask) -> list[str]:
    first = min(file.min_time for file in task.inputs)
    last = max(file.max_time for file in task.inputs)
    width = max(len(name_of(file)) for file in task.inputs)
    bars = [
        f"    {name_of(file):{width}} |{_bar(file, first, last)}| {to_size(file.size_bytes)}" for file in task.inputs
    ]
    deletes = "dropped" if task.drop_deletes else "kept"
    output = f"    -> {to_clock(first)}..{to_clock(last)} {to_size(task.output_size_bytes)}, delete markers {deletes}"
    windows = [f"       in {' '.join(to_clock(one.start) for one in task.output_windows)}"] * bool(task.output_windows)
    return [*bars, output, *windows]


def _bar(file: FileMeta, first: int, last: int) -> str:
    span = max(last - first, 1)
    left = (file.min_time - first) * (COLUMNS - 1) // span
    right = (file.max_time - first) * (COLUMNS - 1) // span
    return " " * left + "=" * (right - left + 1) + " " * (COLUMNS - 1 - right)
