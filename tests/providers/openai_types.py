"""OpenAI's API as their published OpenAPI schema has it: their SDK's types are made of it."""

from typing import Any

import pydantic
from openai.types import Model
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

_REQUEST = pydantic.TypeAdapter(CompletionCreateParamsNonStreaming)
_RESPONSE_REQUEST = pydantic.TypeAdapter(ResponseCreateParamsNonStreaming)


def check_request(document: dict[str, Any]) -> None:
    """See that a body is a chat completion request, with no member the schema does not know."""
    checked = _REQUEST.validate_python(document)
    list(checked["messages"])  # they are checked as they are taken
    unknown = set(document) - set(CompletionCreateParamsNonStreaming.__annotations__)
    assert not unknown, f"not in the schema: {unknown}"


def check_completion(document: dict[str, Any]) -> None:
    """See that a body is a chat completion."""
    ChatCompletion.model_validate(document, strict=True)


def check_models(document: dict[str, Any]) -> None:
    """See that a body lists models."""
    for each in document["data"]:
        Model.model_validate(each, strict=True)


def check_response_request(document: dict[str, Any]) -> None:
    """See that a body is a request for a response, with no member the schema does not know."""
    checked = _RESPONSE_REQUEST.validate_python(document)
    if not isinstance(checked["input"], str):
        list(checked["input"])
    unknown = set(document) - set(ResponseCreateParamsNonStreaming.__annotations__)
    assert not unknown, f"not in the schema: {unknown}"


def check_response(document: dict[str, Any]) -> None:
    """See that a body is a response."""
    Response.model_validate(document, strict=True)
