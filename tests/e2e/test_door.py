"""The door of a real daemon: who may send, where, and how much of it one may hold."""

import os
import shutil
import socket
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.trial.unittest import SkipTest

from tests.certificates import Authority
from tests.e2e.processes import LOG_TO_STDOUT, Daemon, DaemonCase, Wire, alive, free_port, until

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntext"
WARNING = "anyone who reaches the prompt port"


def short_folder(case):
    """A folder whose name leaves room for that of a socket."""
    folder = tempfile.mkdtemp()
    case.addCleanup(shutil.rmtree, folder)
    return Path(folder)


class DoorCase(DaemonCase):
    def listening(self, listen, **settings):
        """A daemon that listens where a string says."""
        config = self.config(listen=listen, **settings)
        del config["port"]
        return Daemon(self, config)

    async def begin(self, daemon):
        """Start one that can't be asked in plain HTTP."""
        process = daemon.launch("--nodaemon", "--pidfile=", f"--rundir={daemon.dir}", LOG_TO_STDOUT)
        await until(
            lambda: "the journal is" in process.text or process.status is not None,
            f"a start; it said: {process.text}",
        )
        self.assertIsNone(process.status, process.text)
        return process

    async def accepts(self, where, raw=POST):
        wire = await Wire.connect(where)
        wire.send(raw)
        answer = await wire.answer()
        wire.close()
        self.assertEqual(answer.status, 202, answer.body)
        return answer.json()["id"]


class AuthTests(DoorCase):
    async def test_bearer_and_basic(self):
        folder = short_folder(self)
        (folder / "token").write_text("MARKED-token\n")
        auth = {
            "bearer": [{"file": f"{folder}/token"}],
            "basic": {"ann": "MARKED päss"},
        }
        daemon = self.daemon(auth=auth)
        await daemon.start()
        bearer = {"Authorization": "Bearer MARKED-token"}
        basic = {"Authorization": "Basic " + b64encode("ann:MARKED päss".encode()).decode()}
        prompt_id = await daemon.accepted("text", bearer)
        await daemon.accepted("text", basic)
        for headers in ({}, {"Authorization": "Bearer MARKED-other"}):
            answer = await daemon.post("text", headers)
            self.assertNotIn("MARKED", self.assert_problem(answer, 401))
            challenges = answer.headers.getRawHeaders("www-authenticate")
            self.assertEqual([line.split()[0] for line in challenges], ["Bearer", "Basic"])
            self.assertEqual((await daemon.get(f"/prompts/{prompt_id}")).status, 401)
        self.assertEqual((await daemon.get("/readyz")).status, 200)
        (folder / "token").write_text("MARKED-newer\n")
        self.assertEqual((await daemon.post("text", bearer)).status, 401)
        await daemon.accepted("text", {"Authorization": "Bearer MARKED-newer"})
        await until(lambda: len(self.target.events) == 3, "the events")
        self.assertNotIn("MARKED", daemon.text)
        self.assertNotIn(WARNING, daemon.text)

    async def test_the_body_of_a_stranger(self):
        daemon = self.daemon(auth={"bearer": ["token"]})
        await daemon.start()
        wire = await Wire.connect(daemon.port)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        wire.send(head + b"\r\n" + b"x" * 999_999)
        wire.send(b"x")
        self.assertEqual((await wire.answer()).status, 401)
        wire.send(head + b"Expect: 100-continue\r\n\r\n")
        self.assertEqual((await wire.answer()).status, 401)
        await until(lambda: wire.closed, "the end of the connection")

    async def test_a_mistake(self):
        daemon = self.daemon(auth={"bearer": "MARKED"})
        for status, said in await daemon.fail_both_ways():
            self.assertEqual((status, said.count("\n")), (1, 1), said)
            self.assertIn("`auth` must be", said)
            self.assertNotIn("MARKED", said)

    async def test_a_warning_where_strangers_may_come(self):
        open_, near = self.daemon(), self.listening(f"tcp:{free_port()}:interface=127.0.0.1")
        near.port = int(near.config_file.read_text().partition("tcp:")[2].partition(":")[0])
        for daemon, times in ((open_, 1), (near, 0)):
            await daemon.start()
            await daemon.stop()
            lines = [line for line in daemon.text.splitlines() if WARNING in line]
            self.assertEqual(len(lines), times, daemon.text)


class ListenTests(DoorCase):
    async def test_tls(self):
        authority = Authority(short_folder(self))
        key, certificate = authority.issue("server")
        port = free_port()
        string = f"ssl:{port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        daemon = self.listening(string)
        await self.begin(daemon)
        await self.accepts(self.tls(authority, port))
        await daemon.stop()
        self.assertNotIn("Traceback", daemon.text)

    async def test_client_certificates(self):
        authority = Authority(short_folder(self))
        other = Authority(short_folder(self), "other")
        key, certificate = authority.issue("server")
        port = free_port()
        daemon = self.listening(
            f"ssl:{port}:privateKey={key}:certKey={certificate}:clientCA={authority.file}"
        )
        await self.begin(daemon)
        self.assertNotIn(WARNING, daemon.text)
        await self.accepts(self.tls(authority, port, authority.issue("caller")))
        for shown in (None, other.issue("stranger")):
            wire = await Wire.connect(self.tls(authority, port, shown))
            wire.send(POST)
            await until(lambda wire=wire: wire.closed, "the end of the connection")
            self.assertEqual(wire.received, b"")
        plain = await Wire.connect(port)
        plain.send(POST)
        await until(lambda: plain.closed, "the end of the connection")
        await self.accepts(self.tls(authority, port, authority.issue("caller")))
        await daemon.stop()
        self.assertNotIn("error", daemon.text.lower())

    def tls(self, authority, port, shown=None):
        trusted = Certificate.loadPEM(authority.file.read_bytes())
        own = shown and PrivateCertificate.loadPEM(b"\n".join(file.read_bytes() for file in shown))
        options = optionsForClientTLS("localhost", trusted, own)
        return wrapClientTLS(options, TCP4ClientEndpoint(reactor, "127.0.0.1", port))

    async def test_unix_socket(self):
        path = short_folder(self) / "socket"
        daemon = self.listening(f"unix:{path}:mode=600")
        await self.begin(daemon)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        await self.accepts(UNIXClientEndpoint(reactor, str(path)))
        for status, said in await self.listening(f"unix:{path}").fail_both_ways():
            self.assertEqual(status, 1)
            self.assertRegex(said, r"\A`listen`[^\n]+another process listens there[^\n]+\n\Z")
        await daemon.kill()
        self.assertTrue(path.exists())
        await self.begin(daemon)
        await self.accepts(UNIXClientEndpoint(reactor, str(path)))
        await daemon.stop()
        self.assertFalse(path.exists())
        self.assertNotIn(WARNING, daemon.text)

    async def test_a_socket_from_systemd(self):
        passed = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(passed.close)
        for name in ("index=0", "name=prompts"):
            config = self.config(listen=f"systemd:domain=INET:{name}")
            del config["port"]
            daemon = Daemon(self, config, inherits=passed)
            daemon.port = passed.getsockname()[1]
            await daemon.start()
            first = await daemon.accepted("text")
            await daemon.stop()
            # Whoever calls meanwhile waits: systemd holds the socket.
            waiting = await Wire.connect(daemon.port)
            waiting.send(POST)
            pid = await daemon.start_daemonised()
            self.assertEqual((await waiting.answer()).status, 202)
            await daemon.reaches(first, "delivered")
            os.kill(pid, 15)
            await until(lambda pid=pid: not alive(pid), "its end")

    async def test_mistakes(self):
        port = free_port()
        with socket.create_server(("127.0.0.1", port)):
            for listen, words in {
                "udp:1": "endpoint string",
                "systemd:domain=INET:index=0": ".socket unit",
                "ssl:1:privateKey=/nonexistent": "No such file",
                f"tcp:{port}:interface=127.0.0.1": f"port {port} can't be listened on",
            }.items():
                for status, said in await self.listening(listen).fail_both_ways():
                    self.assertEqual(status, 1)
                    self.assertRegex(said, r"\A`listen`[^\n]+\n\Z")
                    self.assertIn(words, said)
        for status, said in await self.daemon(listen="tcp:1").fail_both_ways():
            self.assertEqual((status, said.count("\n")), (1, 1), said)
            self.assertIn("beside `port`", said)


class HeldTests(DoorCase):
    def files(self, daemon):
        if not sys.platform.startswith("linux"):
            raise SkipTest("only Linux tells a process's files")
        return len(list(Path(f"/proc/{daemon.process.transport.pid}/fd").iterdir()))

    async def test_more_callers_than_files(self):
        daemon = Daemon(self, self.config(concurrency=10), files=(300, 300))
        await daemon.start()
        room = 300 - 100 - 2 * 10
        wires = []
        for _ in range(6):
            wires += [await Wire.connect(daemon.port) for _ in range(100)]
            await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertLessEqual(self.files(daemon), 300)
        await until(lambda: sum(wire.closed for wire in wires) > 600 - room, "room")
        # The longest idle went, and those that came last are served.
        self.assertTrue(all(wire.closed for wire in wires[:300]))
        wires[-1].send(POST)
        self.assertEqual((await wires[-1].answer()).status, 202)
        await until(lambda: "which is the limit" in daemon.text, "its line in the log")
        self.assertEqual(daemon.text.count("which is the limit"), 1)
        for wire in wires:
            wire.close()

    async def test_callers_that_hang_up_leave_nothing(self):
        daemon = self.daemon()
        await daemon.start()
        before = self.files(daemon)
        for raw in (b"PO", POST[:-1], POST, POST[:-4] + b"x" * 4 + POST, b"nonsense\r\n\r\n"):
            wires = [await Wire.connect(daemon.port) for _ in range(20)]
            for wire in wires:
                wire.send(raw)
            await daemon.get("/healthz")
            for wire in wires:
                wire.close()
        await until(lambda: self.files(daemon) <= before + 4, "the files of before")
        await until(lambda: self.text_without_errors(daemon), "a quiet log")

    def text_without_errors(self, daemon):
        self.assertNotIn("nobody foresaw", daemon.text)
        self.assertNotIn("Traceback", daemon.text)
        return True
