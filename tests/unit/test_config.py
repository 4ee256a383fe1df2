"""The configuration: defaults, file, environment, and sentences for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.config import Config, is_folder, load_config
from pipelines.errors import UsageError

CHECKOUT = Path(__file__).parents[2]


def refusal(path: str | None, env: dict[str, str]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load_config(path, env)
    return caught.value


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a configuration file, in a folder that has no other."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "x.toml") -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return name

    return write


def test_without_a_file_the_defaults_hold(conf) -> None:
    config = load_config(None, {})
    assert config.storage.root == ".work/lake"
    assert config.kafka.topics.user_actions == "media.user-actions"
    assert config.kafka.bootstrap_servers == f"127.0.0.1:{config.broker.port}"


def test_conf_local_toml_is_read_when_no_file_is_named(conf) -> None:
    conf('storage.root = "from-local"', "conf/local.toml")
    assert load_config(None, {}).storage.root == "from-local"


def test_a_named_file_replaces_conf_local_toml(conf) -> None:
    conf('storage.root = "from-local"\nkafka.partitions = 9', "conf/local.toml")
    config = load_config(conf('storage.root = "named"'), {})
    assert (config.storage.root, config.kafka.partitions) == ("named", 4)


@pytest.mark.parametrize(
    ("root", "location"),
    [
        ("/data/lake/", "/data/lake"),
        ("file:///data/lake", "/data/lake"),
        ("file://localhost/data/lake/", "/data/lake"),
        ("file:/data/lake", "/data/lake"),
        ("FILE:/data/lake", "/data/lake"),
        ("file:///", "/"),
        ("/", "/"),
        ("lake", f"{Path.cwd()}/lake"),
        ("file:lake", f"{Path.cwd()}/lake"),
        ("s3a://bucket/lake/", "s3a://bucket/lake"),
        ("hdfs:/data/lake", "hdfs:/data/lake"),
    ],
)
def test_the_root_is_a_folder_or_a_uri(root: str, location: str) -> None:
    storage = load_config(None, {"REELHOUSE_STORAGE__ROOT": root}).storage
    assert storage.location == location
    assert is_folder(storage.root) == is_folder(storage.location) == location.startswith("/")


def test_a_file_uri_of_another_machine_is_refused() -> None:
    error = refusal(None, {"REELHOUSE_STORAGE__ROOT": "file://nas/data/lake"})
    assert str(error).startswith("storage.root is 'file://nas/data/lake', but a file: URI names a folder of")


def test_the_files_in_conf_say_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    assert load_config("conf/local.toml", {}) == Config()


def test_the_file_in_conf_mentions_every_key() -> None:
    text = (CHECKOUT / "conf/local.toml").read_text()

    def keys(model) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            found += keys(field.annotation) if hasattr(field.annotation, "model_fields") else [name]
        return found

    missing = [key for key in keys(Config) if f"\n{key} =" not in text and f"# {key} =" not in text]
    # Tables of free entries are sections.
    assert [key for key in missing if f".{key}]" not in text] == []


def test_every_key_is_explained() -> None:
    def unexplained(model, above: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if not field.description:
                found.append(above + name)
            if hasattr(field.annotation, "model_fields"):
                found += unexplained(field.annotation, f"{above}{name}.")
        return found

    assert unexplained(Config, "") == []


def test_the_environment_overrides_the_file(conf) -> None:
    env = {
        "REELHOUSE_STORAGE__ROOT": "elsewhere",
        "REELHOUSE_KAFKA__PARTITIONS": "7",
        "REELHOUSE_KAFKA__TOPICS__USER_ACTIONS": "plays",
        "REELHOUSE_KAFKA__FAIL_ON_DATA_LOSS": "false",
        "REELHOUSE_KAFKA__OPTIONS": '{"security.protocol": "SSL"}',
        "REELHOUSE_JARS": "not a key",
        "PATH": "/bin",
    }
    config = load_config(conf('storage.root = "file"\n[kafka.topics]\ncontent_uploads = "uploads"'), env)
    assert config.storage.root == "elsewhere"
    assert config.kafka.partitions == 7
    assert config.kafka.topics.user_actions == "plays"
    assert config.kafka.topics.content_uploads == "uploads"
    assert config.kafka.fail_on_data_loss is False
    assert config.kafka.options == {"security.protocol": "SSL"}


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("[kafka]\nbootstrap_server = 'x:1'", "kafka.bootstrap_server", "kafka.bootstrap_servers"),
        ("[kafka.topics]\nuser_action = 'x'", "kafka.topics.user_action", "kafka.topics.user_actions"),
        ("[storrage]\nroot = 'x'", "storrage", "storage"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_name(conf, text, unknown, nearest) -> None:
    error = refusal(conf(text), {})
    assert error.code == "unknown_key"
    assert error.exit_code == 2
    assert str(error) == f"unknown key {unknown} in x.toml; did you mean {nearest}?"


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("REELHOUSE_KAFKA__BOOTSTRAP_SERVER", "REELHOUSE_KAFKA__BOOTSTRAP_SERVERS"),
        ("REELHOUSE_STORAGE_ROOT", "REELHOUSE_STORAGE__ROOT"),
    ],
)
def test_a_mistyped_variable_is_refused_with_the_nearest_name(conf, variable, nearest) -> None:
    error = refusal(None, {variable: "x"})
    assert error.code == "unknown_key"
    assert variable in str(error)
    assert f"did you mean {nearest}?" in str(error)


def test_a_wrong_type_names_the_key_and_both_places(conf) -> None:
    error = refusal(conf("kafka.partitions = 'many'"), {})
    assert error.code == "wrong_value"
    assert "kafka.partitions is 'many'" in str(error)
    assert "x.toml" in str(error)
    assert "REELHOUSE_KAFKA__PARTITIONS" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("kafka = 1", "kafka"),
        ("kafka.partitions = 0", "kafka.partitions"),
        ("broker.port = 70000", "broker.port"),
        ("limits.earliest_timestamp = '2000-01-01T00:00:00'", "limits.earliest_timestamp"),
        ("limits.earliest_timestamp = 'yesterday'", "limits.earliest_timestamp"),
        ("limits.earliest_timestamp = '2000-01-01T00:00Z'", "limits.earliest_timestamp"),
        ("spark.conf = {a = 1}", "spark.conf.a"),
        ("broker.heap = 'much'", "broker.heap"),
    ],
)
def test_a_value_out_of_bounds_names_its_key(conf, text, key) -> None:
    error = refusal(conf(text), {})
    assert error.code == "wrong_value"
    assert str(error).startswith(f"{key} is ")


@pytest.mark.parametrize(
    ("text", "key", "other"),
    [
        ("content_uploads = 'x'\nsystem_events = 'x'", "system_events", "content_uploads"),
        ("user_actions = 'media.content-uploads'", "content_uploads", "user_actions"),
        ("notifications = 'media.user-actions'", "notifications", "user_actions"),
    ],
)
def test_two_topics_of_one_name_are_refused(conf, text, key, other) -> None:
    error = refusal(conf(f"[kafka.topics]\n{text}"), {})
    assert error.code == "wrong_value"
    assert str(error).startswith(f"kafka.topics.{key} is ")
    assert f"but kafka.topics.{other} has this name, too" in str(error)
    assert "kafka.subscribe_pattern" in str(error)
    assert f"x.toml or by REELHOUSE_KAFKA__TOPICS__{key.upper()}" in str(error)


@pytest.mark.parametrize(
    ("text", "env", "told"),
    [
        (
            "[kafka.options]\nsasl.username = 'u'\nsasl.password = 'hunter2'",
            {},
            "kafka.options.sasl is a table, but it should be a valid string; "
            'quote the key ("sasl.username" = …) in x.toml or by REELHOUSE_KAFKA__OPTIONS',
        ),
        (
            "",
            {"REELHOUSE_KAFKA__OPTIONS": '{"sasl.password": 20260105}'},
            "kafka.options.sasl.password is a number, but it should be a valid string; "
            "correct it in x.toml or by REELHOUSE_KAFKA__OPTIONS",
        ),
        (
            "registry.password = 20260105",
            {},
            "registry.password is a number, but it should be a valid string; "
            "correct it in x.toml or by REELHOUSE_REGISTRY__PASSWORD",
        ),
        (
            "registry = 'hunter2'",
            {},
            "registry is a text, but it should be a valid dictionary or instance of Registry; "
            "correct it in x.toml",
        ),
        (
            "catalog.url = 'jdbc:mysql://h/n?password=hunter2'",
            {},
            "catalog.url is a text, but string should match pattern '^jdbc:(postgresql|derby):'; "
            "correct it in x.toml or by REELHOUSE_CATALOG__URL",
        ),
        (
            "[spark.conf]\nspark.hadoop.fs.s3a.secret.key = 'hunter2'",
            {},
            "spark.conf.spark is a table, but it should be a valid string; "
            'quote the key ("spark.hadoop.fs.s3a.secret.key" = …) in x.toml or by REELHOUSE_SPARK__CONF',
        ),
    ],
)
def test_what_may_be_a_password_is_not_shown(conf, text, env, told) -> None:
    assert str(refusal(conf(text), env)) == told


def test_a_scalar_where_a_section_belongs_is_refused_under_an_override_too(conf) -> None:
    assert refusal(conf("kafka = 1"), {"REELHOUSE_KAFKA__PARTITIONS": "2"}).code == "wrong_value"


def test_options_that_are_no_json_object_are_refused(conf) -> None:
    assert refusal(None, {"REELHOUSE_KAFKA__OPTIONS": "ssl"}).code == "wrong_value"


def test_a_missing_file_is_a_usage_error(conf) -> None:
    error = refusal("nowhere.toml", {})
    assert (error.code, "nowhere.toml" in str(error)) == ("config_missing", True)


def test_broken_toml_names_the_file(conf) -> None:
    error = refusal(conf("kafka = ["), {})
    assert (error.code, "x.toml" in str(error)) == ("config_syntax", True)
