from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from mitoframe.model.card import ROWS_MAX, Section, card
from mitoframe.model.errors import TableNotFoundError

texts = st.text(st.sampled_from("ab<>&\"' /\n"), max_size=12)


class _Reader(HTMLParser):
    """Collects texts and open elements, and notes what is not closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@given(texts, st.lists(st.tuples(texts, st.lists(st.lists(texts, min_size=1, max_size=3), max_size=4))))
def test_whatever_is_said_stays_text(summary, sections):
    html = card(summary, [Section(title=title, rows=rows) for title, rows in sections])

    found = "".join(read(html).texts)
    expected = [summary]
    for title, rows in sections:
        if rows:
            expected += [f"{title} ", f"({len(rows):,})", *(cell for row in rows for cell in row)]
    assert found == "".join(expected)
    assert html.count("<details") == sum(bool(rows) for _, rows in sections)


def test_of_many_rows_the_first_are_shown_and_the_others_counted():
    shown = card("", [Section(title="Files", rows=[(f"file {number}",) for number in range(ROWS_MAX + 5)])])
    told = card("", [Section(title="Files", rows=[("file 0",)], row_count=30_000)])

    assert f"file {ROWS_MAX - 1}<" in shown
    assert f"file {ROWS_MAX}<" not in shown
    assert "and 5 more" in shown
    assert "(30,000)" in told
    assert "and 29,999 more" in told


def test_nothing_is_loaded_from_anywhere():
    html = card("a", [Section(title="b", rows=[("c", "d")], header=("e", "f"), is_open=True)])

    assert "http" not in html
    assert "<script" not in html
    assert "<details style" in html
    assert " open>" in html


def test_an_error_tells_its_details():
    error = TableNotFoundError("cpq", ["cpu"])

    html = "".join(read(error._repr_html_()).texts)

    assert html.startswith("TableNotFoundError: no table 'cpq'; did you mean 'cpu'?")
    assert "cpq" in html.split("Details")[1]
