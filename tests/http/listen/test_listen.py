"""Endpoint strings: what is wrong with one is one line, and what is right is listened on."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, cast

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chatgpt_source.http import listen as listening
from chatgpt_source.http.listen import (
    check,
    have_one_port,
    is_exposed,
    listen,
    port_string,
    probe,
)
from chatgpt_source.http.listen.probe import probe_port
from chatgpt_source.http.listen.string import PortUnavailable, parse
from tests.certificates import Authority

NOBODY = cast(Any, Factory.forProtocol(Protocol))
NOBODY.noisy = False


def short_folder(case: SynchronousTestCase) -> Path:
    """A folder whose name leaves room for that of a socket, as trial's does not."""
    folder = tempfile.mkdtemp()
    case.addCleanup(shutil.rmtree, folder)
    return Path(folder)


class ListenTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = short_folder(self)

    def mistake(self, string: str) -> str:
        line = str(self.assertRaises(PortUnavailable, check, string))
        self.assertRegex(line, r"\A`listen`[^\n]+\Z", string)
        later = self.assertRaises(PortUnavailable, listen, MemoryReactor(), string, NOBODY)
        self.assertRegex(str(later), r"\A`listen`[^\n]+\Z", string)
        return line

    def inherit(self, *sockets: socket.socket) -> None:
        """Pass sockets as systemd does."""
        descriptors = [os.dup(each.fileno()) for each in sockets]
        for descriptor in descriptors:
            self.addCleanup(lambda fd=descriptor: os.close(fd))
        passed = ListenFDs(descriptors, [str(number) for number in range(len(sockets))])
        self.patch(endpoints._SystemdParser, "_sddaemon", passed)


class SyntaxTests(ListenTestCase):
    def test_as_twisted_parses(self) -> None:
        for string in (
            "tcp:80",
            "tcp:port=80:interface=127.0.0.1",
            r"tcp:80:interface=\:\:1",
            r"unix:/a\:b\\c:mode=660",
            "a:b=c=d:e",
            r"a:b\=c=d",
            "a::b",
            "a:",
            "",
        ):
            parsed = parse(string)
            positional, named = endpoints._parse(string)
            self.assertEqual([parsed.kind, *parsed.positional], positional, string)
            self.assertEqual(parsed.named, named, string)

    @settings(deadline=None, max_examples=300)
    @given(st.text(":=\\ab0", max_size=20))
    @example("a:b:c=")
    def test_as_twisted_parses_anything(self, string: str) -> None:
        try:
            positional, named = endpoints._parse(string)
        except (RuntimeError, IndexError):  # which is what Twisted has for a last backslash
            return
        parsed = parse(string)
        if "=" not in parsed.kind:  # which is no kind
            self.assertEqual([parsed.kind, *parsed.positional], positional)
            self.assertEqual(parsed.named, named)

    def test_mistakes(self) -> None:
        for string in (
            "8080",
            "tcp",
            "tcp:",
            "tcp:http",
            "tcp:-1",
            "tcp:80:90:100:110",
            "tcp:80:unknown=1",
            "tcp:80:backlog=x",
            "tcp6:x",
            "udp:80",
            "unix",
            "unix:/x:mode=rw",
            "systemd",
            "systemd:domain=INET",
            "systemd:domain=INET:index=0:name=x",
            "tcp:80\\",
            "=",
            "\\",
            ":",
        ):
            self.assertIn("endpoint string", self.mistake(string), string)

    def test_other_mistakes(self) -> None:
        for string, word in {
            "tcp:65536": "65535",
            "unix:": "absolute",
            "unix:relative": "absolute",
            "unix:/" + "x" * 200: "at most 100",
            "ssl:1": "privateKey",
            "ssl:1:privateKey=relative": "absolute",
            "ssl:1:privateKey=/x:sslmethod=SSLv3_METHOD": "ssl:<port>",
            "ssl:1:2:privateKey=/x": "ssl:<port>",
            "ssl:1:privateKey=/nonexistent": "No such file",
            "tls:": "absolute",
            "tls:.:443": "absolute",
            "tls:path=x:port=443": "absolute",
        }.items():
            self.assertIn(word, self.mistake(string), string)

    @settings(deadline=None, max_examples=300)
    @given(
        st.sampled_from(["tcp:", "tcp6:", "unix:", "ssl:", "systemd:", "haproxy:", "tls:", ""]),
        st.text(max_size=20),
    )
    @example("ssl:", "0:backlog=\u0661:privateKey=/x")
    def test_any_string(self, kind: str, rest: str) -> None:
        try:
            check(kind + rest)
        except PortUnavailable as error:
            self.assertEqual(len(str(error).split("\n")), 1)
        is_exposed(kind + rest)


class TakenTests(ListenTestCase):
    """What is not free."""

    def test_a_busy_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            for string in (f"tcp:{port}", f"tcp:{port}:interface=127.0.0.1", f"tcp6:{port}"):
                line = str(self.assertRaises(PortUnavailable, check, string))
                self.assertIn(f"port {port}", line)
                self.assertIn("in use", line)
        check(f"tcp:{port}:interface=127.0.0.1")

    def test_an_interface_that_is_not_ours(self) -> None:
        line = str(self.assertRaises(PortUnavailable, check, "tcp:8080:interface=192.0.2.1"))
        self.assertIn("assign", line)

    def test_sockets_in_the_file_system(self) -> None:
        path = self.folder / "socket"
        check(f"unix:{path}")
        self.assertEqual(list(self.folder.iterdir()), [])
        line = str(self.assertRaises(PortUnavailable, check, f"unix:{self.folder}/deeper/socket"))
        self.assertIn("folder does not exist", line)
        path.write_text("text")
        self.assertIn(
            "not a socket", str(self.assertRaises(PortUnavailable, check, f"unix:{path}"))
        )
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            line = str(self.assertRaises(PortUnavailable, check, f"unix:{path}"))
            self.assertIn("another process", line)
        check(f"unix:{path}")  # left by one that has died
        self.assertTrue(path.exists())

    def test_no_socket_from_systemd(self) -> None:
        for string in ("systemd:domain=INET:index=0", "systemd:domain=INET:name=x"):
            self.assertIn(".socket unit", self.mistake(string))

    def test_a_socket_from_systemd(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as passed, socket.socket() as plain:
            self.inherit(passed, plain)
            for _ in range(2):  # looking does not take it
                check("systemd:domain=INET:index=0")
                check("systemd:domain=INET:name=0")
            line = str(self.assertRaises(PortUnavailable, check, "systemd:domain=INET:index=1"))
            self.assertIn("ListenStream", line)
            self.assertIn("endpoint string", self.mistake("systemd:domain=MARS:index=0"))

    def test_taken_since_it_was_checked(self) -> None:
        class Taken(MemoryReactor):
            def listenTCP(self, *_args: Any, **_options: Any) -> Any:
                raise CannotListenError("::", 1, OSError(98, "Address already in use"))

        error = self.assertRaises(PortUnavailable, listen, Taken(), "tcp:1", NOBODY, "port")
        self.assertEqual(str(error), "`port` can't be listened on: Address already in use")

    def test_not_there_at_once(self) -> None:
        class Never:
            def listen(self, _: object) -> Deferred[Any]:
                return Deferred()

        self.patch(listening, "serverFromString", lambda *_: Never())
        error = self.assertRaises(PortUnavailable, listen, MemoryReactor(), "tcp:1", NOBODY)
        self.assertIn("at once", str(error))


class PortTests(SynchronousTestCase):
    """`port`, at all addresses."""

    def test_without_ipv6(self) -> None:
        tried = []

        def without(_family: Any, interface: str, _port: int) -> str:
            tried.append(interface)
            if interface == "::":
                raise OSError(97, "Address family not supported by protocol")
            return interface

        self.patch(probe, "_probe", without)
        self.assertEqual(probe_port(1), "0.0.0.0")
        self.assertEqual(tried, ["::", "0.0.0.0"])

    def test_a_busy_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            error = self.assertRaises(PortUnavailable, probe_port, port)
        self.assertRegex(str(error), rf"\Aport {port} can't be listened on [^\n]+\Z")
        probe_port(port)

    def test_its_string(self) -> None:
        for interface in ("::", "0.0.0.0", "127.0.0.1"):
            memory = MemoryReactor()
            listen(memory, port_string(8080, interface), NOBODY)
            self.assertEqual(memory.tcpServers, [(8080, NOBODY, 1024, interface)])


class BacklogTests(SynchronousTestCase):
    def test_unless_the_string_says(self) -> None:
        for string, backlog in {
            "tcp:80": 1024,
            "tcp:80:backlog=7": 7,
            "tcp:80:127.0.0.1:7": 7,
            "tcp6:80": 1024,
            "tcp6:80:7": 7,
        }.items():
            memory = MemoryReactor()
            listen(memory, string, NOBODY)
            self.assertEqual(memory.tcpServers[0][2], backlog, string)
        memory = MemoryReactor()
        listen(memory, "unix:/x", NOBODY)
        self.assertEqual(memory.unixServers, [("/x", NOBODY, 1024, 0o666, False)])


class TLSTests(ListenTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.folder)
        self.key, self.certificate = self.authority.issue("server")

    def string(self, **arguments: object) -> str:
        named = {"privateKey": self.key, "certKey": self.certificate, **arguments}
        return "ssl:0:" + ":".join(f"{name}={value}" for name, value in named.items())

    def listening(self, string: str) -> Any:
        memory = MemoryReactor()
        listen(memory, string, NOBODY)
        return memory.sslServers[0]

    def test_listens(self) -> None:
        check(self.string())
        port, factory, options, backlog, interface = self.listening(self.string())
        self.assertEqual((port, factory, backlog, interface), (0, NOBODY, 1024, ""))
        self.assertFalse(options.options.verify)
        more = self.listening(self.string(backlog=5, interface="127.0.0.1"))
        self.assertEqual(more[3:], (5, "127.0.0.1"))

    def test_client_certificates(self) -> None:
        string = self.string(clientCA=self.authority.file)
        check(string)
        options = self.listening(string)[2]
        self.assertTrue(options.options.verify)
        self.assertTrue(options.options.requireCertificate)

    def test_key_and_chain_in_one_file(self) -> None:
        both = self.folder / "both.pem"
        pieces = (self.key, self.certificate, self.authority.file)
        both.write_bytes(b"".join(file.read_bytes() for file in pieces))
        options = self.listening(f"ssl:0:privateKey={both}")[2]
        self.assertEqual(len(options.options.extraCertChain), 1)
        chain = self.string(extraCertChain=self.authority.file)
        self.assertEqual(len(self.listening(chain)[2].options.extraCertChain), 1)

    def test_files_that_will_not_do(self) -> None:
        other, _ = self.authority.issue("other")
        locked, _ = self.authority.issue("locked", b"passphrase")
        text = self.folder / "text"
        text.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
        cut = self.folder / "cut.pem"
        cut.write_bytes(self.certificate.read_bytes() + self.certificate.read_bytes()[:100])
        for arguments, word in (
            ({"certKey": cut}, "certificates in PEM in the file of its certKey"),
            ({"privateKey": other}, "belong together"),
            ({"privateKey": text}, "belong together"),
            ({"privateKey": self.certificate}, "belong together"),
            ({"privateKey": locked}, "passphrase"),
            ({"privateKey": self.folder}, "privateKey (Is a directory"),
            ({"certKey": self.key}, "certificates in PEM in the file of its certKey"),
            ({"certKey": text}, "certKey"),
            ({"clientCA": self.key}, "clientCA"),
            ({"clientCA": "/nonexistent"}, "clientCA (No such file"),
            ({"extraCertChain": text}, "extraCertChain"),
            ({"dhParameters": "/nonexistent"}, "dhParameters"),
            ({"backlog": "x"}, "backlog"),
        ):
            self.assertIn(word, self.mistake(self.string(**arguments)), arguments)


class ExposedTests(ListenTestCase):
    def test_whom_it_reaches(self) -> None:
        for string, exposed in {
            "tcp:80": True,
            "tcp6:80": True,
            r"tcp:80:interface=\:\:": True,
            "tcp:80:interface=0.0.0.0": True,
            "tcp:80:interface=192.0.2.1": True,
            "tcp:80:interface=127.0.0.1": False,
            "tcp:80:127.9.9.9": False,
            "tcp:80:interface=localhost": False,
            r"tcp6:80:interface=\:\:1": False,
            "ssl:80:privateKey=/x": True,
            "ssl:80:privateKey=/x:clientCA=/y": False,
            "unix:/x": False,
            "systemd:domain=INET:index=5": True,
        }.items():
            self.assertEqual(is_exposed(string), exposed, string)

    def test_two_at_one_port(self) -> None:
        for one, other, clash in (
            ("tcp:80", "tcp:80:interface=127.0.0.1", True),
            (r"ssl:80:interface=\:\:", "tcp:80:interface=127.0.0.1", True),
            ("tcp:80:interface=127.0.0.1", "tcp:80:interface=127.0.0.1", True),
            ("tcp:80:interface=127.0.0.1", "tcp:80:interface=127.0.0.2", False),
            ("tcp:80", "tcp:81", False),
            ("tcp:0", "tcp:0", False),
            ("tcp:x", "tcp:x", False),
            ("unix:/80", "tcp:80", False),
        ):
            self.assertEqual(have_one_port(one, other), clash, (one, other))
            self.assertEqual(have_one_port(other, one), clash, (one, other))

    def test_by_a_socket_from_systemd(self) -> None:
        path = self.folder / "socket"
        with (
            socket.create_server(("127.0.0.1", 0)) as near,
            socket.create_server(("", 0)) as far,
            socket.socket(socket.AF_UNIX) as file,
        ):
            file.bind(str(path))
            file.listen()
            self.inherit(near, far, file)
            found = [is_exposed(f"systemd:domain=INET:index={index}") for index in range(3)]
        self.assertEqual(found, [False, True, False])


class SocketTests(TestCase):
    """Over real sockets."""

    async def test_what_a_crash_left_is_replaced(self) -> None:
        folder = short_folder(self)
        path = folder / "socket"
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(path))
        left.close()
        port = listen(reactor, f"unix:{path}", NOBODY)
        self.assertRaises(PortUnavailable, listen, reactor, f"unix:{path}", NOBODY)
        await port.stopListening()
        self.assertEqual(list(folder.iterdir()), [])
