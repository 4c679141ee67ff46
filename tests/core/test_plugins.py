"""Optional parts are found by entry points, loaded on first use, and missing ones say how to install them."""

import sys
from pathlib import Path

import pytest

from flyball.core.errors import UnknownNameError
from flyball.core.plugins import PluginBrokenError, PluginMissingError, Plugins

GROUP = "flyball.test-parts"


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins[type]:
    """A distribution with one good part, one that lacks a package, one without an extra, and one that raises."""
    (tmp_path / "good_part.py").write_text("class Good:\n    pass\n")
    (tmp_path / "needy_part.py").write_text("import a_package_nobody_has.inside\n")
    (tmp_path / "raising_part.py").write_text("raise ValueError('no luck')\n")
    info = tmp_path / "parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\n"
        "good = good_part:Good\n"
        "needy = needy_part:Needy [big]\n"
        "plain = needy_part:Needy\n"
        "raising = raising_part:Raising\n"
        "gone = no_such_part:Gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return Plugins(GROUP, "part")


def test_nothing_is_imported_to_list_names(parts: Plugins[type]) -> None:
    assert parts.names() == ["gone", "good", "needy", "plain", "raising"]
    assert "good_part" not in sys.modules


def test_a_part_is_loaded_once(parts: Plugins[type]) -> None:
    assert parts.get("good").__name__ == "Good"
    assert parts.get("good") is parts.get("good")


def test_a_missing_package_is_named_with_the_extra_that_brings_it(parts: Plugins[type]) -> None:
    with pytest.raises(PluginMissingError) as error:
        parts.get("needy")
    assert error.value.message == "the part 'needy' needs the package 'a_package_nobody_has', which is not installed"
    assert error.value.hint == "Install it with: pip install 'flyball[big]'"


def test_a_missing_package_without_an_extra_is_installed_by_its_own_name(parts: Plugins[type]) -> None:
    with pytest.raises(PluginMissingError, match="pip install a_package_nobody_has"):
        parts.get("plain")


@pytest.mark.parametrize(("name", "reason"), [("raising", "ValueError: no luck"), ("gone", "No module named")])
def test_a_part_that_cannot_be_loaded_is_broken(parts: Plugins[type], name: str, reason: str) -> None:
    with pytest.raises(PluginBrokenError, match=reason):
        parts.get(name)


def test_an_unknown_part_is_met_with_the_close_one(parts: Plugins[type]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'good'"):
        parts.get("goood")


def test_parts_of_the_process_need_no_distribution() -> None:
    own = Plugins("flyball.nothing", "part", extra={"own": int})
    assert own.names() == ["own"]
    assert own.get("own") is int
