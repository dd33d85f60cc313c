"""The verb that tries: sim, which says what would become of files and does nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from mitoframe.cli.options import Verb, as_json, opened, options_of
from mitoframe.cli.showing import show_beside
from mitoframe.simulating import simulate

if TYPE_CHECKING:
    from mitoframe.simulating import SimulationResult

_MADE_UP = (
    click.option("--days", type=float, metavar="NUMBER", help="For how long made up rows come; 1 if left out."),
    click.option("--series", type=int, metavar="NUMBER", help="How many series there are; 4000 if left out."),
    click.option("--interval", metavar="DURATION", help="How often each has a row; 10s if left out."),
    click.option("--row-bytes", type=float, metavar="NUMBER", help="Of a row in a file; 10 if left out."),
    click.option("--late-share", type=float, metavar="NUMBER", help="Which part comes late; 0 if left out, at most 1."),
    click.option("--late", metavar="DURATION", help="By how much at most; 6h if left out."),
    click.option("--flush-interval", metavar="DURATION", help="How often rows are flushed; 10m if left out."),
)


def _made_up(verb: Verb) -> Verb:
    """Give a verb the options that describe rows as `mitoframe.simulate` has them."""
    return reduce(lambda made, option: option(made), reversed(_MADE_UP), verb)


@click.command()
@click.argument("store", required=False, type=click.Path(file_okay=False))
@click.argument("table", required=False)
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="One that were otherwise: compaction_window=1d."
)
@_made_up
@as_json
def sim(store: str | None, table: str | None, options: tuple[str, ...], as_json: bool, **rows: Any) -> None:
    """Tell what other options would make of files, beside what there is.

    The flushes of a table are replayed; without a STORE those of rows that are made up. Nothing is written.
    """
    told = {name: value for name, value in rows.items() if value is not None}
    wanted = options_of(options)
    if store is None:
        show_beside(_both(lambda changed: simulate(**told, options=changed), wanted), as_json=as_json)
        return
    if table is None:
        raise click.UsageError("A STORE has several tables; name the one that is meant.")
    if told:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in told)
        raise click.UsageError(f"The rows of a table came as they did; leave out {names}, or STORE and TABLE.")
    with opened(store) as database:
        show_beside(_both(database[table].simulate, wanted), as_json=as_json)


def _both(
    simulated: Callable[[dict[str, object]], SimulationResult], wanted: dict[str, object]
) -> dict[str, dict[str, Any]]:
    """Return the summary as it is, and as it would be if anything is to be otherwise."""
    runs: dict[str, dict[str, object]] = {"as_it_is": {}} | ({"as_it_would_be": wanted} if wanted else {})
    return {title: simulated(options).summary.row(0, named=True) for title, options in runs.items()}


VERBS = (sim,)
