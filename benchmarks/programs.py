"""The programs that are measured: the daemon of a checkout, and its rivals, each in a process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon import answers, free_port
from peers import Peers

ROOT = Path(__file__).parent.parent
RIVALS = {"relay": "rivals/relay.py", "fastapi": "rivals/fastapi_relay.py"}
TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """A program in a process of its own, and what the kernel knows of it.

    Args:
        name: `daemon`, one of `RIVALS`, or the path of another checkout.
        folder: A new folder for its files.
        peers: Whom it calls.
        calls: How many calls it may make at once.
        settings: Further settings of a daemon.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        peers: Peers,
        calls: int,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir()
        self.port = free_port()
        model, sink = f"http://127.0.0.1:{peers.model}/v1", f"http://127.0.0.1:{peers.sink}/"
        environ = dict(os.environ)
        if name in RIVALS:
            program = [sys.executable, str(ROOT / "benchmarks" / RIVALS[name])]
            program += [str(self.port), f"{model}/chat/completions", sink, str(calls)]
        else:
            config = {
                "target": sink,
                "token": "x",
                "base_url": model,
                "listen": f"tcp:{self.port}:interface=127.0.0.1:backlog=1024",
                "everyday_limit": 10**9,
                "max_backlog": 10**8,
                "concurrency": calls,
                **(settings or {}),
            }
            (folder / "config.yml").write_text(json.dumps(config))
            environ["CONNECTOR_CONFIG"] = str(folder / "config.yml")
            environ["PYTHONPATH"] = str(ROOT if name == "daemon" else Path(name).resolve())
            program = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
            program += ["--logger=chatgpt_source.log.stdout", "chatgpt-source"]
        began = time.perf_counter()
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                program, cwd=folder, env=environ, stdout=log, stderr=log
            )
        while not answers(self.port):
            if self.process.poll() is not None:
                raise RuntimeError((folder / "log").read_text()[-2000:])
            time.sleep(0.005)
        self.start_seconds = time.perf_counter() - began

    def cpu(self) -> float:
        """Seconds of CPU so far, of all its threads, in user and system mode."""
        return cpu_of(self.process.pid)

    def memory(self, kind: str = "VmHWM") -> float:
        """Resident memory in MiB: the highest so far, or with `VmRSS` that of now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{kind}:")[1].split()[0]) / 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
