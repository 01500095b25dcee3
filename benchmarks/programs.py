"""The programs that are measured: the daemon of a checkout, and its rivals, each in a process."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from peers import Peers

ROOT = Path(__file__).parent.parent
RIVALS = {"relay": "rivals/relay.py", "fastapi": "rivals/fastapi_relay.py"}
TICKS = os.sysconf("SC_CLK_TCK")
QUIET = {"log_config": {"log_level": "error"}}
"""Settings of a daemon that logs errors alone."""
os.environ["no_proxy"] = "*"  # for us and all that we start: all of it is on this machine


class Program:
    """A program in a process of its own, and what the kernel knows of it.

    Args:
        name: `daemon`, one of `RIVALS`, or the path of another checkout.
        folder: A new folder for its files.
        model: The port of the model that it calls.
        sink: The port that gets its events.
        calls: How many calls it may make at once.
        settings: Further settings of a daemon.
        ports: Its port, and the port whose answer says that it has started; else one that is free.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        model: int,
        sink: int,
        calls: int = 64,
        settings: Mapping[str, Any] | None = None,
        ports: tuple[int, int] | None = None,
    ) -> None:
        folder.mkdir()
        self.port, probed = ports or (free_port(),) * 2
        self.log = folder / "log"
        base_url, target = f"http://127.0.0.1:{model}/v1", f"http://127.0.0.1:{sink}/"
        environ = dict(os.environ)
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed release is compiled, too
        if name in RIVALS:
            program = [sys.executable, str(ROOT / "benchmarks" / RIVALS[name])]
            program += [str(self.port), f"{base_url}/chat/completions", target, str(calls)]
        else:
            config = {
                "target": target,
                "token": "x",
                "base_url": base_url,
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
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                program, cwd=folder, env=environ, stdout=log, stderr=log
            )
        while not answers(probed):
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text()[-2000:])
            time.sleep(0.005)
        self.start_seconds = time.perf_counter() - began

    def cpu(self) -> float:
        """Seconds of CPU so far, of all its threads, in user and system mode."""
        return cpu_of(self.process.pid)

    def memory(self) -> float:
        """Resident memory in MiB."""
        return memory_of(self.process.pid)

    def peak_memory(self) -> float:
        """The highest resident memory so far, in MiB."""
        return memory_of(self.process.pid, "VmHWM")

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid: int, kind: str = "VmRSS") -> float:
    """Resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


def free_port() -> int:
    """A port nobody listens on, below those that the kernel hands out meanwhile."""
    while True:
        port = random.randrange(15000, 31000)
        with socket.socket() as candidate:
            if candidate.connect_ex(("127.0.0.1", port)) != 0:
                return port


def answers(port: int) -> bool:
    """Whether something speaks HTTP at a port."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@asynccontextmanager
async def running(
    name: str, calls: int, latency: float = 0.0, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[tuple[Program, Peers]]:
    """A program with its peers."""
    peers = Peers(latency)
    await peers.start()
    with tempfile.TemporaryDirectory() as folder:
        program = await asyncio.to_thread(
            Program, name, Path(folder) / "run", peers.model, peers.sink, calls, settings
        )
        try:
            yield program, peers
        finally:
            await asyncio.to_thread(program.stop)
            peers.stop()


def cpu_of_all(parent: int) -> float:
    """Seconds of CPU of a process and of its children, those that have ended too."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue  # it has ended
        fields = rest.split()
        if int(name.split()[0]) == parent:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == parent:
            ticks += sum(map(int, fields[11:13]))
    return ticks / TICKS
