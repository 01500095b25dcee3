"""treq's client without the layers that no call here needs."""

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred


class DirectHTTPClient(HTTPClient):
    """Passes each request to the agent.

    treq's own wraps the agent of each request in layers for cookies, for redirects and for
    compressed bodies, and has no setting to leave them out: a sixth of an event's CPU
    (docs/upstream.md). Calls here have no cookies and follow no redirects, and the agent
    decompresses, within limits.
    """

    def request(
        self,
        method: str,
        url: Any,
        *,
        headers: Any = None,
        data: Any = None,
        **options: Any,
    ) -> Deferred[Any]:
        """Send a request.

        Args:
            method: The method.
            url: An `EncodedURL`.
            headers: The headers, as `Headers`.
            data: The body, as an `IBodyProducer`.
            options: Of treq's, those that ask for less than it does by itself.

        Returns:
            The agent's response.

        Raises:
            TypeError: If an option asks for a layer.
        """
        if options != _BARE:
            raise TypeError(f"{sorted(options)}: only {_BARE} is supported")
        uri = url.to_uri().to_text().encode("ascii")
        return self._agent.request(method.encode("ascii"), uri, headers, data)


_BARE = {"allow_redirects": False, "unbuffered": True}
