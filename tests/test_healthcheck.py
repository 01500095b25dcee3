"""The image's health check, on a process that listens on a port nobody told it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.certificates import issue

ANSWERING = """
import http.server, socket, sys, threading

class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[1]) if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass

class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET

if len(sys.argv) > 3:  # a port beside the door, that says nothing of health
    beside = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=beside.serve_forever, daemon=True).start()
    silent = socket.create_server(("127.0.0.1", 0))
server = Server((sys.argv[2], 0), Door)
print("listening", flush=True)
server.serve_forever()
"""


TLS = """
import http.server, ssl, sys

class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server = http.server.HTTPServer(("127.0.0.1", 0), Door)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
"""


class HealthCheckTests(SynchronousTestCase):
    def check(self, process: "subprocess.Popen[str]", **environment: str) -> int:
        if not Path("/proc/net/tcp").exists():
            raise SkipTest("no /proc/net/tcp here: the image's health check is for Linux")
        return subprocess.run(
            [sys.executable, "-m", "chatgpt_source.healthcheck", str(process.pid)],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            timeout=30,
            check=False,
        ).returncode

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True
        )

        def end() -> None:
            process.kill()
            process.wait()
            process.stdout.close()

        self.addCleanup(end)
        process.stdout.readline()
        return process

    def test_well(self):
        self.assertEqual(self.check(self.start(ANSWERING, "200", "0.0.0.0")), 0)

    def test_well_at_one_of_several_ports(self):
        self.assertEqual(self.check(self.start(ANSWERING, "200", "0.0.0.0", "beside")), 0)
        self.assertEqual(self.check(self.start(ANSWERING, "503", "0.0.0.0", "beside")), 1)

    def test_well_over_tls(self):
        daemon = self.start(TLS, self.certificate())
        self.assertEqual(self.check(daemon), 0)

    def certificate(self) -> str:
        """A file with a key and a certificate that nobody has reason to trust."""
        issued = issue("localhost")
        key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file = Path(self.mktemp())
        file.write_bytes(issued.pem + key)
        return str(file)

    def test_well_on_ipv6(self):
        try:
            socket.create_server(("::", 0), family=socket.AF_INET6).close()
        except OSError as error:
            raise SkipTest(f"no IPv6 here: {error.strerror}") from error
        self.assertEqual(self.check(self.start(ANSWERING, "200", "::")), 0)

    def test_asks_directly_whatever_proxy_is_set(self):
        door = self.start(ANSWERING, "200", "0.0.0.0")
        self.assertEqual(self.check(door, http_proxy="http://127.0.0.1:1", no_proxy=""), 0)

    def test_ill(self):
        self.assertEqual(self.check(self.start(ANSWERING, "503", "0.0.0.0")), 1)

    def test_nothing_listens(self):
        process = self.start("import time; print('up', flush=True); time.sleep(60)")
        self.assertEqual(self.check(process), 1)
