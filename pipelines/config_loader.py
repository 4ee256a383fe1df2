"""From a TOML file and the environment to a `Config`, with sentences for what is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.config import Config
from pipelines.errors import UsageError
from pipelines.text import nearest, shortened

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = "conf/local.toml"
_PREFIX = "REELHOUSE_"
_Key = tuple[str, ...]
# Their values may be passwords, which no error tells.
_SECRET_SECTIONS = frozenset({"registry", "catalog"})
_SECRET_TABLES = frozenset({("kafka", "options"), ("spark", "conf")})
_KINDS: dict[type, str] = {
    **{str: "a text", bool: "true or false", int: "a number", float: "a number"},
    **{Mapping: "a table", list: "a list"},
}


def load(path: str | None, env: Mapping[str, str] | None = None) -> Config:
    """Read `path` (None: conf/local.toml if it exists), lay the environment over it, and validate.

    Raises UsageError for a missing or broken file, an unknown key, or a value of the wrong type.
    """
    source = path or (DEFAULT_FILE if Path(DEFAULT_FILE).is_file() else None)
    values = _read_toml(source) if source else {}
    keys = _known_keys()
    _refuse_unknown_keys(values, keys, source or "")
    for key, text in _from_environment(os.environ if env is None else env, keys):
        _put(values, key, text)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _wrong_value(error.errors()[0], source, keys) from None


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        message = f"the configuration file {path} does not exist; correct --conf, or leave it out"
        raise UsageError(f"{message} to use {DEFAULT_FILE}", code="config_missing") from None
    except OSError as error:
        message = f"the configuration file {path} cannot be read ({error.strerror}); check its permissions"
        raise UsageError(message, code="config_unreadable") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"the configuration file {path} is not valid TOML: {error}; correct it there"
        raise UsageError(message, code="config_syntax") from None


def _known_keys() -> dict[_Key, bool]:
    """Every key of Config, sections included; the value says whether it is a table of free entries."""
    return dict(_walk(Config, ()))


def _walk(model: type[BaseModel], above: _Key) -> Iterator[tuple[_Key, bool]]:
    for name, field in model.model_fields.items():
        key = (*above, name)
        yield key, get_origin(field.annotation) is dict
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, key)


def _refuse_unknown_keys(values: Mapping[str, Any], keys: dict[_Key, bool], source: str) -> None:
    for key in _keys_of(values, (), keys):
        if key not in keys:
            known = {".".join(k): k for k in keys}
            name, hint = ".".join(key), nearest(".".join(key), known)
            raise UsageError(f"unknown key {name} in {source}; {hint}", code="unknown_key")


def _keys_of(values: Mapping[str, Any], above: _Key, keys: dict[_Key, bool]) -> Iterator[_Key]:
    for name, value in values.items():
        key = (*above, name)
        yield key
        if isinstance(value, Mapping) and not keys.get(key, False):
            yield from _keys_of(value, key, keys)


def _from_environment(env: Mapping[str, str], keys: dict[_Key, bool]) -> Iterator[tuple[_Key, Any]]:
    """The keys that the environment sets. Raises UsageError for a name that no key has."""
    names = {_PREFIX + "__".join(key).upper(): key for key in keys}
    mistyped = {name.replace("__", "_"): name for name in names if "__" in name}
    for name, text in sorted(env.items()):
        if not name.startswith(_PREFIX):
            continue
        if name in mistyped:
            message = f"the environment variable {name} sets nothing; did you mean {mistyped[name]}?"
            raise UsageError(message, code="unknown_key")
        if "__" not in name:
            continue  # not a key: REELHOUSE_JARS and the like
        if name not in names:
            hint = nearest(name, [n for n in names if "__" in n])
            raise UsageError(f"the environment variable {name} names no key; {hint}", code="unknown_key")
        yield names[name], _parse(name, text, keys[names[name]])


def _parse(name: str, text: str, is_table: bool) -> Any:
    """A scalar stays text, which the model converts; a table of entries is written as a JSON object."""
    if not is_table:
        return text
    try:
        return json.loads(text)
    except ValueError:
        message = f'{name} must be a JSON object such as {{"security.protocol": "SSL"}}'
        raise UsageError(message, code="wrong_value") from None


def _put(values: dict[str, Any], key: _Key, value: Any) -> None:
    for name in key[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # the file gives a scalar for a section: validation says so
        values = inner
    values[key[-1]] = value


def _wrong_value(error: ErrorDetails, source: str | None, keys: dict[_Key, bool]) -> UsageError:
    key, value = tuple(str(part) for part in error["loc"]), error["input"]
    reason = error["msg"].replace("Input should be", "it should be").replace("Value error, ", "")
    name, variable = ".".join(key), _variable(key, keys)
    where = f"in {source or DEFAULT_FILE}" + (f" or by {variable}" if variable else "")
    advice = f"quote the key ({_quoted(key, value)})" if _is_split(key, value, keys) else "correct it"
    message = f"{name} is {_shown(key, value)}, but {_lower(reason)}; {advice} {where}"
    return UsageError(message, code="wrong_value")


def _variable(key: _Key, keys: dict[_Key, bool]) -> str | None:
    """The variable that sets the key, or the table of free entries that it is in; None for a section."""
    entries = next((k for k, is_table in keys.items() if is_table and key[: len(k)] == k), key)
    is_section = any(k != entries and k[: len(entries)] == entries for k in keys)
    return None if is_section else _PREFIX + "__".join(entries).upper()


def _is_split(key: _Key, value: object, keys: dict[_Key, bool]) -> bool:
    """Whether this is an entry of a table whose name has dots: TOML makes tables of what is not quoted."""
    return isinstance(value, Mapping) and bool(value) and keys.get(key[:-1], False)


def _quoted(key: _Key, value: Any) -> str:
    """`"sasl.password" = …` for the entry `sasl` that is a table of `password`."""
    names = [key[-1]]
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        names.append(name)
    return f'"{".".join(names)}" = …'


def _shown(key: _Key, value: object) -> str:
    """The value; its type where it may be a password."""
    if key[0] in _SECRET_SECTIONS or key[:2] in _SECRET_TABLES:
        return next((name for kind, name in _KINDS.items() if isinstance(value, kind)), type(value).__name__)
    return shortened(repr(value), 60)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
