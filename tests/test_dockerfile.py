"""The Dockerfile and .dockerignore, as far as they can be proven without building the image."""

import ast
import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import attrs
from twisted.application.service import IServiceMaker
from twisted.logger import ILogObserver
from twisted.plugin import getPlugins
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source import healthcheck
from chatgpt_source.config import Config

ROOT = Path(__file__).parents[1]


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

    def test_what_is_installed(self):
        """The build's own program, run here."""
        (run,) = [rest for _, rest in stages()[0] if "requirements.txt" in rest]
        program = re.search(r'python -c "(.*?)" +"\$EXTRAS"', run)
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in ("setup.py", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "README.md").touch()

        def requirements(extras: str) -> str:
            ran = subprocess.run(
                [sys.executable, "-c", program[1], extras],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            return ran.stdout

        self.assertIn("\ntreq", requirements(""))
        self.assertIn("\npsycopg[binary]", requirements(""))
        self.assertNotIn("opentelemetry", requirements(""))
        self.assertIn("\npsycopg[binary]", requirements("otel"))
        self.assertIn("\nopentelemetry-sdk", requirements("otel"))

    def test_no_tests_of_libraries_are_left(self):
        """The build's own command, run here."""
        run = stages()[0][-1][1]
        (command,) = re.findall(r"find /opt/venv .*?(?= && )", run)
        folder = Path(self.mktemp()).absolute()
        kept = [folder / "twisted/trial/unittest.py", folder / "treq/testing.py"]
        gone = [folder / "twisted/web/test/test_http.py", folder / "zope/interface/tests/odd.py"]
        for file in (*kept, *gone):
            file.parent.mkdir(parents=True)
            file.touch()
        subprocess.run(command.replace("/opt/venv", str(folder)), shell=True, check=True)
        self.assertEqual(sorted(kept), sorted(each for each in folder.rglob("*") if each.is_file()))

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
    """What it does is in `test_healthcheck.py`."""

    def test_is_our_module(self):
        command = json.loads(the_one("HEALTHCHECK").split(" CMD ")[1])
        self.assertEqual(command, ["python", "-m", healthcheck.__name__])

    def test_ends_before_docker_ends_it(self):
        self.assertIn("--timeout=5s", the_one("HEALTHCHECK"))
        self.assertLess(healthcheck.WITHIN, 5)
