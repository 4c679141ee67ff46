"""The reference lists everything that there is."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import flyball
from flyball.core.settings import Settings
from flyball.server.mlflow.areas import ROUTES
from tests.docs.snippets import PAGES, ROOT

REFERENCE = ROOT / "docs" / "reference"
_EVENT = re.compile(
    r'"((?:data|features|tracking|pipelines|registry|access|predictions|serving|monitoring|loop|workspace)'
    r'\.[a-z_]+\.[a-z_-]+)"'
)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_error_code_is_explained(generate: ModuleType) -> None:
    page = _read("errors.md")
    assert [code for code in generate.list_errors() if f"`{code}`" not in page] == []


def test_every_command_and_option_is_explained(generate: ModuleType) -> None:
    page = _read("cli.md")
    missing = []
    for name, command in generate.list_commands():
        _, found, section = page.partition(f"\n## flyball {name}\n")
        section = section.partition("\n## ")[0]
        missing += [] if found else [name]
        for parameter in command.params:
            if getattr(parameter, "hidden", False):
                continue
            names = parameter.opts if isinstance(parameter, click.Option) else [parameter.name.upper()]
            missing += [f"{name} {option}" for option in names if option not in section]
    assert missing == []


def test_every_setting_is_explained() -> None:
    page = _read("settings.md")
    assert [name for name in Settings.__struct_fields__ if f"| `{name}` |" not in page] == []


def test_every_public_name_is_explained() -> None:
    page = _read("project-file.md")
    names = set(flyball.__all__) - {"__version__"}
    assert sorted(name for name in names if f"### fb.{name}\n" not in page) == []


def test_every_address_of_the_mlflow_protocol_is_listed() -> None:
    page = _read("mlflow.md")
    assert [route.path for route in ROUTES if f"| {route.method} | `{route.path}` |" not in page] == []


def test_every_event_is_explained() -> None:
    page = _read("events.md")
    assert sorted({kind for kind in _list_event_kinds() if f"`{kind}`" not in page}) == []


def _list_event_kinds() -> Iterator[str]:
    for file in (ROOT / "src" / "flyball").rglob("*.py"):
        yield from _EVENT.findall(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
