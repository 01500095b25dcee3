"""A bare relay on FastAPI, the openai SDK and httpx: keeps nothing.

python benchmarks/rivals/fastapi_relay.py PORT MODEL_URL SINK_URL CALLS
"""

import asyncio
import sys
import uuid
from datetime import datetime, timezone
from typing import Any

import httpx
import uvicorn
from event import event_of
from fastapi import FastAPI, Request, Response
from openai import AsyncOpenAI


def application(model: str, sink: str, calls: int) -> FastAPI:
    app = FastAPI()
    limits = httpx.Limits(max_connections=calls, max_keepalive_connections=calls)
    http = httpx.AsyncClient(limits=limits, timeout=60)
    base_url = model.removesuffix("/chat/completions")
    openai = AsyncOpenAI(api_key="x", base_url=base_url, http_client=http, max_retries=0)
    events = httpx.AsyncClient(limits=limits, timeout=60)
    under_way = asyncio.Semaphore(calls)
    tasks: set[asyncio.Task[None]] = set()

    async def relay(prompt: str) -> None:
        id_, time = str(uuid.uuid4()), datetime.now(timezone.utc).isoformat()
        async with under_way:
            messages: Any = [{"role": "user", "content": prompt}]
            answer = await openai.chat.completions.create(model="a-model", messages=messages)
            event = event_of(id_, time, answer.choices[0].message.content)
            headers = {"Content-Type": "application/cloudevents+json"}
            await events.post(sink, json=event, headers=headers)

    @app.post("/")
    async def accept(request: Request) -> Response:
        task = asyncio.create_task(relay((await request.body()).decode("utf-8")))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return Response(status_code=202)

    return app


def main() -> None:
    port, model, sink, calls = sys.argv[1:]
    uvicorn.run(
        application(model, sink, int(calls)), port=int(port), access_log=False, backlog=1024
    )


if __name__ == "__main__":
    main()
