from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.ids import region_id, region_number_of, table_id_of

numbers = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(numbers, numbers)
def test_a_regions_two_numbers_can_be_read_back(table_id, region_number):
    region = region_id(table_id, region_number)

    assert (table_id_of(region), region_number_of(region)) == (table_id, region_number)


@pytest.mark.parametrize(("table_id", "region_number"), [(-1, 0), (0, -1), (2**32, 0), (0, 2**32)])
def test_a_number_that_does_not_fit_is_a_programmers_mistake(table_id, region_number):
    with pytest.raises(AssertionError):
        region_id(table_id, region_number)
