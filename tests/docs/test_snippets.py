"""Everything that the documentation shows runs as it stands there."""

from pathlib import Path

import pytest

from tests.docs.snippets import PAGES, ROOT, has_shell, read_blocks, run_page

_LANGUAGES = {"python", "bash", "toml", "text", "json", ""}


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if not has_shell(page)], ids=_name)
def test_every_python_snippet_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if has_shell(page)], ids=_name)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_say_what_they_are_in_known_words(page: Path) -> None:
    for block in read_blocks(page):
        assert block.language in _LANGUAGES, f"{page.name}:{block.line}"
        for option in block.options:
            assert option in {"run", "fails"} or option.startswith("file="), f"{page.name}:{block.line}"
