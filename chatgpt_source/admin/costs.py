"""What an answer cost: its tokens, by the provider's count, and their price."""

from attrs import field, frozen

from chatgpt_source.config import Config, Price, price_of
from chatgpt_source.prompt import Answer, Tier
from chatgpt_source.telemetry.observer import AskEnded

CHEAP = {Tier.FLEX.value, Tier.BATCH.value}
"""The tiers that cost half the price."""
_MOST_TOKENS = 10**9
"""A larger number in one answer is not believed."""
_MILLION = 1_000_000


@frozen
class Tokens:
    """The tokens of an answer.

    Attributes:
        input: Those of its prompt.
        output: Its own.
        cached: How many of the prompt's the provider had in its cache.
    """

    input: int = 0
    output: int = 0
    cached: int = 0

    @classmethod
    def of(cls, answer: Answer) -> "Tokens":
        """Those that the provider told; 0 if it told none, or what can't be."""
        given = _whole(answer.input_tokens)
        cached = min(_whole(answer.cached_tokens), given)
        return cls(given, _whole(answer.output_tokens), cached)


def _whole(count: object) -> int:
    return count if type(count) is int and 0 < count < _MOST_TOKENS else 0


def is_cheap(ended: AskEnded, answer: Answer) -> bool:
    """Whether an answer was billed at half the price."""
    return answer.service_tier in CHEAP or ended.ask.batch is not None


@frozen(eq=False, repr=False)
class Costs:
    """Knows the prices.

    Args:
        config: The settings.
    """

    _config: Config
    _models: dict[str | None, str] = field(init=False)

    @_models.default
    def _find_models(self) -> dict[str | None, str]:
        return {name: each.model for name, each in self._config.of_fallbacks.items()}

    @property
    def are_known(self) -> bool:
        """Whether there are prices."""
        return bool(self._config.prices)

    def cost(self, ended: AskEnded, answer: Answer, tokens: Tokens) -> float | None:
        """What an answer cost, in US dollars; None if its model has no price."""
        asked = ended.ask.prompt.details.call.get("model")
        model = asked or self._models.get(ended.provider, self._config.model)
        price = price_of(self._config.prices, answer.model, model)
        if price is None:
            return None
        return dollars(price, tokens) * (0.5 if is_cheap(ended, answer) else 1.0)


def dollars(price: Price, tokens: Tokens) -> float:
    """What tokens cost, in US dollars."""
    cached = price.input if price.cached_input is None else price.cached_input
    in_millions = (
        (tokens.input - tokens.cached) * price.input
        + tokens.cached * cached
        + tokens.output * price.output
    )
    return in_millions / _MILLION
