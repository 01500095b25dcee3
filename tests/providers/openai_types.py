"""OpenAI's API as their published OpenAPI schema has it: their SDK's types are made of it."""

from typing import Any

import pydantic
from openai.pagination import SyncCursorPage
from openai.types import Batch, FileDeleted, FileObject, Model
from openai.types.batch_create_params import BatchCreateParams
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

_REQUEST = pydantic.TypeAdapter(CompletionCreateParamsNonStreaming)
_BATCH_REQUEST = pydantic.TypeAdapter(BatchCreateParams)
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


def check_file(document: dict[str, Any]) -> None:
    """See that a body is a file, or says that one was deleted."""
    kind = FileDeleted if "deleted" in document else FileObject
    _check_members(kind.model_validate(document, strict=True))


def check_batch_request(document: dict[str, Any]) -> None:
    """See that a body is a request for a batch, with no member the schema does not know."""
    _BATCH_REQUEST.validate_python(document)
    unknown = set(document) - set(BatchCreateParams.__annotations__)
    assert not unknown, f"not in the schema: {unknown}"


def check_batch(document: dict[str, Any]) -> None:
    """See that a body is a batch."""
    _check_members(Batch.model_validate(document, strict=True))


def check_list(document: dict[str, Any]) -> None:
    """See that a body is a page of files or batches."""
    page = SyncCursorPage[Batch | FileObject].model_validate(document, strict=True)
    assert document["object"] == "list"
    assert isinstance(page.has_more, bool)
    for each in document["data"]:
        {"batch": check_batch, "file": check_file}[each["object"]](each)


def _check_members(checked: pydantic.BaseModel) -> None:
    assert not checked.model_extra, f"not in the schema: {checked.model_extra}"
