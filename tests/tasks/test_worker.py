"""A message that every rank has is printed once per command."""

from dataclasses import replace
from pathlib import Path

from composed import composed

from r2gen.runs.folder import RunFolder
from r2gen.tasks import worker


def test_a_message_of_every_rank_is_printed_once_per_command(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for _ in range(2):
        folder.lock()
        config = replace(composed(), run_dir=str(tmp_path))
        first = [worker.is_first_to_print(config, message) for message in ("one", "one", "two", "one")]
        assert first == [True, False, True, False]
        folder.unlock()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
