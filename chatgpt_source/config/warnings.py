"""Warnings: settings that are well-formed and do nothing, or not what they seem to. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from chatgpt_source.config.prices import price_of
from chatgpt_source.config.settings import Config

WITHOUT_EFFECT = {
    "store_config": "this connector keeps its state in `journal`",
    "batch_size": "events are sent one at a time",
    "context_count": "each prompt is asked on its own",
}
"""Keys of the Go connector that are accepted, and why they do nothing."""
_NEEDED = {
    "batch_window": "batch_over",
    "batch_margin": "batch_over",
    "fallback_after_timeout": "fallbacks",
    "admin_auth": "admin",
    "prices": "admin",
}
"""Settings that do nothing without another one."""


def warnings_of(config: Config, document: Mapping[Any, Any]) -> Iterator[str]:
    """The warnings, one line each.

    Args:
        config: The settings.
        document: The config file.
    """
    for key, why in WITHOUT_EFFECT.items():
        if key in document:
            yield f"`{key}` does nothing here: {why}"
    for key, other in _NEEDED.items():
        is_set = document.get(key) not in (None, False)
        if is_set and getattr(config, other) in (None, ()):
            yield f"`{key}` does nothing without `{other}`: set that too, or remove `{key}`"
    if config.flex_over is not None and "service_tier" in config.body:
        yield (
            "`service_tier` in `body` is not sent on the flex tier, where `flex_over` makes it"
            " flex: it holds for all other calls"
        )
    yield from _short_times(config)
    for model in {each.model: None for each in (config, *config.of_fallbacks.values())}:
        if config.prices and price_of(config.prices, model) is None:
            yield f"`prices` has none for {model}: what its answers cost is not counted"


def _short_times(config: Config) -> Iterator[str]:
    """Warnings about tiers that prompts hardly get time for."""
    batch, flex, deadline = config.batch_over, config.flex_over, config.deadline
    least = config.batch_window + config.batch_margin + (flex or 0.0)
    if batch is not None and batch <= least:
        yield (
            f"`batch_over` should be more than {least:g} s: `batch_window`, `batch_margin` and"
            " `flex_over` leave a batch no time"
        )
    for name, over in (("batch_over", batch), ("flex_over", flex)):
        if over is not None and deadline is not None and deadline <= over:
            yield (
                f"`deadline` is not more than `{name}`: only a prompt that names a later one is"
                " asked so"
            )
