"""Versions that callers name."""

import pytest
from tests.domain.serving.conftest import REQUEST, START, House, breaks, fixed

from flyball.core.errors import NotFoundError, UnknownNameError
from flyball.domain.registry.versions import ModelVersion, NotApprovedError, Status
from flyball.domain.serving.fleet import NothingLiveError
from flyball.domain.serving.loads import ObservedLoader
from flyball.domain.serving.on_demand import VersionInUseError, VersionsOnDemand


@pytest.fixture
def versions(house: House) -> VersionsOnDemand:
    for number in range(1, 6):
        house.add(number, fixed(number / 10))
    house.go_live("m/1")
    return VersionsOnDemand(house.fleet, house, house, most=2)


def test_without_a_number_it_is_the_live_one(versions: VersionsOnDemand, house: House) -> None:
    assert versions.load("credit").ref == "m/1"
    house.go_live("m/2")
    assert versions.load("credit").ref == "m/2"


def test_a_version_is_loaded_once(versions: VersionsOnDemand, house: House) -> None:
    assert versions.find("credit", "3") is None
    assert versions.load("credit", "3") is versions.load("credit", "3")
    assert house.loads.count("m/3") == 1


def test_what_the_fleet_keeps_is_not_loaded_again(versions: VersionsOnDemand, house: House) -> None:
    versions.load("credit")
    house.go_live("m/2")
    versions.load("credit")
    assert versions.load("credit", "1").ref == "m/1"
    assert house.loads.count("m/1") == 1


def test_the_least_used_leaves_first(versions: VersionsOnDemand, house: House) -> None:
    for number in ("2", "3", "2", "4"):
        versions.load("credit", number)
    assert [number for number in "2345" if versions.find("credit", number) is not None] == ["2", "4"]


def test_only_approved_versions_answer(versions: VersionsOnDemand, house: House) -> None:
    class Doubtful:
        def get(self, ref: str) -> ModelVersion:
            return ModelVersion(
                model="m", number=2, status=Status.REJECTED, package_digest="", metrics={}, created_at=START
            )

        def list_versions(self, model: str | None = None) -> list[ModelVersion]:
            return []

    with pytest.raises(NotApprovedError):
        VersionsOnDemand(house.fleet, house, Doubtful()).load("credit", "2")


@pytest.mark.parametrize("number", ["99", "x", "-1", "1/2", "m/1", " 1", "٣"])
def test_what_is_no_version_is_not_found(versions: VersionsOnDemand, number: str) -> None:
    with pytest.raises(NotFoundError):
        versions.load("credit", number)
    with pytest.raises(NotFoundError):
        versions.unload("credit", number)


def test_an_unknown_endpoint_is_told(versions: VersionsOnDemand) -> None:
    with pytest.raises(UnknownNameError):
        versions.load("credti", "1")


def test_what_takes_traffic_is_not_unloaded(versions: VersionsOnDemand, house: House) -> None:
    for number in ("", "1"):
        with pytest.raises(VersionInUseError):
            versions.unload("credit", number)
    versions.load("credit", "2")
    versions.unload("credit", "2")
    assert versions.find("credit", "2") is None


def test_before_the_first_version_nothing_answers(house: House) -> None:
    house.add(1, fixed(0.5))
    versions = VersionsOnDemand(house.fleet, house, house)
    with pytest.raises(NothingLiveError):
        versions.load("credit")


def test_a_pinned_version_answers_alone_and_is_logged_so(versions: VersionsOnDemand, house: House) -> None:
    pinned = versions.load("credit", "3")
    answers = house.plane.predict("credit", [REQUEST] * 3, pinned=pinned)
    assert {(answer.prediction, answer.model_version, answer.variant) for answer in answers} == {(0.3, "m/3", "pinned")}
    assert house.sealed()["variant"].unique().to_list() == ["pinned"]
    live = house.plane.predict("credit", [REQUEST], pinned=versions.load("credit", "1"))
    assert live[0].variant == "live"


def test_loads_are_noted(house: House) -> None:
    house.add(1, breaks("x"))
    loader = ObservedLoader(house)
    loader.load("m/1")
    with pytest.raises(NotFoundError):
        loader.load("m/2")
    assert [(record.version, record.has_failed) for record in loader.take_records()] == [("m/1", False), ("m/2", True)]
    assert loader.take_records() == []
