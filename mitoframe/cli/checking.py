"""The verbs that check: verify, doctor. Both end with 1 if they have something to say."""

from __future__ import annotations

import click

from mitoframe.cli.options import FINE, FOUND, as_json, opened, the_store, the_tables
from mitoframe.cli.showing import facts_of, say, show_facts, show_frame, show_result


@click.command()
@the_store
@the_tables
@as_json
def verify(store: str, tables: tuple[str, ...], as_json: bool) -> int:
    """Compare all that is stored with what was written.

    Reads everything, every checksum and all that was promised, and changes nothing.

    Ends with 1 if anything is wrong, be it only with an index or left behind by a crash.
    """
    with opened(store) as database:
        report = database.verify(*tables)
    if as_json:
        show_facts(facts_of(report), as_json=True)
    else:
        say(repr(report).partition("\n")[0])
        if report.flaws:
            show_frame(report.to_polars(), as_json=False)
    return FOUND if report.flaws else FINE


@click.command()
@the_store
@the_tables
@click.option("--thorough", is_flag=True, help="Verify them too.")
@click.option("--fix", is_flag=True, help="Mend what can be mended without giving rows up.")
@click.option("--dangerous", is_flag=True, help="With --fix, mend also what gives rows up for good.")
@as_json
def doctor(
    store: str,
    tables: tuple[str, ...],
    thorough: bool,
    fix: bool,
    dangerous: bool,
    as_json: bool,
) -> int:
    """Say what could be better, and mend it if asked to.

    Ends with 1 if there is a finding; with --fix, if one is left or could not be mended.
    """
    if dangerous and not fix:
        raise click.UsageError("--dangerous says how to --fix; give both.")
    with opened(store, "rw" if fix else "r") as database:
        report = database.doctor(*tables, thorough=thorough)
        if fix:
            result = report.fix(dangerous=dangerous)
            show_result(result, as_json=as_json)
            return FOUND if result.failed or result.left else FINE
    if as_json:
        show_facts(facts_of(report), as_json=True)
    elif report.findings:
        show_frame(report.to_polars().drop("evidence"), as_json=False)
    else:
        say(repr(report))
    return FOUND if report.findings else FINE


VERBS = (verify, doctor)
