"""Secrets of the environment that an option holds are refused."""

import re
from collections.abc import Mapping
from typing import Any

from r2gen.config.plain import flat
from r2gen.errors import UserError

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
SHORTEST_SECRET = 12  # a shorter value may be any word


def refuse_secrets(config: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Raise UserError where an option holds a token or password of the environment: config.yaml keeps options."""
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
