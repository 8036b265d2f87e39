"""Tokens and passwords of the environment are refused as values of options, since config.yaml keeps those."""

import re
from collections.abc import Mapping

from r2gen.config.plain import Plain, flat
from r2gen.errors import UserError

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
SHORTEST_SECRET = 12  # a shorter value may be any word


def refuse_secrets(config: Plain, environment: Mapping[str, str]) -> None:
    """Raise UserError where an option holds a token or password of the environment."""
    secrets = {
        name: value for name, value in environment.items() if SECRET.search(name) and len(value) >= SHORTEST_SECRET
    }
    for name, value in flat(config):
        for variable, secret in secrets.items():
            if secret in str(value):
                raise UserError(
                    f"{name} holds the value of ${variable}, which config.yaml and run.json would keep: "
                    f"leave it out; libraries read {variable} themselves"
                )
