from pathlib import Path

import pytest

from flyball.core.errors import InvalidInputError
from flyball.core.settings import load_settings


def test_defaults_need_no_file(tmp_path: Path) -> None:
    settings, sources = load_settings(tmp_path, environment={})
    assert settings.port == 3592
    assert {entry.source for entry in sources} == {"default"}


def test_arguments_go_before_environment_before_file(tmp_path: Path) -> None:
    (tmp_path / "flyball.toml").write_text("port = 1000\nworkers = 3\nmax_body_bytes = 10\n")
    settings, sources = load_settings(
        tmp_path, {"port": 3000, "host": None}, {"FLYBALL_PORT": "2000", "FLYBALL_WORKERS": "4"}
    )
    assert (settings.port, settings.workers, settings.max_body_bytes) == (3000, 4, 10)
    assert {entry.name: entry.source for entry in sources if entry.source != "default"} == {
        "port": "argument",
        "workers": "environment",
        "max_body_bytes": "flyball.toml",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "'prot' in flyball.toml is no setting of Flyball; did you mean 'port'?"),
        ("port = 'x'", "the setting 'port' in flyball.toml is wrong"),
        ("port = 99_999", "'port' in flyball.toml must be from 1 to 65533, but it is 99999"),
        ("tick_seconds = nan", "'tick_seconds' in flyball.toml must be at least 0.01, but it is nan"),
        ("gateway_memory_mb = 1", "must be 0 or at least 50, but it is 1"),
        ("durable = 'dsk'", "'durable' in flyball.toml must be one of 'kernel', 'disk', but it is 'dsk'"),
        ("port = ", "flyball.toml cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "flyball.toml").write_text(text)
    with pytest.raises(InvalidInputError) as error:
        load_settings(tmp_path, environment={})
    assert words in error.value.message


def test_what_0_turns_off_may_be_0(tmp_path: Path) -> None:
    settings, _ = load_settings(tmp_path, {"gateway_memory_mb": 0}, environment={"FLYBALL_GATEWAY_STUCK_SECONDS": "0"})
    assert (settings.gateway_memory_mb, settings.gateway_stuck_seconds) == (0, 0.0)


def test_an_unknown_variable_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'hots' in environment"):
        load_settings(tmp_path, environment={"FLYBALL_HOTS": "x"})


def test_users_and_lists(tmp_path: Path) -> None:
    (tmp_path / "flyball.toml").write_text('[users]\nana = ["risk-officer"]\n')
    settings, _ = load_settings(
        tmp_path, environment={"FLYBALL_WEBHOOKS": "http://127.0.0.1:1/a, http://127.0.0.1:1/b"}
    )
    assert settings.users == {"ana": ["risk-officer"]}
    assert settings.webhooks == ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]
