"""Each data set's spelling of a projection gives one of the five positions, and an unknown one gives none."""

import pytest

from r2gen.data.positions import position_of
from r2gen.data.reports import POSITIONS

SPELLINGS = {
    "PA": ["PA", "pa", " Pa ", "POSTEROANTERIOR", "postero-anterior", "posterior anterior", "PA LLD", "Chest PA view"],
    "AP": ["AP", "AP_horizontal", "anteroposterior", "Antero-Posterior", "AP AXIAL", "PORTABLE AP", "frontal AP"],
    "FRONTAL": ["Frontal", "FRONTAL", "frontal view", "AP/PA"],
    "LATERAL": ["Lateral", "LL", "L", "RL", "left lateral", "XTABLE LATERAL", "LAT", "lateral_view"],
    "OTHER": ["OTHER", "LAO", "RAO", "oblique", "SWIMMERS", "COSTAL", "left lateral decubitus", "LLD"],
    "": ["", "UNK", "EXCLUDE", "chest", "PA and lateral", "frontal/lateral", "nan", "1"],
}


@pytest.mark.parametrize("position", SPELLINGS)
def test_spellings_of_data_sets_give_their_position(position: str) -> None:
    assert {spelling: position_of(spelling) for spelling in SPELLINGS[position]} == dict.fromkeys(
        SPELLINGS[position], position
    )


def test_a_position_gives_itself() -> None:
    assert tuple(position_of(position) for position in POSITIONS) == POSITIONS
