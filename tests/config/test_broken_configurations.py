"""Any command and any configuration file is accepted, or refused with a message."""

import os
from collections.abc import Iterator
from typing import Any

import broken_configurations as broken
import pytest
import random_configurations as drawn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scored_run import composed

from r2gen.config.read import read_config
from r2gen.errors import UserError

MANY = int(os.environ.get("R2GEN_EXAMPLES", "100"))


def examples(number: int, *, same: bool) -> settings:
    """So many examples, the same in each run or new ones; one that fails is shown as it is: shrinking takes minutes."""
    return settings(
        max_examples=number,
        derandomize=same,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )


@pytest.fixture(scope="module", autouse=True)
def nothing_starts() -> Iterator[None]:
    drawn.STRIDE = 7  # composing takes most of the time
    with broken.nothing_starts():
        yield


def check_command(command: drawn.Command, build: int) -> None:
    broken.check_command(command, build=build == 0)


def check_edited(plain: dict[str, Any], build: int) -> None:
    broken.check_edited(plain, build=build == 0)


commands = given(command=st.deferred(drawn.commands), build=st.integers(0, 9))
edited = given(plain=st.deferred(drawn.edited), build=st.integers(0, 9))


@examples(50, same=True)
@commands
def test_a_command_is_accepted_or_refused_with_a_message(command: drawn.Command, build: int) -> None:
    check_command(command, build)


@examples(100, same=True)
@edited
def test_a_configuration_file_is_accepted_or_refused_with_a_message(plain: dict[str, Any], build: int) -> None:
    check_edited(plain, build)


@pytest.mark.slow
@examples(MANY, same=False)
@commands
def test_many_commands_are_accepted_or_refused_with_a_message(command: drawn.Command, build: int) -> None:
    check_command(command, build)


@pytest.mark.slow
@examples(MANY, same=False)
@edited
def test_many_configuration_files_are_accepted_or_refused_with_a_message(plain: dict[str, Any], build: int) -> None:
    check_edited(plain, build)


@pytest.mark.parametrize("group", ["context", "trainer", "prepare", "lm"])
def test_a_group_of_options_cannot_be_null(group: str) -> None:
    plain = {name: value for name, value in composed("linear").items() if name != "choices"}
    with pytest.raises(UserError, match=f"{group}=null: this is a group of options"):
        read_config({**plain, group: None}, {})
