"""What a prompt costs: CPU, memory and disk, for the tables of docs/operations.md.

One daemon passes PROMPTS prompts on, with a model and a target that answer at once; another one
keeps them, as its model can't be reached. Their log, at `info`, goes to a file.

    python benchmarks/sizing.py [--prompts 5000] [--bytes 1000] [--callers 32]
"""

import argparse
import asyncio
import multiprocessing
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from daemon import serve
from programs import Program


class Daemon(Program):
    """A daemon, with what its journal's files tell."""

    def __init__(self, folder: Path, model: int, target: int) -> None:
        super().__init__("daemon", folder, model, target)
        self.journal = folder / "journal.sqlite"

    def disk(self) -> int:
        """Bytes of the journal's files."""
        return sum(path.stat().st_size for path in self.journal.parent.glob("journal.sqlite*"))

    def count(self, state: str) -> int:
        with closing(sqlite3.connect(f"{self.journal.as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT n FROM counts WHERE state = ?", (state,)).fetchone()[0])


async def send(port: int, prompts: int, size: int, callers: int) -> None:
    """Send prompts from some connections at once, each waiting for its 202s."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

    async def caller(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 202"), head
            await reader.readuntil(b"}")
        writer.close()

    await asyncio.gather(*(caller(prompts // callers) for _ in range(callers)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--prompts", type=int, default=5000)
    options.add_argument("--bytes", type=int, default=1000, help="of each prompt's text")
    options.add_argument("--callers", type=int, default=32)
    given = options.parse_args()
    sent = given.prompts // given.callers * given.callers
    ports: Any = multiprocessing.Queue()
    multiprocessing.Process(target=serve, args=(ports,), daemon=True).start()
    model, target, _ = ports.get(timeout=30)
    with tempfile.TemporaryDirectory() as folder:
        passing = Daemon(Path(folder) / "passing", model, target)
        idle = passing.memory()
        time.sleep(10)
        rested, cpu, began = passing.cpu(), passing.cpu(), time.perf_counter()
        time.sleep(10)
        rest = (passing.cpu() - rested) / (time.perf_counter() - began)
        cpu, began = passing.cpu(), time.perf_counter()
        asyncio.run(send(passing.port, sent, given.bytes, given.callers))
        taken = time.perf_counter() - began
        while passing.count("delivered") < sent:
            time.sleep(0.05)
        whole = time.perf_counter() - began
        print(f"idle: {idle:.0f} MiB, {rest * 100:.2f} % of a core")
        print(f"accepted: {sent / taken:.0f}/s, accepted to delivered: {sent / whole:.0f}/s")
        print(f"CPU a prompt: {(passing.cpu() - cpu) / sent * 1e3:.2f} ms")
        print(f"memory after {sent} prompts: {passing.memory():.0f} MiB")
        print(f"log: {passing.log.stat().st_size / sent:.0f} bytes a prompt")
        passing.stop()
        print(f"journal, delivered: {passing.disk() / sent:.0f} bytes a prompt")

        keeping = Daemon(Path(folder) / "keeping", 1, target)
        asyncio.run(send(keeping.port, sent, given.bytes, given.callers))
        time.sleep(3)
        print(f"memory with {sent} waiting: {keeping.memory():.0f} MiB")
        began = time.perf_counter()
        copy = keeping.journal.with_name("copy.sqlite")
        with closing(sqlite3.connect(keeping.journal)) as db:
            db.execute("VACUUM INTO ?", (str(copy),))
        took = time.perf_counter() - began
        print(f"backup while it runs: {copy.stat().st_size / took / 2**20:.0f} MiB/s")
        keeping.stop()
        print(f"journal, waiting: {keeping.disk() / sent:.0f} bytes a prompt")


if __name__ == "__main__":
    main()
