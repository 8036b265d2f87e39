"""Tokens and passwords of the environment are refused in a command and its YAML, which run folders and sweeps keep."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r2gen.config.overrides import option_name
from r2gen.config.plain import Plain, flat
from r2gen.errors import UserError

# Names of variables that hold a secret. TOKENIZERS_PARALLELISM, PWD and OLDPWD do not.
SECRET = re.compile(
    r"TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|CREDENTIAL|KEY$|PASS$|[A-Z0-9]_PWD|"
    r"(^|_)(KEY|PASS|PAT|AUTH|BEARER|COOKIE|CREDS?|JWT)(_|$)",
    re.IGNORECASE,
)
LOCATION = re.compile(r"_(PATH|FILE|DIR|FOLDER|HOME|SOCK|ID|NAME|USER|HOST|PORT)$", re.IGNORECASE)
IN_ADDRESS = re.compile(r"://[^/\s:@]*:([^@/\s]+)@")  # scheme://user:password@host, in any variable
READ_FROM = re.compile(r"oc\.env:\s*['\"]?(\w+)")
SHORTEST_PART, SHORTEST = 8, 6  # a shorter value may be part of a word, or any word


class SecretError(UserError):
    """A secret in a command or its YAML. A sweep ends with it: its files would keep the job's overrides."""


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets of the environment, by the name of the variable."""
    secrets = {}
    for name, value in environment.items():
        in_address = IN_ADDRESS.search(value)
        secret = value.strip() if _is_secret(name) else in_address[1] if in_address else ""
        if len(secret) >= SHORTEST:
            secrets[name] = secret
    return secrets


def refuse_secrets(config: Plain, environment: Mapping[str, str]) -> None:
    """Raise SecretError where an option holds a secret, or reads one, as in ${oc.env:HF_TOKEN}."""
    secrets = secrets_of(environment)
    for name, value in flat(config):
        for text in (name, *_texts(value)):
            _refuse(name, text, secrets)


def refuse_secret_words(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise SecretError where a word of a command holds a secret."""
    secrets = secrets_of(environment)
    for word in words:
        name, _, value = word.partition("=")
        if option_name(name).startswith("hydra.job.env_set") and any(map(_is_secret, re.findall(r"\w+", word))):
            raise SecretError("hydra.job.env_set: leave secrets out, and set them in the environment of the command")
        for text in (word, value):
            _refuse(option_name(name), text, secrets)


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """A message with the name of the variable instead of each secret."""
    for variable, secret in secrets_of(environment).items():
        if len(secret) >= SHORTEST_PART:
            text = text.replace(secret, f"${variable}")
    return text


def _refuse(name: str, text: str, secrets: Mapping[str, str]) -> None:
    variable = next((variable for variable, secret in secrets.items() if _holds(text, secret)), None)
    if variable is None:
        variable = next((variable for variable in READ_FROM.findall(text) if variable in secrets), None)
    if variable is not None:
        shown = "a word of the command" if _holds(name, secrets[variable]) else name
        raise SecretError(
            f"{shown} holds the value of ${variable}, which config.yaml and run.json would keep: "
            f"leave it out; libraries read {variable} themselves"
        )


def _holds(text: str, secret: str) -> bool:
    return text == secret or (len(secret) >= SHORTEST_PART and secret in text)


def _is_secret(variable: str) -> bool:
    return bool(SECRET.search(variable)) and not LOCATION.search(variable)


def _texts(value: Any) -> Iterator[str]:
    """The value as text and, of a list, those of its items."""
    yield str(value)
    if isinstance(value, list):
        for item in value:
            for _, inner in flat(item) if isinstance(item, dict) else (("", item),):
                yield from _texts(inner)
