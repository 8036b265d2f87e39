"""task=demo: serve a page that writes reports for images, on this machine only unless demo.host says otherwise.

    python run.py task=demo run_dir=DIR ['runs=[OTHER]']

docs/demo.md describes it. Nothing is sent anywhere, and the page loads nothing from the network.
"""

import threading
from pathlib import Path

import torch
import uvicorn

from r2gen.config.schema import Config
from r2gen.launch.listening import LOOPBACK, listen
from r2gen.ranks.stop import StopRequest
from r2gen.runs.files import absolute
from r2gen.tasks.demo.app import Demo, Writer
from r2gen.tasks.demo.nearest import TrainingReports
from r2gen.trained_run import TrainedRun, load_run

GRACE_S = 5  # for a report that is being written when the demo ends


def demo(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Serve the page until a signal ends it."""
    with listen(config.demo.host, config.demo.port) as listener:
        host, port = listener.getsockname()[:2]
        writers = [Writer(config.folder.name, TrainedRun(config, device=device, warm_up=True))]
        for other in config.runs:
            run_dir = Path(absolute(other))
            writers.append(Writer(run_dir.name, load_run(run_dir, device=device.type)))
        served = Demo(
            writers,
            training=TrainingReports(config),
            uploads=config.folder,
            most_bytes=config.demo.max_mib * 2**20,
            address=f"http://{host}:{port}",
            is_local=host in LOOPBACK,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                served.app(), log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_S
            )
        )
        # In a thread, where uvicorn leaves the signals alone: they are StopRequest's.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        print(f"demo: http://{host}:{port} (not for diagnosis; Ctrl-C ends it)", flush=True)
        if host not in LOOPBACK:
            print(f"demo.host={host}: whoever reaches this machine can send images and read reports", flush=True)
        while thread.is_alive() and not stop.requested:
            thread.join(0.2)
        server.should_exit = True
        thread.join(2 * GRACE_S)
