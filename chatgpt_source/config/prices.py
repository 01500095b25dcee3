"""Reads `prices`: what the tokens of each model cost."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import frozen

from chatgpt_source.config.readers import Environ, Reader, Wrong, reworded, word
from chatgpt_source.config.targets import all_of

DEAREST = 1_000_000
"""US dollars per million tokens that a price may be."""
_FORM = (
    "a mapping of models' names to their prices, each with `input`, `output` and perhaps"
    " `cached_input`, in US dollars per million tokens"
)
_NEEDED, _MEMBERS = {"input", "output"}, {"input", "output", "cached_input"}


_name = word("text without spaces, in ASCII")
_VERSION = "[-@:][0-9][0-9a-z.-]*"
"""What may follow a model's name."""


@frozen
class Price:
    """What a model's tokens cost, in US dollars per million.

    Attributes:
        input: Those of prompts.
        output: Those of answers.
        cached_input: Those of prompts that the provider had in its cache; None: as `input`.
    """

    input: float
    output: float
    cached_input: float | None = None


def price_of(prices: Mapping[str, Price], *names: str | None) -> Price | None:
    """The price of the first of some names that has one; None if none has.

    A provider's name for a model may be longer than the one that was asked for by a version, like
    `-2026-03-01`, `-0613` or `@20260301`.
    """
    for name in names:
        if name is None:
            continue
        if name in prices:
            return prices[name]
        known = [each for each in prices if re.fullmatch(_VERSION, name.removeprefix(each))]
        if known:
            return prices[max(known, key=len)]
    return None


def prices(amount: Reader) -> Reader:
    """A mapping of models to prices.

    Args:
        amount: How an amount is read.
    """

    def read_one(value: Any, environ: Environ) -> Price:
        if not isinstance(value, dict) or not value.keys() <= _MEMBERS:
            raise Wrong("there must be only `input`, `output` and perhaps `cached_input`")
        given = {member: each for member, each in value.items() if each is not None}
        missing = sorted(_NEEDED - given.keys())
        if missing:
            raise Wrong(f"`{missing[0]}` is missing")
        reading = {
            f"`{member}` must be ": (member, partial(amount, each))
            for member, each in given.items()
        }
        return Price(**all_of(reading, environ, ", and "))

    def read(value: Any, environ: Environ) -> Mapping[str, Price]:
        if not isinstance(value, dict):
            raise Wrong(_FORM)
        for number, name in enumerate(value, 1):
            with reworded(f"{_FORM}; the name of model no. {number} must be "):
                _name(name, environ)
        reading = {
            f"of model no. {number}, ": (name.strip(), partial(read_one, price))
            for number, (name, price) in enumerate(value.items(), 1)
        }
        with reworded(f"{_FORM}: "):
            return all_of(reading, environ, "; ")

    return read
