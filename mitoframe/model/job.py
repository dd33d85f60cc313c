"""A merge that somebody else is to carry out, as a value: all that he must know, and nothing of this process.

    {"format": 1, "job_id": "...", "metadata": {...}, "inputs": [...], "output_ids": [...], ...}

It is written down as one line of JSON. Schema and files look in it as they do in a manifest; a newer format is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mitoframe.model.errors import ConfigError, InvalidInputError
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId
from mitoframe.model.schema import RegionMetadata
from mitoframe.model.timerange import TimeRange

if TYPE_CHECKING:
    from mitoframe.model.options import Dedup

JOB_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionJob:
    """Files to merge, and how.

    Attributes:
        job_id: tells it apart from every other job there ever was.
        metadata: the schema of what is stored.
        inputs: the files, by their first times. They stay as they are.
        output_ids: what outputs are called: as many of these as are needed, in any order.
        dedup: which versions of a key stay.
        drop_deletes: keys whose newest row is a delete marker vanish.
        output_windows: each has outputs of its own, and rows that are in none do not exist; none for any time.
        output_size_max_bytes: an output of this size is followed by another; None is no limit.
        row_group_rows: rows per row group of the outputs.
        now_ms: when the outputs were made.
        helpers_max: how many threads may help, if there are any.

    """

    job_id: str
    metadata: RegionMetadata
    inputs: tuple[FileMeta, ...]
    output_ids: tuple[FileId, ...]
    dedup: Dedup
    drop_deletes: bool
    output_windows: tuple[TimeRange, ...] = ()
    output_size_max_bytes: int | None = None
    row_group_rows: int
    now_ms: int
    helpers_max: int = 0

    def to_line(self) -> bytes:
        """Write it down as one line of JSON."""
        value = {
            "format": JOB_FORMAT,
            "job_id": self.job_id,
            "metadata": self.metadata.to_json(),
            "inputs": [file.to_json() for file in self.inputs],
            "output_ids": list(self.output_ids),
            "dedup": self.dedup,
            "drop_deletes": self.drop_deletes,
            "output_windows": [[window.start, window.end] for window in self.output_windows],
            "output_size_max_bytes": self.output_size_max_bytes,
            "row_group_rows": self.row_group_rows,
            "now_ms": self.now_ms,
            "helpers_max": self.helpers_max,
        }
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> CompactionJob:
        """Read what `to_line` wrote.

        Raises:
            ConfigError: a newer mitoframe wrote it.
            InvalidInputError: nobody did.

        """
        try:
            value = json.loads(line)
            number = value.pop("format")
            if type(number) is int and number > JOB_FORMAT:
                raise ConfigError(f"the job has format {number}, newer than {JOB_FORMAT}; update mitoframe there.")
            return _job(value)
        except ConfigError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"this is no job that mitoframe wrote: {error!r}; send it again.") from error


def _job(value: dict[str, Any]) -> CompactionJob:
    return CompactionJob(
        **value
        | {
            "metadata": RegionMetadata.from_json(value["metadata"]),
            "inputs": tuple(map(FileMeta.from_json, value["inputs"])),
            "output_ids": tuple(map(FileId, value["output_ids"])),
            "output_windows": tuple(TimeRange(start, end) for start, end in value["output_windows"]),
        }
    )
