"""A bare relay on Twisted and treq: keeps nothing, and tells nobody what it loses.

python benchmarks/rivals/relay.py PORT MODEL_URL SINK_URL CALLS
"""

import json
import sys
import uuid
from datetime import datetime, timezone
from typing import Any

from event import event_of
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import Site

MODEL_HEADERS = {b"Content-Type": [b"application/json"], b"Authorization": [b"Bearer x"]}
EVENT_HEADERS = {b"Content-Type": [b"application/cloudevents+json"]}


class Relay(Resource):
    isLeaf = True

    def __init__(self, model: str, sink: str, calls: int) -> None:
        super().__init__()
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = calls
        self.http = HTTPClient(Agent(reactor, pool=pool))
        self.calls = DeferredSemaphore(calls)
        self.model, self.sink = model, sink

    def render_POST(self, request: Any) -> bytes:
        prompt = request.content.read().decode("utf-8")
        relaying = self.calls.run(lambda: Deferred.fromCoroutine(self.relay(prompt)))
        relaying.addErrback(lambda failure: failure.printTraceback())
        request.setResponseCode(202)
        return b""

    async def relay(self, prompt: str) -> None:
        id_, time = str(uuid.uuid4()), datetime.now(timezone.utc).isoformat()
        call = {"model": "a-model", "messages": [{"role": "user", "content": prompt}]}
        body = json.dumps(call).encode("utf-8")
        response = await self.http.post(self.model, data=body, headers=MODEL_HEADERS)
        answer = (await response.json())["choices"][0]["message"]["content"]
        event = event_of(id_, time, answer)
        body = json.dumps(event).encode("utf-8")
        response = await self.http.post(self.sink, data=body, headers=EVENT_HEADERS)
        await response.content()


class QuietSite(Site):
    def log(self, request: Any) -> None:
        """Write no access log, as the daemon writes none."""


def main() -> None:
    port, model, sink, calls = sys.argv[1:]
    site = QuietSite(Relay(model, sink, int(calls)))
    reactor.listenTCP(int(port), site, backlog=1024, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
