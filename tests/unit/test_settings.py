"""Settings: read once, checked, frozen; what cannot be used is refused by name."""

import os
from pathlib import Path

import pytest

from adapters.settings import BadSettingError, Settings, load_settings

NOWHERE = Path(os.devnull)


def _load(**names: str) -> Settings:
    return load_settings({f"RUSHLINE_{name}": value for name, value in names.items()}, NOWHERE)


def test_nothing_given_means_the_local_stack() -> None:
    assert _load() == Settings()
    assert _load().kafka_bootstrap == "127.0.0.1:59092"
    assert _load().base_url == "http://127.0.0.1:8080"
    assert _load().audit_url == _load().migrate_url == _load().postgres_dsn


def test_a_given_setting_has_its_fields_type() -> None:
    settings = _load(HTTP_PORT=" 9000 ", TIME_SCALE="60", KAFKA_BOOTSTRAP="kafka:9092")
    assert (settings.http_port, settings.time_scale, settings.kafka_bootstrap) == (9000, 60.0, "kafka:9092")


def test_names_of_others_are_not_ours() -> None:
    assert load_settings({"PATH": "/bin", "STRIPE_API_KEY": "x"}, NOWHERE) == Settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("POSTGRES_DNS", "POSTGRES_DSN"),
        ("TIMESCALE", "TIME_SCALE"),
        ("KAFKA_BOOTSTRAPS", "KAFKA_BOOTSTRAP"),
        ("HTTPPORT", "HTTP_PORT"),
    ],
)
def test_an_unknown_name_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(BadSettingError, match=f"RUSHLINE_{name}: .*Did you mean RUSHLINE_{meant}") as refused:
        _load(**{name: "1"})
    assert refused.value.name == f"RUSHLINE_{name}"


def test_an_unknown_name_that_is_near_nothing_says_where_to_look() -> None:
    with pytest.raises(BadSettingError, match=r"adapters/settings\.py"):
        _load(ZZZZZZZZ="1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIME_SCALE", "0"), ("TIME_SCALE", "-1"), ("TIME_SCALE", "nan"), ("TIME_SCALE", "inf"), ("TIME_SCALE", "fast"),
        ("RELAY_BATCH_ROWS", "0"), ("RELAY_BATCH_ROWS", "1.5"), ("RELAY_BATCH_ROWS", ""), ("STUCK_S", "-30"),
        ("WORKER_CONCURRENCY", "many"), ("EVENTS_HOT_DAYS", "0"), ("HTTP_PORT", "-1"), ("HTTP_PORT", "65536"), ("HTTP_PORT", "http"),
        ("METRICS_PORT", "70000"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadSettingError, match=f"RUSHLINE_{name}: "):
        _load(**{name: value})


@pytest.mark.parametrize("port", ["0", "65535"])
def test_the_first_and_the_last_port_are_ports(port: str) -> None:
    assert _load(HTTP_PORT=port).http_port == int(port)


def test_the_environment_goes_before_the_local_stacks_file(tmp_path: Path) -> None:
    file = tmp_path / "local.env"
    file.write_text("# users of this stack\n\nRUSHLINE_POSTGRES_DSN=postgresql://a?x=y\nRUSHLINE_HTTP_PORT=1\n")
    settings = load_settings({"RUSHLINE_HTTP_PORT": "2"}, file)
    assert (settings.postgres_dsn, settings.http_port) == ("postgresql://a?x=y", 2)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().http_port = 1  # type: ignore[misc]


def test_business_time_passes_as_fast_as_the_scale_says() -> None:
    assert _load(TIME_SCALE="60").scaled_s(300) == 5
