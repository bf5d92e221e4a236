import pytest

from controller.errors import ConfigError
from controller.settings import Settings, read_secret, redact_url


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default():
    environ = {"TRIMTAB_REDIS_URL": "redis://a:1/0", "TRIMTAB_PROMETHEUS_URL": "http://p:1"}
    settings = Settings.load({"redis_url": "redis://b:2/0", "prometheus_url": None}, environ)
    assert (settings.redis_url, settings.prometheus_url, settings.listen) == (
        "redis://b:2/0",
        "http://p:1",
        "0.0.0.0:8080",
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        pytest.param("PROMETHEUS_URL", "localhost:9090", "no http or https URL", id="url without a scheme"),
        pytest.param("PROMETHEUS_URL", "redis://x", "no http or https URL", id="url of the wrong kind"),
        pytest.param(
            "REDIS_URL", "redis://:secret@host:99999999/0", "***@host", id="port out of range, password hidden"
        ),
        pytest.param("REDIS_TIMEOUT_SECONDS", "soon", "no number of seconds", id="seconds as words"),
        pytest.param("REDIS_TIMEOUT_SECONDS", "0", "above zero", id="no time at all"),
        pytest.param("REDIS_TIMEOUT_SECONDS", "nan", "above zero", id="nan"),
        pytest.param("REDIS_TIMEOUT_SECONDS", "inf", "finite", id="for ever"),
        pytest.param("LEADER_ELECTION", "maybe", "neither true nor false", id="no boolean"),
        pytest.param("LOG_FORMAT", "xml", "none of auto, json, console", id="no such choice"),
        pytest.param("LISTEN", "8080", "no HOST:PORT", id="port alone"),
        pytest.param("LISTEN", "0.0.0.0:70000", "no HOST:PORT", id="no such port"),
        pytest.param("REDIS_ULR", "redis://x", "no such setting", id="misspelt"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_setting(name, value, says):
    with pytest.raises(ConfigError) as caught:
        Settings.load({}, {f"TRIMTAB_{name}": value})
    message = str(caught.value)
    assert says in message
    assert f"TRIMTAB_{name}" in message
    assert "\n" not in message
    assert "secret" not in message


def test_variables_that_kubernetes_makes_from_a_service_named_trimtab_are_no_settings():
    links = {
        "TRIMTAB_SERVICE_HOST": "10.0.0.1",
        "TRIMTAB_PORT": "tcp://10.0.0.1:8080",
        "TRIMTAB_PORT_8080_TCP_ADDR": "x",
    }
    assert Settings.load({}, links) == Settings()


def test_settings_are_printed_without_passwords():
    settings = Settings(redis_url="redis://user:secret@host:6379/0", prometheus_url="http://u:secret@p:9090")
    assert "secret" not in str(settings.redacted())
    assert settings.redacted()["redis_url"] == "redis://user:***@host:6379/0"


def test_a_secret_is_read_without_its_newline_and_a_missing_one_is_one_line(tmp_path):
    (tmp_path / "token").write_text("abc\n")
    assert read_secret(str(tmp_path / "token"), "prometheus_token_file") == "abc"
    with pytest.raises(ConfigError, match=r"--prometheus-token-file .*No such file"):
        read_secret(str(tmp_path / "gone"), "prometheus_token_file")


@pytest.mark.parametrize("url", ["redis://host:1/0", "http://p/path?q=1"])
def test_a_url_without_a_password_is_shown_as_it_is(url):
    assert redact_url(url) == url
