"""Two real tables to try things on: the weather at, and the flights from, New York City's airports in 2013.

Where they come from, their licence, columns and units are in ``datasets/README.md``. The files travel with the
package; in a checkout they are read from the repository's ``datasets/`` folder. Nothing is downloaded.

    weather    time="time_hour",             tags=["origin"]
    flights    time="scheduled_departure",   tags=["carrier", "origin", "dest", "tailnum"]

In both, no two rows have the same tags and time. For rows in any number, see `mitoframe.tsbs`.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mitoframe.model.errors import UnavailableError

__all__ = ["load_flights", "load_weather"]

_PACKAGE = Path(__file__).parent
_FOLDERS = (_PACKAGE / "_datasets", _PACKAGE.parent / "datasets")
"""Where an installed package has the files, and where a checkout has them."""


def load_weather() -> pl.DataFrame:
    """Return the hourly weather at EWR, JFK and LGA in 2013, ordered by hour.

    A file that is not where the package keeps it gives `UnavailableError`.

    >>> load_weather().columns[:4]
    ['time_hour', 'origin', 'temp', 'dewp']
    """
    return _load("weather")


def load_flights() -> pl.DataFrame:
    """Return all flights that left EWR, JFK and LGA in 2013, ordered by scheduled departure.

    A file that is not where the package keeps it gives `UnavailableError`.

    >>> load_flights().columns[:5]
    ['scheduled_departure', 'carrier', 'origin', 'dest', 'tailnum']
    """
    return _load("flights")


def _load(name: str, folders: tuple[Path, ...] = _FOLDERS) -> pl.DataFrame:
    for folder in folders:
        path = folder / f"{name}.parquet"
        if path.is_file():
            return pl.read_parquet(path)
    raise UnavailableError(
        f"the data set {name!r} is not there: looked for {name}.parquet in {' and in '.join(map(str, folders))}. "
        "Install mitoframe again, or in a checkout run datasets/build.py."
    )
