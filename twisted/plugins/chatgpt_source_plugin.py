"""What `twistd` offers once ChatGPT Source is installed."""

from twisted.application.service import ServiceMaker

chatgpt_source = ServiceMaker(
    "ChatGPT Source",
    "chatgpt_source.service",
    "Takes prompts over HTTP, asks a chat model, delivers the answers as CloudEvents.",
    "chatgpt-source",
)

cloudevents_display = ServiceMaker(
    "CloudEvents Display",
    "chatgpt_source.display",
    "Receives CloudEvents over HTTP and prints them.",
    "cloudevents-display",
)
