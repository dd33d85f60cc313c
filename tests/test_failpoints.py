"""Named crash points: who watches is told, in order; nobody else pays; and no name is made up."""

from __future__ import annotations

import pytest

from mitoframe.failpoints import CRASH_POINTS, reached, watching


def test_a_point_reached_while_nobody_watches_does_nothing():
    reached("write.logged")


def test_a_watcher_is_told_the_names_in_order():
    seen = []

    with watching(seen.append):
        reached("write.logged")
        reached("edit.logged")
    reached("gc.deleting")

    assert seen == ["write.logged", "edit.logged"]


def test_the_inner_of_two_watchers_is_told_and_the_outer_takes_over_again():
    outer, inner = [], []

    with watching(outer.append):
        with watching(inner.append):
            reached("write.logged")
        reached("write.inserted")

    assert (outer, inner) == (["write.inserted"], ["write.logged"])


def test_what_a_watcher_raises_comes_out_of_the_point_and_the_watch_ends():
    def kill(name):
        raise KeyboardInterrupt(name)

    with pytest.raises(KeyboardInterrupt, match=r"flush\.frozen"), watching(kill):
        reached("flush.frozen")

    reached("flush.frozen")


def test_an_undeclared_name_is_refused_as_soon_as_somebody_watches():
    with watching(lambda name: None), pytest.raises(AssertionError, match=r"undeclared crash point 'flush\.frozn'"):
        reached("flush.frozn")


def test_the_declared_names_cannot_be_changed_and_say_what_they_mean():
    with pytest.raises(TypeError):
        CRASH_POINTS["new.point"] = "sneaked in"
    assert all(name.count(".") == 1 and text for name, text in CRASH_POINTS.items())
