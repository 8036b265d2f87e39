"""Whatever is typed or written into a configuration is accepted, or refused in words."""

from typing import Any

import broken_configurations as broken
import pytest
import random_configurations as drawn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st


def some(examples: int) -> settings:
    """The same examples every time; what fails is printed, not made smaller: each takes a hundredth of a second."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )


@pytest.fixture(scope="module", autouse=True)
def _at_work():
    drawn.STRIDE = 7  # composing takes most of the time
    with broken.at_work():
        yield


@some(200)
@given(command=st.deferred(drawn.commands), build=st.integers(0, 9))
def test_a_command_is_accepted_or_refused_in_words(command: drawn.Command, build: int):
    broken.check_command(command, build=build == 0)


@some(300)
@given(plain=st.deferred(drawn.edited), build=st.integers(0, 9))
def test_a_configuration_from_a_file_is_accepted_or_refused_in_words(plain: dict[str, Any], build: int):
    broken.check_edited(plain, build=build == 0)
