"""`reusePort=yes`: several listen at one port, and a stop of one loses no caller who waits."""

import errno
import socket
import ssl
import struct
from typing import Any, cast

from twisted.internet import endpoints, reactor
from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from chatgpt_source.http.listen import check, is_exposed, is_shared, listen, shared, tls
from chatgpt_source.http.listen.probe import probe_port
from chatgpt_source.http.listen.string import PortUnavailable, parse
from tests.certificates import Authority
from tests.e2e.processes import free_port, until
from tests.http.listen.test_listen import ListenTestCase, short_folder

SECONDS = 10.0
HANG_UP = struct.pack("ii", 1, 0)
"""SO_LINGER with which closing a connection resets it."""


class Callers(Factory):
    """Answers each of its callers with what it got, and closes the connection."""

    noisy = False

    def __init__(self) -> None:
        self.numbers = dict.fromkeys(("started", "stopped", "made", "lost"), 0)

    def startFactory(self) -> None:
        self.numbers["started"] += 1

    def stopFactory(self) -> None:
        self.numbers["stopped"] += 1

    def buildProtocol(self, _: object) -> Protocol:
        numbers = self.numbers

        class Echo(Protocol):
            def connectionMade(self) -> None:
                assert not numbers["stopped"]
                numbers["made"] += 1

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(data)  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]

            def connectionLost(self, _reason: object = None) -> None:
                numbers["lost"] += 1

        return Echo()


class StringTests(ListenTestCase):
    def test_mistakes(self) -> None:
        for string, word in {
            "tcp:80:reusePort": "yes or no",
            "tcp:80:reusePort=": "yes or no",
            "tcp:80:reusePort=true": "yes or no",
            "tcp6:80:reusePort=1": "yes or no",
            "tcp:0:reusePort=yes": "name a port",
            "unix:/run/x:reusePort=yes": "of its own",
            "systemd:domain=INET:index=0:reusePort=yes": "ReusePort=yes in the .socket unit",
            "haproxy:tcp:80:reusePort=yes": "tcp:, tcp6: and ssl: only",
            "tcp:80:unknown=1:reusePort=yes": "endpoint string",
            "tcp:80:backlog=x:reusePort=yes": "endpoint string",
            "ssl:80:reusePort=yes": "privateKey",
        }.items():
            self.assertIn(word, self.mistake(string), string)

    def test_a_system_without_it(self) -> None:
        self.patch(socket, "SO_REUSEPORT", None)
        del socket.SO_REUSEPORT
        line = self.mistake("tcp:8080:reusePort=yes")
        self.assertIn("this system has no SO_REUSEPORT", line)

    def test_no_is_as_if_it_were_not_there(self) -> None:
        memory = MemoryReactor()
        listen(memory, r"tcp:80:interface=\:\:1:reusePort=no:backlog=7", cast(Any, Callers()))
        self.assertEqual([each[2:] for each in memory.tcpServers], [(7, "::1")])
        self.assertFalse(is_shared("tcp:80:reusePort=no"))

    def test_who_is_reached_does_not_change(self) -> None:
        self.assertTrue(is_exposed("tcp:80:reusePort=yes"))
        self.assertFalse(is_exposed("tcp:80:interface=127.0.0.1:reusePort=yes"))

    def test_the_interface_by_its_position(self) -> None:
        for string in (r"tcp:80:\:\:1", r"tcp6:80:5:\:\:1", r"tcp6:80:interface=\:\:1"):
            self.assertEqual(parse(string).interface, "::1", string)
            memory = MemoryReactor()
            listen(memory, string, cast(Any, Callers()))
            self.assertEqual(memory.tcpServers[0][3], "::1", string)


class ProbeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = free_port()
        self.shared = f"tcp:{self.port}:interface=127.0.0.1:reusePort=yes"

    def taken(self, string: str) -> str:
        error = self.assertRaises(PortUnavailable, check, string)
        self.assertTrue(error.taken)
        return str(error)

    def test_a_port_that_is_shared(self) -> None:
        with shared.bind("127.0.0.1", self.port) as other:
            other.listen()
            check(self.shared)
            self.assertNotIn("share", self.taken(f"tcp:{self.port}:interface=127.0.0.1"))
            self.assertRaises(PortUnavailable, probe_port, self.port)

    def test_a_port_that_is_not_shared(self) -> None:
        with socket.create_server(("127.0.0.1", self.port)):
            line = self.taken(self.shared)
            self.assertIn("by what does not share it, or runs as another user", line)
            error = self.assertRaises(
                PortUnavailable, listen, reactor, self.shared, cast(Any, Callers())
            )
            self.assertEqual(str(error), "`listen` can't be listened on: Address already in use")

    def test_an_interface_that_is_not_ours(self) -> None:
        string = "tcp:8080:interface=192.0.2.1:reusePort=yes"
        self.assertIn("assign", str(self.assertRaises(PortUnavailable, check, string)))

    def test_a_check_gets_no_callers(self) -> None:
        with (
            shared.bind("127.0.0.1", self.port) as other,
            shared.bind("127.0.0.1", self.port),  # as a check has for a moment
        ):
            other.listen(32)
            callers = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(32)]
            for _ in callers:
                other.accept()[0].close()
            for caller in callers:
                caller.close()


class PortTests(TestCase):
    """Over real sockets."""

    def setUp(self) -> None:
        self.port = free_port()
        self.ports: list[IListeningPort] = []
        self.callers = Callers()

    def tearDown(self) -> Any:
        return gatherResults([port.stopListening() for port in self.ports])

    def listen(self, string: str, factory: Any, **more: Any) -> IListeningPort:
        port = listen(reactor, string, factory, **more)
        self.ports.append(port)
        return port

    async def stop(self, port: IListeningPort) -> None:
        self.ports.remove(port)
        await port.stopListening()  # type: ignore[misc]

    def call(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> bytes:
        with (
            socket.create_connection((host, self.port), SECONDS) as plain,
            context.wrap_socket(plain) if context else plain as caller,
        ):
            caller.sendall(b"text")
            return caller.recv(99)

    async def calls(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        """Call until each of two has been called."""
        others = Callers()
        string = self.string(host, context)
        renewable: dict[str, tls.Certificates] = {}
        for factory in (self.callers, others):
            port = self.listen(string, factory, renewable=renewable)
            self.assertEqual(port.getHost().port, self.port)  # type: ignore[attr-defined]
            check(string)

        async def both() -> bool:
            self.assertEqual(await deferToThread(self.call, host, context), b"text")
            return all(each.numbers["made"] for each in (self.callers, others))

        await until(both, "a caller for each")
        self.assertEqual(set(renewable), {"listen"} if context else set())
        for port in [*self.ports]:
            await self.stop(port)
        self.assertRaises(ConnectionRefusedError, self.call, host)
        for each in (self.callers, others):
            await until(lambda each=each: each.numbers["lost"] == each.numbers["made"], "ends")
            self.assertEqual((each.numbers["started"], each.numbers["stopped"]), (1, 1))

    def string(self, host: str, context: ssl.SSLContext | None) -> str:
        place = f"{self.port}:interface={endpoints.quoteStringArgument(host)}:reusePort=yes"
        if context is None:
            return f"tcp:{place}"
        authority = Authority(short_folder(self))
        key, certificate = authority.issue("server")
        return f"ssl:{place}:privateKey={key}:certKey={certificate}"

    async def test_callers_are_spread(self) -> None:
        await self.calls()

    async def test_over_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await self.calls(context=context)

    async def test_over_ipv6(self) -> None:
        self.need_ipv6()
        await self.calls("::1")

    async def test_both_families(self) -> None:
        self.need_ipv6()
        port = self.listen(f"tcp6:{self.port}:reusePort=yes", self.callers)
        for host in ("::1", "127.0.0.1"):
            self.assertEqual(await deferToThread(self.call, host), b"text")
        await self.stop(port)

    def need_ipv6(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            raise SkipTest("there is no IPv6") from None

    def connect(self, number: int) -> list[socket.socket]:
        """Callers who wait: no turn of the reactor passes meanwhile."""
        made = []
        for _ in range(number):
            caller = socket.create_connection(("127.0.0.1", self.port), SECONDS)
            self.addCleanup(caller.close)
            caller.sendall(b"text")
            made.append(caller)
        return made

    async def test_a_stop_answers_all_who_wait(self) -> None:
        port = self.listen(self.string("127.0.0.1", None), self.callers)
        waiting = self.connect(3 * shared._A_TURN)
        await self.stop(port)
        self.assertRaises(ConnectionRefusedError, self.call)
        answers = await gatherResults([deferToThread(caller.recv, 99) for caller in waiting])
        self.assertEqual(answers, [b"text"] * len(waiting))
        await until(lambda: self.callers.numbers["lost"] == len(waiting), "their ends")

    async def test_a_stop_gets_over_those_who_hang_up(self) -> None:
        port = self.listen(self.string("127.0.0.1", None), self.callers)
        first, second, third = self.connect(3)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HANG_UP)
        second.close()
        await self.stop(port)
        for caller in (first, third):
            self.assertEqual(await deferToThread(caller.recv, 99), b"text")
        await until(lambda: self.callers.numbers["lost"] == self.callers.numbers["made"], "ends")

    async def test_a_stop_ends_without_files_to_open(self) -> None:
        port = self.listen(self.string("127.0.0.1", None), self.callers)

        class Full:
            def __enter__(self) -> None:
                pass

            def __exit__(self, *_: object) -> None:
                held.close()

            def accept(self) -> Any:
                raise OSError(errno.EMFILE, "Too many open files")

        held = port._listening  # type: ignore[attr-defined]
        port._listening = Full()  # type: ignore[attr-defined]
        await self.stop(port)
        self.assertEqual(self.callers.numbers["stopped"], 1)

    async def test_what_can_not_be_listened_on_is_closed(self) -> None:
        class Refusing(MemoryReactor):
            def adoptStreamPort(self, *_: Any) -> Any:
                raise OSError(errno.ENOMEM, "Cannot allocate memory")

        error = self.assertRaises(
            PortUnavailable, listen, Refusing(), self.string("127.0.0.1", None), self.callers
        )
        self.assertIn("Cannot allocate memory", str(error))
        socket.create_server(("127.0.0.1", self.port)).close()
