"""A GPU is leased to one job at a time, and a lease ends with that job."""

import subprocess
import sys
from pathlib import Path

from r2gen.sweeps.leases import Gpu, Leases, visible_among

LISTED = "0, GPU-aa\n1, GPU-bb\n2, GPU-cc\n"
GPUS = [Gpu("0", "GPU-aa"), Gpu("1", "GPU-bb"), Gpu("2", "GPU-cc")]


def test_leases_follow_cuda_visible_devices():
    assert visible_among(LISTED, None) == GPUS
    assert visible_among(LISTED, "2,0") == [GPUS[2], GPUS[0]]
    assert visible_among(LISTED, "GPU-b") == [Gpu("GPU-b", "GPU-bb")]
    assert visible_among(LISTED, "1,7,0") == [GPUS[1]], "CUDA ignores everything after an unknown name"
    assert visible_among(LISTED, "") == []


def test_two_sweeps_share_the_gpus(tmp_path: Path):
    here, there = Leases(GPUS, tmp_path), Leases([Gpu("GPU-bb", "GPU-bb"), GPUS[2]], tmp_path)
    pair = here.take(2)
    assert pair.names == ["0", "1"]
    assert there.take(2) is None, "one of its two GPUs is leased"
    last = there.take(1)
    assert last.names == ["2"]
    assert here.take(1) is None
    last.leave_to_job()  # no job has inherited it, so it is free
    assert here.take(1).names == ["2"]


def test_a_lease_ends_when_its_job_is_killed(tmp_path: Path):
    leases = Leases(GPUS[:1], tmp_path)
    lease = leases.take(1)
    job = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=lease.numbers)
    lease.leave_to_job()
    assert leases.take(1) is None, "the job holds it"
    job.kill()
    job.communicate()
    assert leases.take(1).names == ["0"]
