"""The Dockerfile and .dockerignore, as far as they can be proven without building the image."""

import ast
import fnmatch
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path, PurePosixPath

import attrs
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.application.service import IServiceMaker
from twisted.logger import ILogObserver
from twisted.plugin import getPlugins
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.config import Config
from tests.certificates import issue

ROOT = Path(__file__).parents[1]
WHO_LISTENS = "/proc/[0-9]*/fd/*"
"""Where the health check looks for twistd: all processes, of which a container has few."""

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


def setup_argument(name: str):
    """What setup.py passes to setup(), read without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if getattr(node.func, "id", "") == "setup"]
    (value,) = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return ast.literal_eval(value)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (NAME, the rest), with continued lines joined as a builder joins them."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name.upper(), rest.strip()) for name, rest in found]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, its FROM first."""
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def the_one(name: str) -> str:
    """What follows an instruction that the last stage has once."""
    (rest,) = [rest for found, rest in stages()[-1] if found == name]
    return rest


def copied() -> list[str]:
    """The paths of the checkout that a COPY names."""
    copies = [
        rest.split() for name, rest in instructions() if name == "COPY" and "--from" not in rest
    ]
    return [source for words in copies for source in words[:-1]]


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves a path out: the last line to match it or a parent decides."""
    verdict = False
    parts = PurePosixPath(path).parts
    ancestry = [parts[: length + 1] for length in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = PurePosixPath(line.removeprefix("!")).parts
        for ancestor in ancestry:
            tail = ancestor[1 - len(pattern) :] if pattern[0] == "**" else ancestor
            wanted = pattern[1:] if pattern[0] == "**" else pattern
            if len(tail) == len(wanted) and all(map(fnmatch.fnmatchcase, tail, wanted)):
                verdict = not line.startswith("!")
    return verdict


class DockerfileTests(SynchronousTestCase):
    def test_the_stage_that_builds_is_not_the_one_that_ships(self):
        build, final = stages()
        self.assertTrue(build[0][1].endswith(" AS build"), build[0])
        self.assertIn(("COPY", "--from=build /opt/venv /opt/venv"), final)
        self.assertNotIn(" AS ", final[0][1])
        self.assertIn("python -m venv --without-pip /opt/venv", build[2][1] + build[3][1])

    def test_base_images_have_a_version(self):
        for stage in stages():
            self.assertRegex(stage[0][1], r"^python:\d+\.\d+-slim( AS \w+)?$")

    def test_dependencies_are_installed_before_the_code_is_copied(self):
        build = stages()[0]
        requirements = [i for i, (_, rest) in enumerate(build) if "--requirement" in rest]
        code = [i for i, (name, rest) in enumerate(build) if name == "COPY" and "chatgpt" in rest]
        readme = [i for i, (name, rest) in enumerate(build) if name == "COPY" and "README" in rest]
        self.assertLess(max(requirements), min(code + readme))

    def test_no_cache_of_pip_is_left(self):
        self.assertIn("PIP_NO_CACHE_DIR=1", dict(stages()[0])["ENV"])
        self.assertFalse([rest for _, rest in stages()[-1] if "pip install" in rest])

    def test_user_is_a_number_that_is_not_root_in_group_0(self):
        self.assertRegex(the_one("USER"), r"^[1-9]\d*:0$")

    def test_entrypoint_is_twistd_without_a_shell(self):
        entrypoint = json.loads(the_one("ENTRYPOINT"))
        self.assertEqual(entrypoint[:3], ["twistd", "--nodaemon", "--pidfile="])
        self.assertTrue(all(word.startswith("--") for word in entrypoint[1:]), entrypoint)

    def test_logger_is_what_twistd_takes(self):
        (logger,) = re.findall(r'"--logger=([^"]+)"', the_one("ENTRYPOINT"))
        self.assertTrue(ILogObserver.providedBy(namedAny(logger)()))

    def test_command_is_the_source_and_the_sink_is_there_too(self):
        plugins = {plugin.tapname for plugin in getPlugins(IServiceMaker)}
        self.assertEqual(json.loads(the_one("CMD")), ["chatgpt-source"])
        self.assertLessEqual({"chatgpt-source", "cloudevents-display"}, plugins)

    def test_state_is_a_volume_at_rundir_that_group_0_writes(self):
        volume = the_one("VOLUME")
        self.assertIn(f"--rundir={volume}", json.loads(the_one("ENTRYPOINT")))
        uid = the_one("USER").split(":")[0]
        run = the_one("RUN")
        self.assertIn(f"chown {uid}:0 {volume}", run)
        self.assertIn(f"chmod 0770 {volume}", run)
        # What is done to a folder after it was declared a volume is lost.
        order = [name for name, _ in stages()[-1]]
        self.assertLess(order.index("RUN"), order.index("VOLUME"))
        self.assertLess(order.index("RUN"), order.index("USER"))

    def test_nothing_is_left_to_write_outside_the_volume(self):
        self.assertIn("PYTHONDONTWRITEBYTECODE=1", the_one("ENV"))
        self.assertIn("twistd --help", the_one("RUN"))
        self.assertIn("compileall", stages()[0][-1][1])

    def test_environment(self):
        self.assertIn("LANG=C.UTF-8", the_one("ENV"))
        self.assertIn("PYTHONUNBUFFERED=1", the_one("ENV"))
        self.assertIn("PATH=/opt/venv/bin:", the_one("ENV"))

    def test_stop_signal_and_port(self):
        self.assertEqual(the_one("STOPSIGNAL"), "SIGTERM")
        self.assertEqual(the_one("EXPOSE"), str(attrs.fields(Config).port.default))

    def test_a_build_without_certificates_fails(self):
        self.assertIn("test -s /etc/ssl/certs/ca-certificates.crt", the_one("RUN"))

    def test_labels_tell_the_version_and_licence_of_setup(self):
        labels = dict(re.findall(r'(org\.opencontainers\.image\.\w+)="([^"]*)"', the_one("LABEL")))
        for name in ("version", "description"):
            label = labels[f"org.opencontainers.image.{name}"]
            self.assertEqual(label, setup_argument(name))
        self.assertEqual(labels["org.opencontainers.image.licenses"], setup_argument("license"))

    def test_what_is_copied_exists_and_is_not_ignored(self):
        for source in copied():
            if not source.endswith("*"):  # with a star it may be missing
                self.assertTrue((ROOT / source).exists(), source)
            self.assertFalse(ignored(source.removesuffix("*")), source)

    def test_every_package_is_copied_whole(self):
        for package in setup_argument("packages"):
            folder = ROOT / package.replace(".", "/")
            files = [*folder.glob("*.py"), *folder.glob("py.typed")]
            self.assertTrue(files, package)
            for file in files:
                path = file.relative_to(ROOT)
                self.assertIn(path.parts[0], copied())
                self.assertFalse(ignored(path.as_posix()), path)

    def test_every_package_is_installed(self):
        found = [file.parent for file in (ROOT / "chatgpt_source").rglob("__init__.py")]
        names = {".".join(folder.relative_to(ROOT).parts) for folder in found}
        self.assertEqual({*names, "twisted.plugins"}, set(setup_argument("packages")))


class DockerignoreTests(SynchronousTestCase):
    def test_secrets_and_state_stay_out_of_the_build(self):
        for path in (
            "config.yml",
            "journal.sqlite",
            ".git/config",
            ".venv/bin/python",
            ".env",
            "tests/test_dockerfile.py",
            "chatgpt_source/__pycache__/log.cpython-313.pyc",
            "chatgpt_source/journal/__pycache__/x.pyc",
            "twisted/plugins/dropin.cache",
        ):
            self.assertTrue(ignored(path), path)


class HealthCheckTests(SynchronousTestCase):
    """The check's own code, on a process that listens on a port nobody told it."""

    def code(self) -> str:
        program, option, code = json.loads(the_one("HEALTHCHECK").split(" CMD ")[1])
        self.assertEqual((program, option), ("python", "-c"))
        self.assertEqual(code.count(WHO_LISTENS), 1)
        return code

    def check(self, process: "subprocess.Popen[str]", **environment: str) -> int:
        if not Path("/proc/net/tcp").exists():
            raise SkipTest("no /proc/net/tcp here: the image's health check is for Linux")
        mine = self.code().replace(WHO_LISTENS, f"/proc/{process.pid}/fd/*")
        command = [sys.executable, "-c", mine]
        return subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, timeout=30, check=False
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

    def test_needs_no_program_that_slim_images_lack(self):
        self.assertNotRegex(the_one("HEALTHCHECK"), r"\b(curl|wget|sh)\b")
        self.assertIn("timeout=4", self.code())
        self.assertIn("--timeout=5s", the_one("HEALTHCHECK"))
