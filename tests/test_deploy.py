"""The systemd units: what systemd itself says of them, and that they go with the code."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.http.listen import BACKLOG
from chatgpt_source.http.listen.string import parse
from chatgpt_source.journal.engine import is_url

FOLDER = Path(__file__).parent.parent / "deploy"
SERVICE = FOLDER / "chatgpt-source.service"
INSTANCE = FOLDER / "chatgpt-source@.service"
SOCKET = FOLDER / "chatgpt-source.socket"
TWISTD = "/opt/chatgpt-source/bin/twistd"
CONFIG = Config(target="http://x", token=Secret("t"))
MOST_EXPOSED = 20
"""Tenths, as `systemd-analyze security` counts: 0 is shut off from everything, 100 is root."""


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


class AnalyzeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.command = shutil.which("systemd-analyze")
        if self.command is None:
            raise SkipTest("systemd-analyze is not installed")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        # The program is looked for: this environment has it elsewhere.
        twistd = str(Path(sys.executable).with_name("twistd"))
        self.service, self.instance = (self.folder / each.name for each in (SERVICE, INSTANCE))
        for path, copy in ((SERVICE, self.service), (INSTANCE, self.instance)):
            copy.write_text(path.read_text().replace(TWISTD, twistd))
        self.socket = self.folder / SOCKET.name
        self.socket.write_text(SOCKET.read_text())

    def analyze(self, *arguments: str) -> None:
        assert self.command
        done = subprocess.run(
            [self.command, *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn(str(self.folder), done.stderr)

    def test_verify(self) -> None:
        for each in (self.service, self.socket, self.instance):
            self.analyze("verify", "--man=no", str(each))

    def test_security(self) -> None:
        for each in (self.service, self.instance):
            self.analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(each))


class UnitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.service = unit(SERVICE)["Service"]

    def test_the_command_is_the_images(self) -> None:
        program, *options = self.service["ExecStart"].split()
        self.assertEqual((program, options[-1]), (TWISTD, "chatgpt-source"))
        self.assertIn("--nodaemon", options)
        self.assertIn("--pidfile=", options)
        self.assertIn(f"--rundir=%S/{self.service['StateDirectory']}", options)
        (logger,) = [option for option in options if option.startswith("--logger=")]
        self.assertTrue(callable(namedAny(logger.partition("=")[2])))

    def test_a_stop_may_take_what_draining_takes(self) -> None:
        self.assertGreater(int(self.service["TimeoutStopSec"]), CONFIG.drain_timeout + 5)

    def test_a_reload_is_a_hangup(self) -> None:
        self.assertEqual(self.service["ExecReload"], "/bin/kill -HUP $MAINPID")

    def test_files_for_the_default_concurrency(self) -> None:
        self.assertGreater(int(self.service["LimitNOFILE"]), 10000)

    def test_the_tokens_file_is_the_one_that_is_told(self) -> None:
        text = SERVICE.read_text()
        credentials = dict(re.findall(r"^LoadCredential=([\w.]+):(\S+)$", text, re.MULTILINE))
        self.assertEqual(set(credentials), {"config.yml", "token"})
        told = re.findall(r"token_file: (\S+)", text)
        self.assertEqual(told, [f"/run/credentials/{SERVICE.name}/token"])
        self.assertIn("CONNECTOR_CONFIG=%d/config.yml", self.service["Environment"])

    def test_the_socket_is_like_the_daemons_own(self) -> None:
        socket = unit(SOCKET)["Socket"]
        self.assertEqual(socket["ListenStream"], f"[::]:{CONFIG.port}")
        self.assertEqual(int(socket["Backlog"]), BACKLOG)


class InstanceTests(SynchronousTestCase):
    def test_like_the_service_but_for_what_is_its_own(self) -> None:
        one, instance = unit(SERVICE), unit(INSTANCE)
        self.assertEqual(one.sections(), instance.sections())
        other = {
            (section, key)
            for section in one.sections()
            for key in {*one[section], *instance[section]}
            if one[section].get(key) != instance[section].get(key)
        }
        # Of a key that is there several times, the last: the credential that it has alone.
        own = {"User", "RuntimeDirectory", "StateDirectory", "ExecStart", "LoadCredential"}
        self.assertEqual(other, {("Unit", "Description"), *(("Service", key) for key in own)})
        service = instance["Service"]
        self.assertEqual(service["RuntimeDirectory"], "chatgpt-source-%i")
        self.assertEqual(service["StateDirectory"], "chatgpt-source-%i")
        command = one["Service"]["ExecStart"].replace("%S/chatgpt-source", "%S/chatgpt-source-%i")
        self.assertEqual(service["ExecStart"], command)

    def test_one_user_has_them_all(self) -> None:
        user = unit(INSTANCE)["Service"]["User"]  # else the kernel lets them share no port
        self.assertNotIn("%", user)

    def test_each_has_a_config_a_token_and_a_password(self) -> None:
        text = INSTANCE.read_text()
        credentials = dict(re.findall(r"^LoadCredential=([\w.-]+):(\S+)$", text, re.MULTILINE))
        etc = "/etc/chatgpt-source"
        self.assertEqual(
            credentials,
            {
                "config.yml": f"{etc}/%i.yml",
                "token": f"{etc}/token",
                "journal-password": f"{etc}/journal-password",
            },
        )
        there = "/run/credentials/chatgpt-source@%i.service"
        self.assertEqual(re.findall(r"token_file: (\S+)", text), [f"{there}/token"])
        told = re.findall(r"journal_password: \{file: (\S+)\}", text)
        self.assertEqual(told, [f"{there}/journal-password"])
        self.assertEqual(re.findall(r"sed .* > (\S+)\);", text), [f"{etc}/$i.yml"])

    def test_they_share_a_journal(self) -> None:
        (journal,) = re.findall(r"(?m)^#   journal: (\S+)$", INSTANCE.read_text())
        self.assertTrue(is_url(journal))
        self.assertIn("pip install '.[postgres]'", INSTANCE.read_text())

    def test_they_share_a_port_and_no_admin_site(self) -> None:
        told = re.findall(r"(?m)^# +(listen|admin): (\S+)$", INSTANCE.read_text())
        where = dict(told)
        self.assertTrue(parse(where["listen"]).is_shared)
        self.assertEqual(int(parse(where["listen"]).port), CONFIG.port)
        self.assertIn("%i", where["admin"])
