"""A message that every rank has is printed once per command."""

from pathlib import Path

from r2gen.runs.folder import RunFolder
from r2gen.tasks import worker


def test_a_message_of_every_rank_is_printed_once_per_command(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for _ in range(2):
        folder.lock()
        first = [worker.is_first_to_print(tmp_path, message) for message in ("one", "one", "two", "one")]
        assert first == [True, False, True, False]
        folder.unlock()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
