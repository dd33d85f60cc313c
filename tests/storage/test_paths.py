from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.ids import region_id
from mitoframe.storage.paths import (
    manifest_folder,
    manifest_key,
    parse_manifest_key,
    parse_region_folder,
    parse_sst_key,
    region_folder,
    sst_folder,
    sst_key,
)

FOREIGN_FOLDERS = [
    *("", "1", "1_2", "x_0000000001", "1_0000000001.tmp", "-1_0000000001"),
    *("01_0000000001", "4294967296_0000000001", "1_4294967296", "٣_0000000001"),
]
numbers = st.integers(0, 2**32 - 1)
regions = st.builds(region_id, numbers, numbers)
file_ids = st.text("0123456789abcdef", min_size=32, max_size=32)


@settings(deadline=None)
@given(regions, file_ids)
def test_an_ssts_key_can_be_read_back(region, file_id):
    key = sst_key(region, file_id)

    assert parse_sst_key(key) == file_id
    assert key.rpartition("/")[0] == sst_folder(region)
    assert parse_manifest_key(key) is None


@settings(deadline=None)
@given(regions, st.integers(0, 10**20 - 1), st.sampled_from(["json", "checkpoint"]))
def test_a_manifests_key_can_be_read_back(region, version, kind):
    key = manifest_key(region, version, kind)

    assert parse_manifest_key(key) == (version, kind)
    assert key.rpartition("/")[0] == manifest_folder(region)
    assert parse_sst_key(key) is None


@settings(deadline=None)
@given(regions, regions)
def test_two_regions_never_share_a_folder(left, right):
    assert (region_folder(left) == region_folder(right)) == (left == right)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), max_size=6))
def test_manifest_keys_sort_as_their_versions_do(versions):
    keys = [manifest_key(region_id(1, 0), version, "json") for version in versions]

    assert sorted(keys) == [manifest_key(region_id(1, 0), version, "json") for version in sorted(versions)]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.parquet",
        "0" * 31 + ".parquet",
        "0" * 33 + ".parquet",
        "0" * 31 + "A.parquet",
        "0" * 31 + "g.parquet",
        "0" * 32 + ".parquet.tmp",
        "0" * 32 + ".parquet\n",
        "0" * 32,
        "0" * 19 + ".json",
        "0" * 20 + ".json.tmp",
        "0" * 20 + ".txt",
        "+" + "0" * 19 + ".json",
        "٣" * 20 + ".json",
        ".DS_Store",
    ],
    ids=repr,
)
def test_a_name_that_is_not_ours_is_told_by_none(name):
    assert parse_sst_key(f"regions/1_0000000000/sst/{name}") is None
    assert parse_manifest_key(f"regions/1_0000000000/manifest/{name}") is None


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_region_folder_is_parsed_back(table: int, number: int) -> None:
    region = region_id(table, number)

    assert parse_region_folder(region_folder(region).rpartition("/")[2]) == region


@pytest.mark.parametrize("name", FOREIGN_FOLDERS)
def test_a_folder_of_another_name_is_no_region(name: str) -> None:
    assert parse_region_folder(name) is None
