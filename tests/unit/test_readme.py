"""The table of settings in the README is the code's."""

from __future__ import annotations

from pathlib import Path

from shared.config import Settings

README = Path(__file__).resolve().parent.parent.parent / "README.md"
SHOWN = {
    "max_upload_size": "4GiB",
    "max_queue_bytes": "2GiB",
    "poll_interval": "5s",
    "visibility_timeout": "30s",
    "stale_after": "5m",
    "max_query_time": "60s",
    "rate_limit": "100",
    "insecure": "false",
    "enable_cors": "false",
    "enable_websocket": "true",
    "enable_graphql": "true",
    "websocket_timeout": "270s",
}


def settings_table():
    return [
        f"| {name.upper()} | {SHOWN.get(name, field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]


def test_every_setting_stands_in_the_readme_as_it_is_in_the_code():
    lines = README.read_text().splitlines()
    start = lines.index("| variable | default | meaning |") + 2
    end = lines.index("", start)
    assert lines[start:end] == settings_table()


def test_the_defaults_shown_are_the_defaults():
    for name, text in SHOWN.items():
        given = Settings.model_validate({name: text})
        assert getattr(given, name) == Settings.model_fields[name].default
