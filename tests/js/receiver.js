// A receiver of CloudEvents on the JavaScript SDK: prints its port, then each event it takes as a line.
import { createServer } from "node:http";
import { HTTP } from "cloudevents";

// The HTTP binding, section 3.1.3.2: the SDK leaves the decoding of header values to its user.
const decoded = (headers) =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      name.startsWith("ce-") ? decodeURIComponent(value) : value,
    ]),
  );

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    try {
      const event = HTTP.toEvent({
        headers: decoded(request.headers),
        body: Buffer.concat(chunks).toString(),
      });
      event.validate();
      console.log(JSON.stringify({ event: event.toJSON() }));
      response.writeHead(202).end();
    } catch (error) {
      console.log(JSON.stringify({ objection: String(error), details: error.errors ?? null }));
      response.writeHead(400).end();
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
