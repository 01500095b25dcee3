"""Every provider keeps its contract."""

from types import MappingProxyType

from tests.contracts.provider import Contract, KeepingContract


class OpenAIChatTests(Contract):
    pass


class OpenAIResponsesTests(Contract):
    settings = MappingProxyType({"api": "responses"})


class InTheBackgroundTests(KeepingContract):
    settings = MappingProxyType({"api": "responses", "background": True})


del Contract, KeepingContract
