from __future__ import annotations

from pathlib import Path

import pytest

from headgate import settings
from headgate.settings import InvalidSettingError, Settings


def test_empty_environment_gives_the_defaults() -> None:
    assert settings.load({}) == settings.load({"HEADGATE_PORT": ""}) == Settings()


def test_variables_are_converted_to_the_type_of_the_setting() -> None:
    loaded = settings.load(
        {
            "HEADGATE_PORT": "8080",
            "HEADGATE_DATA": "/srv/headgate",
            "HEADGATE_ACCESS_LOG": "false",
            "HEADGATE_IDLE_SECONDS": "1.5",
            "HEADGATE_ALLOWED_HOSTS": "a.example, b.example",
            "OPENAI_API_KEY": "sk-secret",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "PATH": "/bin",
        }
    )
    assert loaded.port == 8080
    assert loaded.data == Path("/srv/headgate")
    assert loaded.access_log is False
    assert loaded.idle_seconds == 1.5
    assert loaded.allowed_hosts == ("a.example", "b.example")
    assert loaded.openai_api_key == "sk-secret"
    assert loaded.otel_endpoint == "http://collector:4318"


def test_override_wins_over_the_environment_unless_it_is_none() -> None:
    environment = {"HEADGATE_PORT": "8080", "HEADGATE_HOST": "::1"}
    loaded = settings.load(environment, port=9000, host=None, data=Path("x"))
    assert (loaded.port, loaded.host, loaded.data) == (9000, "::1", Path("x"))


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("HEADGATE_PORT", "many", "HEADGATE_PORT cannot be 'many': Expected `int`"),
        ("HEADGATE_PORT", "65536", "<= 65535"),
        ("HEADGATE_IDLE_SECONDS", "0", "> 0"),
        ("HEADGATE_ACCESS_LOG", "perhaps", "Expected `bool`"),
        ("HEADGATE_LOG_LEVEL", "loud", "HEADGATE_LOG_LEVEL cannot be 'loud': Invalid enum value"),
        ("HEADGATE_PROT", "1", "did you mean HEADGATE_PORT"),
        ("HEADGATE_ZZZZZZZZZZ", "1", "docs/configuration.md"),
    ],
)
def test_impossible_setting_is_named_with_what_is_allowed(
    variable: str, value: str, reason: str
) -> None:
    with pytest.raises(InvalidSettingError, match=reason):
        settings.load({variable: value})


def test_secrets_are_not_in_the_text_of_the_settings() -> None:
    loaded = settings.load({"OPENAI_API_KEY": "sk-secret", "HEADGATE_MASTER_KEY": "topmost"})
    assert "sk-secret" not in repr(loaded)
    assert "topmost" not in repr(loaded)
