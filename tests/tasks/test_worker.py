"""A message that every rank has is printed once a command."""

from pathlib import Path

from r2gen.runs.folder import RunFolder
from r2gen.tasks import worker


def test_what_every_rank_meets_is_said_once_a_command(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for _ in range(2):
        folder.lock()
        said = [worker.is_first_to_say({"run_dir": str(tmp_path)}, why) for why in ("one", "one", "two", "one")]
        assert said == [True, False, True, False]
        folder.unlock()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
