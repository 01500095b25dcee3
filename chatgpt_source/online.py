"""`twistd chatgpt-source --check --online`: tries the keys and the targets, without a prompt."""

from collections.abc import Awaitable, Sequence
from typing import Any

from attrs import frozen

from chatgpt_source.config import Config
from chatgpt_source.delivery.target import targets_of
from chatgpt_source.errors import CallError
from chatgpt_source.http.client import make_client
from chatgpt_source.http.server import origin_of
from chatgpt_source.providers import provider_of


@frozen
class Found:
    """What a call found.

    Attributes:
        is_well: Whether prompts or events can be expected to get there.
        line: A line for people.
    """

    is_well: bool
    line: str


async def try_all(reactor: Any, config: Config) -> Sequence[Found]:
    """List the models of each provider, and send OPTIONS to each target.

    Args:
        reactor: The reactor.
        config: The settings.
    """
    client, pool = make_client(
        reactor, 1, proxies=config.proxies, authorities=config.ca_file + config.authorities
    )
    found = []
    try:
        providers = {"the model": config}
        providers |= {f"the fallback `{name}`": each for name, each in config.of_fallbacks.items()}
        for name, each in providers.items():
            trying = provider_of(each, client, reactor).try_key()
            found.append(await _found(name, origin_of(each.base_url), trying))
        for receiver, target in targets_of(config, client, reactor):
            found.append(await _found(receiver.name, target.origin, target.try_to_reach()))
    finally:
        await pool.close()
    return found


async def _found(name: str, origin: str, trying: Awaitable[str]) -> Found:
    where = f"{name} at {origin}"
    try:
        return Found(is_well=True, line=f"{where} {await trying}")
    except CallError as error:
        told = error.reason.removeprefix(f"{name} ")
        colon = ":" if told == error.reason else ""
        return Found(is_well=False, line=f"{where}{colon} {told}")
