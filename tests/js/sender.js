// Sends an event by the JavaScript SDK, in the mode and with the header fields given, and prints the event in the answer.
import { CloudEvent, HTTP, Mode, emitterFor, httpTransport } from "cloudevents";

const [url, mode, event, headers] = process.argv.slice(2);
const emit = emitterFor(httpTransport(url), { mode: Mode[mode] });
const answer = await emit(new CloudEvent(JSON.parse(event)), { headers: JSON.parse(headers) });
console.log(JSON.stringify({ event: answer.body === "" ? null : HTTP.toEvent(answer).toJSON() }));
