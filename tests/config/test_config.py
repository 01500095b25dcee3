"""The configuration: what each key takes, and that every mistake is named and no secret shown."""

import os
from pathlib import Path
from string import ascii_letters, digits
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.config import (
    FILES_KEPT_FREE,
    FILES_OF_OUR_OWN,
    FILES_PER_CALL,
    Config,
    ConfigError,
    Credentials,
    TargetSettings,
    files_for_callers,
    load,
    read_journal,
    require_files,
)
from chatgpt_source.config.fallbacks import Fallback
from chatgpt_source.config.prices import Price
from chatgpt_source.config.secret import Secret
from chatgpt_source.http.client.proxy import Proxies, Proxy
from chatgpt_source.log import LEVELS
from tests.certificates import issue

CERTIFICATE = issue(None).pem
TOKEN = "sk-proj-0123456789"
GOOD: dict[str, Any] = {"target": "http://target.example/", "token": TOKEN}

FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "invoice",
        "strict": True,
        "schema": {"type": "object", "properties": {"total": {"type": "number"}}},
    },
}

DEFAULTS = {
    "port": 8080,
    "admin": None,
    "listen": None,
    "auth": None,
    "allow_origins": (),
    "admin_auth": None,
    "everyday_limit": 100,
    "timezone": ZoneInfo("UTC"),
    "base_url": "https://api.openai.com/v1",
    "api_version": None,
    "organization": None,
    "project": None,
    "headers": {},
    "api": "chat",
    "background": False,
    "forget_responses": False,
    "model": "gpt-6-luna",
    "system_prompt": None,
    "max_tokens": None,
    "temperature": None,
    "top_p": None,
    "reasoning_effort": None,
    "response_format": None,
    "body": {},
    "openai_timeout": 120.0,
    "concurrency": 64,
    "fallbacks": (),
    "fallback_after_timeout": False,
    "prices": {},
    "journal": "journal.sqlite",
    "journal_password": None,
    "include": (),
    "content_mode": "structured",
    "ca_file": (),
    "target_headers": {},
    "signing_secret": (),
    "targets": {},
    "send_event_attempts": 0,
    "dead_letter": None,
    "give_up_after": 86400.0,
    "deadline": None,
    "flex_over": None,
    "batch_over": None,
    "batch_window": 600.0,
    "batch_margin": 1800.0,
    "prompt_pointer": None,
    "copy_extensions": {},
    "callers_may_set": (),
    "webhook_origins": (),
    "keep_answers": 0.0,
    "max_wait": 60.0,
    "reply": 0.0,
    "max_batch": 100,
    "max_body_size": 1048576,
    "max_backlog": 100000,
    "keep": 604800.0,
    "drain_timeout": 8.0,
    "log_level": "info",
    "log_format": "auto",
}

URL = "an http:// or https:// URL with a host and without user or password"
STRING = "a string"
POSITIVE = "a positive whole number"
COUNT = "a whole number, 0 or more"
ABOVE_0 = "a number of seconds, more than 0"
SECONDS = "a number of seconds, 0 or more"
ZONE = "the IANA name of a time zone"
LEVEL = "a mapping"
WORD = "text without spaces"
HEADERS = "a mapping of header names to values"
WEBHOOK = "whsec_"

NO_TEXT = ("42", "4.2", "true", "no", "2023-03-28", "[a]", "{a: b}", ".nan", "'  '")
NO_COUNT = (
    "true",
    "-1",
    "1.0",
    "1.5",
    "'8'",
    "ten",
    "1e3",
    "[1]",
    "{}",
    "2023-03-28",
    ".inf",
    "-.inf",
    ".nan",
    str(10**30),
    "9" * 400,
)
NO_SWITCH = ("0", "1", "'true'", "'no'", "[true]", "{}", "2023-03-28", ".nan")
NO_SECONDS = (
    "true",
    "-1",
    "-0.001",
    "'8'",
    "8s",
    "[1]",
    "{}",
    "2023-03-28",
    ".inf",
    "-.inf",
    ".nan",
    "1.0e+10",
    "9" * 400,
    "0x" + "f" * 400,
)
NO_URL = (
    *NO_TEXT,
    "target.example",
    "//target.example/x",
    "target.example:80",
    "ftp://target.example",
    "http://",
    "http:///x",
    "http:target.example",
    "http://user@target.example/",
    "http://user:pass@target.example/",
    "http://@target.example/",
    "http://:@target.example/",
    "http://target.example:/",
    "http://target.example:0/",
    "http://target.example:65536/",
    "http://target.example:-1/",
    "http://target.example:http/",
    "http://target example/",
    "http://target.example/a b",
    "http://[::1",
    "http://[::g]/",
    '"http://target.example/\\r\\nX: y"',
    '"http://target.example/\\tx"',
    '"http://target.example/\\0"',
    '"http://target.example/\\x7f"',
    '"http://\\ud800/"',
)
NO_ZONE = (
    *NO_TEXT,
    "Mars/Olympus",
    "America",
    "../UTC",
    "/etc/localtime",
    "+01:00",
    '"UTC\\0"',
    '"\\ud800"',
    "x" * 300,
)
NO_LEVEL = (
    "info",
    "42",
    "true",
    "[info]",
    "{level: info}",
    "{log_level: loud}",
    "{log_level: 1}",
    "{log_level: 0}",
    "{log_level: off}",
    "{log_level: []}",
    "{log_level: [info]}",
    "{log_level: {}}",
    "{log_level: info, more: 1}",
    "{1: info}",
)
NO_WORD = (*NO_TEXT, "'a b'", "ключ", '"a\\nb"', '"a\\x7f"')
NO_NUMBER = ("true", "-1", "-0.1", "'1'", "high", "[1]", "{}", ".inf", ".nan", "9" * 400)
NO_HEADERS = (
    "42",
    "text",
    "[a]",
    "{1: a}",
    "{'': a}",
    "{a b: c}",
    "{'a:b': c}",
    "{ü: c}",
    "{A: [b]}",
    "{A: 1}",
    "{A: ''}",
    "{A: x, a: y}",
    '{A: "x\\r\\nB: y"}',
    '{A: "\\0"}',
    "{A: é}",
    "{A: {env: UNHEARD_OF}}",
    "{A: {env: [X]}}",
    "{A: {env: X, file: /x}}",
    "{A: {file: /nonexistent/file}}",
    "{A: {file: relative}}",
    "{A: {file: /}}",
    "{Host: x}",
    "{content-type: x}",
    "{Content-Length: x}",
    "{transfer-encoding: x}",
    "{Connection: x}",
    "{traceparent: x}",
    "{Accept-Encoding: br}",
)
NO_BODY = (
    "42",
    "text",
    "[a]",
    "{1: a}",
    "{a: {1: b}}",
    "{a: [{true: b}]}",
    "{a: 2023-03-28}",
    "{a: .nan}",
    '{a: "\\ud800"}',
    "{a: !!binary aGk=}",
    "{messages: []}",
    "{stream: true}",
    "{n: 2}",
    "{model: x}",
    "{temperature: 1}",
    "{max_completion_tokens: 1}",
)
NO_INCLUDE = ("42", "usage", "{usage: true}", "[answer]", "[usage, usage]", "[[usage]]", "[1]")
NO_WEBHOOK = (
    *NO_TEXT,
    "secret",
    "whsec_",
    "whsec_!!!!",
    "whsec_a",
    "whsec_YQ===",
    "whsec_YWI==",
    "[whsec_]",
    "[1]",
    "{file: /nonexistent/file}",
    "{env: UNHEARD_OF}",
)

NO_ORIGINS = (
    "42",
    "https://app.example",
    "{a: b}",
    "[42]",
    "[null]",
    "['null']",
    "['*']",
    "['https://*.example']",
    "[app.example]",
    "['//app.example']",
    "['https://app.example/']",
    "['https://app.example/path']",
    "['https://ann@app.example']",
    "['https://app.example:']",
    "['https://app.example:0']",
    "['https://app.example:65536']",
    "['https://bücher.example']",
    "['http://[::1']",
    "['http://[1:2]']",
    "['ftp://app.example']",
    "['https://app.example', '']",
)
NO_AUTH = (
    "42",
    "text",
    "[a]",
    "{}",
    "{bearer: []}",
    "{bearer: token}",
    "{bearer: {a: b}}",
    "{bearer: ['a b']}",
    "{bearer: [ключ]}",
    "{bearer: [1]}",
    "{bearer: [[a]]}",
    "{bearer: ['']}",
    "{bearer: null}",
    "{bearer: [a], basic: null}",
    "{bearer: [{env: UNHEARD_OF}]}",
    "{bearer: [{file: relative}]}",
    "{bearer: [{file: /nonexistent/file}]}",
    "{basic: {}}",
    "{basic: [a]}",
    "{basic: {a: 1}}",
    "{basic: {1: a}}",
    "{basic: {'a:b': c}}",
    "{basic: {'': c}}",
    '{basic: {"a\\nb": c}}',
    '{basic: {"\\ud800": c}}',
    '{basic: {a: "b\\nc"}}',
    '{basic: {a: "b\\0"}}',
    "{basic: {a: {env: UNHEARD_OF}}}",
    "{digest: {a: b}}",
    "{bearer: [a], more: b}",
)
NO_TARGETS = (
    "42",
    "text",
    "[a]",
    "{1: {url: http://h}}",
    "{'': {url: http://h}}",
    "{Billing: {url: http://h}}",
    "{-a: {url: http://h}}",
    "{a-: {url: http://h}}",
    "{a_b: {url: http://h}}",
    f"{{{'a' * 64}: {{url: http://h}}}}",
    *(
        f"{{{name}: {{url: http://h}}}}"
        for name in ("none", "target", "default", "model", "dead-letter", "dead_letter")
    ),
    "{a: http://h}",
    "{a: {}}",
    "{a: {url: null}}",
    "{a: {url: h}}",
    "{a: {url: http://h, more: 1}}",
    "{a: {url: http://h, 1: 1}}",
    "{a: {url: http://h, headers: {ce-id: x}}}",
    "{a: {url: http://h, headers: {A: {env: UNHEARD_OF}}}}",
    "{a: {url: http://h, signing_secret: x}}",
    "{a: {url: http://h, content_mode: batch}}",
)
NO_POINTER = (*NO_TEXT, "''", "a", "a/b", "/~", "/~2", "'#/a'", '"/\\0"', '"/\\ud800"')
NO_COPIES = (
    "42",
    "text",
    "[a]",
    "{1: a}",
    "{a: 1}",
    "{a: data}",
    "{a: B}",
    "{A: b}",
    "{subject: b}",
    "{a_b: c}",
    "{a: ''}",
    f"{{{'a' * 65}: b}}",
)
NO_HOSTS = (
    "42",
    "h.example",
    "{a: b}",
    "[42]",
    "['']",
    "['*.example']",
    "['http://h.example']",
    "['h.example:443']",
    "['-h']",
    "['a..b']",
    "[bücher.example]",
    f"[{'a.' * 200}b]",
)

BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "target": (URL, NO_URL),
    "token": ("", (*NO_TEXT, "'a b'", "ключ", '"a\\nb"', '"a\\0"', '"a\\x7f"')),
    "port": (POSITIVE, (*NO_COUNT, "0", "65536")),
    "listen": (f"{STRING}|an endpoint string, not a number: .* tcp:8080, or set `port`$", NO_TEXT),
    "auth": ("a mapping with `bearer`", NO_AUTH),
    "allow_origins": ("a list of origins of pages", NO_ORIGINS),
    "admin_auth": ("a mapping with `bearer`", NO_AUTH),
    "everyday_limit": (POSITIVE, (*NO_COUNT, "0")),
    "timezone": (ZONE, NO_ZONE),
    "base_url": (URL, NO_URL),
    "api_version": ("", (*NO_WORD, "2024-10-21", "a&b", "'a#b'", "'%zz'")),
    "organization": ("", NO_WORD),
    "project": ("", NO_WORD),
    "headers": (HEADERS, NO_HEADERS),
    "admin": (f"{STRING}|an endpoint string, .* tcp:9464:interface=127.0.0.1$", NO_TEXT),
    "api": ("one of chat, responses", (*NO_TEXT, "Chat", "batch")),
    "background": ("true or false", NO_SWITCH),
    "forget_responses": ("true or false", NO_SWITCH),
    "model": (STRING, NO_TEXT),
    "system_prompt": (STRING, NO_TEXT),
    "max_tokens": (POSITIVE, (*NO_COUNT, "0")),
    "temperature": ("a number from 0 to 2", (*NO_NUMBER, "2.1")),
    "top_p": ("a number from 0 to 1", (*NO_NUMBER, "1.01")),
    "reasoning_effort": ("", NO_WORD),
    "body": ("", NO_BODY),
    "openai_timeout": (ABOVE_0, (*NO_SECONDS, "0", "0.0")),
    "concurrency": (POSITIVE, (*NO_COUNT, "0")),
    "fallbacks": (
        "a list of providers",
        (
            "42",
            "text",
            "{}",
            "[text]",
            "[{}]",
            "[{base_url: http://s}]",
            "[{token: t}]",
            "[{base_url: http://s, token: t, token_file: /t}]",
            "[{base_url: http://s, token: t, everyday_limit: 1}]",
            "[{base_url: nowhere, token: t}]",
            "[{base_url: http://s, token: 'a b'}]",
            "[{base_url: http://s, token: t, name: A}]",
            "[{base_url: http://s, token: t, name: flex}]",
            "[{base_url: http://s, token: t, concurrency: 0}]",
        ),
    ),
    "fallback_after_timeout": ("true or false", NO_SWITCH),
    "prices": (
        "a mapping of models' names to their prices",
        (
            "42",
            "text",
            "[a]",
            "{a: 1}",
            "{a: {}}",
            "{a: {input: 1}}",
            "{a: {output: 1, cached_input: 1}}",
            "{a: {input: 1, output: 1, total: 1}}",
            "{a: {input: -1, output: 1}}",
            "{a: {input: 1, output: '1'}}",
            "{a: {input: 1, output: .nan}}",
            "{a: {input: 1, output: 1, cached_input: true}}",
            "{a: {input: 1, output: 1000001}}",
            "{a b: {input: 1, output: 1}}",
            "{1: {input: 1, output: 1}}",
        ),
    ),
    "journal": (STRING, NO_TEXT),
    "journal_password": ("the password: one line", (*NO_TEXT, '"a\\nb"')),
    "include": ("a list of some of", NO_INCLUDE),
    "content_mode": ("one of structured, binary", (*NO_TEXT, "Binary", "batch")),
    "ca_file": (
        "the absolute path of a file",
        (*NO_TEXT, "relative", "/", "/nonexistent", __file__),
    ),
    "target_headers": (HEADERS, (*NO_HEADERS, "{ce-id: x}", "{Webhook-Signature: x}")),
    "signing_secret": (WEBHOOK, NO_WEBHOOK),
    "targets": ("a mapping of names to targets", NO_TARGETS),
    "send_event_attempts": (COUNT, NO_COUNT),
    "dead_letter": (URL, NO_URL),
    "give_up_after": (SECONDS, NO_SECONDS),
    "deadline": (ABOVE_0, (*NO_SECONDS, "0")),
    "flex_over": (SECONDS, NO_SECONDS),
    "batch_over": (SECONDS, NO_SECONDS),
    "batch_window": (SECONDS, NO_SECONDS),
    "batch_margin": (SECONDS, NO_SECONDS),
    "prompt_pointer": ("a JSON Pointer|a string of whole", NO_POINTER),
    "copy_extensions": ("a mapping of new extensions", NO_COPIES),
    "response_format": (
        r"an object .*like \{|an object with a valid schema|a mapping",
        (
            "42",
            "text",
            "[a]",
            "{}",
            "{type: grammar}",
            "{type: json_schema}",
            "{type: json_schema, json_schema: {schema: {}}}",
            "{type: json_schema, json_schema: {name: a b, schema: {}}}",
            "{type: json_schema, json_schema: {name: a, schema: true}}",
            "{type: json_schema, json_schema: {name: a, schema: {type: MARKED}}}",
            "{type: json_object, x: .nan}",
            "{type: json_object, 1: 2}",
            "{type: json_object, x: 2020-01-01}",
        ),
    ),
    "callers_may_set": ("a list of some of", ("42", "model", "[top_p]", "[model, model]", "[1]")),
    "webhook_origins": ("a list of host names", NO_HOSTS),
    "keep_answers": (SECONDS, NO_SECONDS),
    "max_wait": (SECONDS, NO_SECONDS),
    "reply": (SECONDS, NO_SECONDS),
    "max_batch": (POSITIVE, (*NO_COUNT, "0", "1001")),
    "max_body_size": (POSITIVE, (*NO_COUNT, "0")),
    "max_backlog": (POSITIVE, (*NO_COUNT, "0")),
    "keep": (SECONDS, NO_SECONDS),
    "drain_timeout": (SECONDS, NO_SECONDS),
    "log_config": (LEVEL, NO_LEVEL),
    "log_format": ("one of auto, text, json", (*NO_TEXT, "JSON", "logfmt")),
}

NOT_GIVEN = {"extensions": {}, "authorities": (), "proxies": Proxies(), "warnings": ()}
"""What the settings are that no key sets."""

NO_FILE = Path("/nonexistent/config.yml")


class ConfigCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())

    def load(self, document: str | bytes | dict[str, Any], **environ: str) -> Config:
        if isinstance(document, dict):
            document = yaml.safe_dump(document)
        if isinstance(document, str):
            document = document.encode()
        self.file.write_bytes(document)
        return load({"CONNECTOR_CONFIG": str(self.file), **environ}, NO_FILE)

    def mistakes(self, document: str | bytes | dict[str, Any], **environ: str) -> tuple[str, ...]:
        error = self.assertRaises(ConfigError, self.load, document, **environ)
        for line in error.mistakes:
            self.assertEqual(len(line.splitlines()), 1, line)
        self.assertEqual(str(error), "\n".join(error.mistakes))
        return error.mistakes

    def mistake(self, document: str | bytes | dict[str, Any], **environ: str) -> str:
        mistakes = self.mistakes(document, **environ)
        self.assertEqual(len(mistakes), 1, mistakes)
        return mistakes[0]

    def mistake_in(self, key: str, value: str) -> str:
        """The one mistake of a document whose `key` has this value, written as YAML."""
        rest = yaml.safe_dump({name: GOOD[name] for name in GOOD if name != key})
        return self.mistake(f"{rest}{key}: {value}\n")


class KeyTests(ConfigCase):
    def test_defaults(self) -> None:
        config = attrs.asdict(self.load(GOOD), recurse=False)
        expected = {**GOOD, **DEFAULTS, **NOT_GIVEN, "token": Secret(TOKEN)}
        self.assertEqual(config, {**expected, "origin": str(self.file)})

    def test_each_default_is_the_type_of_its_key(self) -> None:
        config = self.load(GOOD)
        for name, default in DEFAULTS.items():
            self.assertIs(type(getattr(config, name)), type(default), name)

    def test_every_key_can_be_set(self) -> None:
        secret = Path(self.mktemp()).absolute()
        secret.write_text("Bearer b\n")
        key = Path(self.mktemp()).absolute()
        key.write_text("k2\n")
        authority = Path(self.mktemp()).absolute()
        authority.write_bytes(CERTIFICATE)
        values: dict[str, Any] = {
            "target": "https://t.example/x?y=1",
            "token": "t",
            "admin": "tcp:9464:interface=127.0.0.1",
            "listen": "tcp:65535",  # in the place of `port`
            "auth": {"bearer": ["b", {"env": "OTHER_KEY"}], "basic": {"ann": {"env": "OTHER_KEY"}}},
            "allow_origins": ["https://App.example", "http://localhost:3000", "http://[::1]:80"],
            "admin_auth": {"basic": {"größe": "a: b"}},
            "everyday_limit": 1,
            "timezone": "America/New_York",
            "base_url": "http://127.0.0.1:1234/v1",
            "api_version": "2024-10-21",
            "organization": "org-1",
            "project": "proj_1",
            "headers": {"X-Title": "a title", "api-key": {"env": "OTHER_KEY"}},
            "api": "responses",
            "background": True,
            "forget_responses": True,
            "model": "m",
            "system_prompt": "two\nlines\n",
            "max_tokens": 5,
            "temperature": 0.5,
            "top_p": 1,
            "reasoning_effort": "low",
            "response_format": FORMAT,
            "body": {"top_k": 4, "stop": ["x"]},
            "openai_timeout": 0.5,
            "concurrency": 1,
            "fallbacks": [
                {
                    "base_url": "http://Second:81/v1",
                    "token_file": str(key),
                    "headers": {"X-Title": {"env": "OTHER_KEY"}},
                    "top_p": None,
                },
                {
                    "name": "third",
                    "base_url": "http://second:81/v1",
                    "token": {"env": "OTHER_KEY"},
                    "api": "chat",
                    "concurrency": 2,
                },
            ],
            "fallback_after_timeout": True,
            "prices": {
                "m": {"input": 1, "output": 2.5},
                "gpt-4o": {"input": 1, "output": 2, "cached_input": None},
            },
            "journal": "postgresql://db/prompts",
            "journal_password": {"file": str(secret)},
            "include": ["usage", "prompt"],
            "content_mode": "binary",
            "ca_file": str(authority),
            "target_headers": {"Authorization": {"file": str(secret)}},
            "signing_secret": ["whsec_c2VjcmV0", {"env": "OLD_SECRET"}],
            "targets": {
                "billing-2": {
                    "url": "http://b/",
                    "headers": {"Authorization": {"file": str(secret)}},
                    "signing_secret": {"env": "OLD_SECRET"},
                    "content_mode": "binary",
                },
                "a": {"url": "http://a/", "headers": None},
            },
            "send_event_attempts": 7,
            "dead_letter": "http://127.0.0.1:9/letters",
            "give_up_after": 0,
            "deadline": 9999.5,
            "flex_over": 1.0,
            "batch_over": 9.0,
            "batch_window": 3.0,
            "batch_margin": 4.0,
            "prompt_pointer": "/a~1b/0/~0",
            "copy_extensions": {"replyid": "correlationid", "cause": "type"},
            "callers_may_set": ["model", "system"],
            "webhook_origins": ["EventGrid.azure.net", "*"],
            "keep_answers": 7,
            "max_wait": 0,
            "reply": 5,
            "max_batch": 1000,
            "max_body_size": 1,
            "max_backlog": 2,
            "keep": 0,
            "drain_timeout": 0,
            "log_config": {"log_level": "WARN"},
            "log_format": "json",
        }
        self.assertEqual(set(values), set(BAD) - {"port"})
        loaded = self.load(values, OTHER_KEY="k", OLD_SECRET="whsec_b2xk")
        config = attrs.asdict(loaded, recurse=False)
        expected = {
            **values,
            **NOT_GIVEN,
            "token": Secret("t"),
            "port": 8080,
            "auth": Credentials((Secret("b"), Secret("k")), {"ann": Secret("k")}),
            "allow_origins": ("https://app.example", "http://localhost:3000", "http://[::1]"),
            "admin_auth": Credentials((), {"größe": Secret("a: b")}),
            "headers": {"X-Title": Secret("a title"), "api-key": Secret("k")},
            "timezone": ZoneInfo("America/New_York"),
            "prices": {"m": Price(1.0, 2.5), "gpt-4o": Price(1.0, 2.0)},
            "fallbacks": (
                Fallback(
                    "second:81",
                    {
                        "base_url": "http://Second:81/v1",
                        "token": Secret("k2", key),
                        "headers": {"X-Title": Secret("k")},
                    },
                ),
                Fallback(
                    "third",
                    {
                        "base_url": "http://second:81/v1",
                        "token": Secret("k"),
                        "api": "chat",
                        "concurrency": 2,
                    },
                ),
            ),
            "journal_password": Secret("Bearer b", secret),
            "include": ("usage", "prompt"),
            "ca_file": (CERTIFICATE,),
            "target_headers": {"Authorization": Secret("Bearer b", secret)},
            "signing_secret": (Secret("whsec_c2VjcmV0"), Secret("whsec_b2xk")),
            "targets": {
                "billing-2": TargetSettings(
                    "http://b/",
                    {"Authorization": Secret("Bearer b", secret)},
                    (Secret("whsec_b2xk"),),
                    "binary",
                ),
                "a": TargetSettings("http://a/"),
            },
            "callers_may_set": ("model", "system"),
            "webhook_origins": ("eventgrid.azure.net", "*"),
            "log_level": "warn",
        }
        del expected["log_config"]
        self.assertEqual(config, {**expected, "origin": str(self.file)})
        for name in ("give_up_after", "keep", "drain_timeout", "keep_answers", "max_wait", "reply"):
            self.assertIs(type(config[name]), float)

    def test_port_or_listen(self) -> None:
        self.assertEqual(self.load({**GOOD, "port": 65535}).port, 65535)
        line = self.mistake({**GOOD, "port": 8080, "listen": "tcp:8080"})
        self.assertIn("`listen` must not be set beside `port`", line)

    def test_a_journal_s_url(self) -> None:
        for url in ("postgresql://u@db/prompts", "postgres:///prompts?host=/run/postgresql"):
            self.assertEqual(self.load({**GOOD, "journal": url}).journal, url)
        for url in (
            "mysql://db/prompts",
            "postgresql://",
            "http://MARKED",
            "postgresql:/u:MARKED@h/db",
            "postgressql://u:MARKED@h/db",
            "host=db password=MARKED dbname=prompts",
        ):
            line = self.mistake({**GOOD, "journal": url})
            self.assertIn("`journal` must be a path, or a URL that begins with postgresql://", line)
            self.assertNotIn("MARKED", line)

    def test_a_journal_s_password(self) -> None:
        line = self.mistake({**GOOD, "journal_password": "MARKED"})
        self.assertIn("`journal_password` must not be set for a journal in a file", line)
        url = "postgresql://u:MARKED@db/prompts"
        config = self.load({**GOOD, "journal": url, "journal_password": "MARKED"})
        self.assertNotIn("MARKED", repr(config))
        self.assertEqual(
            read_journal({"CONNECTOR_CONFIG": str(self.file)}, NO_FILE), (url, Secret("MARKED"))
        )
        self.assertEqual(read_journal({}, NO_FILE), ("journal.sqlite", None))

    def test_a_form_that_is_set_twice(self) -> None:
        form = {"type": "json_object"}
        self.assertEqual(
            self.load({**GOOD, "body": {"response_format": form}}).body, {"response_format": form}
        )
        line = self.mistake({**GOOD, "response_format": form, "body": {"response_format": form}})
        self.assertIn("`response_format` must not be set in `body` as well", line)

    def test_the_place_in_a_schema_that_is_wrong(self) -> None:
        schema = {"properties": {"a": {"type": "MARKED"}}}
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        self.assertEqual(
            self.mistake({**GOOD, "response_format": form}),
            "`response_format` must be an object with a valid schema, but its schema is not valid"
            " at /properties/a/type",
        )

    def test_a_mistake_in_credentials_shows_neither_user_nor_secret(self) -> None:
        for auth in (
            {"bearer": ["fine", "MARKED token"]},
            {"basic": {"MARKED": 1}},
            {"basic": {"MARKED:x": "y"}},
            {"basic": {"x": "MARKED\n\n"}},
            {"MARKED": 1},
        ):
            self.assertNotIn("MARKED", self.mistake({**GOOD, "auth": auth}))
        line = self.mistake({**GOOD, "auth": {"bearer": ["fine", "MARKED token"]}})
        self.assertIn("token no. 2 must be", line)

    def test_a_password_in_a_file_is_its_line(self) -> None:
        secret = Path(self.mktemp()).absolute()
        secret.write_text(" two words \r\n")
        config = self.load({**GOOD, "auth": {"basic": {"ann": {"file": str(secret)}}}})
        assert config.auth
        self.assertEqual(config.auth.basic["ann"].read(), " two words ")

    def test_null_is_not_set(self) -> None:
        lines = "".join(f"{name}: null\n" for name in BAD if name not in GOOD)
        config = self.load(yaml.safe_dump(GOOD) + lines)
        for name, default in DEFAULTS.items():
            self.assertEqual(getattr(config, name), default, name)

    def test_token_is_stripped(self) -> None:
        self.assertEqual(self.load({**GOOD, "token": f" {TOKEN}\n"}).token, Secret(TOKEN))

    def test_token_is_not_in_repr(self) -> None:
        self.assertNotIn(TOKEN, repr(self.load(GOOD)))

    def test_frozen(self) -> None:
        config = self.load(GOOD)
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            config.port = 1  # type: ignore[misc]

    def test_largest_values(self) -> None:
        big = {"everyday_limit": 10**12, "max_tokens": 10**9, "max_backlog": 10**9, "keep": 10**9}
        config = self.load({**GOOD, **big})
        self.assertEqual((config.everyday_limit, config.keep), (10**12, 1e9))

    def test_origin(self) -> None:
        self.assertEqual(self.load(GOOD).origin, str(self.file))


def _bad_value_test(key: str, value: str, expected: str) -> Any:
    def test(self: ConfigCase) -> None:
        line = self.mistake_in(key, value)
        self.assertRegex(line, rf"^`{key}` must be {expected}")

    return test


class BadValueTests(ConfigCase):
    """Each bad value of each key is one line that names the key and says what it must be."""


for _key, (_expected, _values) in BAD.items():
    for _number, _value in enumerate(_values):
        setattr(
            BadValueTests,
            f"test_{_key}_{_number}_{''.join(c for c in _value if c.isalnum())[:20]}",
            _bad_value_test(_key, _value, _expected),
        )


class AllMistakesTests(ConfigCase):
    def test_all_at_once(self) -> None:
        bad = {key: yaml.safe_load(values[0]) for key, (_, values) in BAD.items()}
        lines = self.mistakes({**bad, "unheard_of": 1, "vanus": {}})
        for key in [*BAD, "unheard_of", "vanus"]:
            self.assertEqual(sum(line.startswith(f"`{key}` ") for line in lines), 1, key)
        self.assertEqual(len(lines), len(BAD) + 2)

    def test_required(self) -> None:
        lines = self.mistakes("port: 80")
        self.assertEqual(len(lines), 2)
        self.assertIn("`target` is missing", lines[0])
        self.assertIn("CONNECTOR_TARGET or K_SINK", lines[0])
        self.assertIn("`token` is missing", lines[1])
        self.assertIn("`token_file`", lines[1])
        self.assertIn("OPENAI_API_KEY", lines[1])

    def test_unknown_key_is_explained(self) -> None:
        self.assertIn("did you mean `everyday_limit`?", self.mistake({**GOOD, "everyday_limt": 1}))
        self.assertIn("did you mean `port`?", self.mistake({**GOOD, "Port": 1}))
        line = self.mistake({**GOOD, "zzz": 1})
        for key in BAD:
            self.assertIn(key, line)

    def test_internal_names_are_not_keys(self) -> None:
        for name in ("origin", "warnings", "log_level"):
            self.assertIn(f"`{name}` is not a known key", self.mistake({**GOOD, name: "info"}))

    def test_keys_that_are_not_text(self) -> None:
        for key in ("1", "1.5", "true", "null", "2023-03-28", "''"):
            self.assertIn("a key is unknown", self.mistake(f"{yaml.safe_dump(GOOD)}{key}: x"))


class ApiSettingsTests(ConfigCase):
    """What is beside the table: settings that come from files, or that exclude each other."""

    def test_token_file(self) -> None:
        file = Path(self.mktemp()).absolute()
        file.write_text(f"{TOKEN}\n")
        document = {"target": GOOD["target"], "token_file": str(file)}
        for environ in ({}, {"OPENAI_API_KEY": "other"}):
            self.assertEqual(self.load(document, **environ).token.read(), TOKEN)
        self.assertIn("keep one of them", self.mistake({**document, "token": "t"}))
        file.write_text("MARK ED")
        for wrong in (str(file), "/nonexistent/file", "sk-MARKED", 42, [], {"a": "b"}):
            line = self.mistake({**document, "token_file": wrong})
            self.assertTrue(line.startswith("`token_file` must be"), line)
            self.assertNotIn("MARK", line)

    def test_forms_of_the_token(self) -> None:
        config = self.load({**GOOD, "token": {"env": "MY_KEY"}}, MY_KEY=f" {TOKEN}\n")
        self.assertEqual(config.token.read(), TOKEN)
        line = self.mistake({**GOOD, "token": {"env": "MY_KEY"}}, MY_KEY="MARK ED")
        self.assertNotIn("MARK", line)
        line = self.mistake({**GOOD, "token": {"env": "MY_KEY"}})
        self.assertIn("the variable it names is not set", line)

    def test_chat_completions_is_added_by_us(self) -> None:
        for url in ("http://h/v1/chat/completions", "http://h/chat/completions/?x=y"):
            line = self.mistake({**GOOD, "base_url": url})
            self.assertIn("`base_url` must be the URL before /chat/completions", line)
        line = self.mistake({**GOOD, "base_url": "http://h/v1/responses/"})
        self.assertIn("`base_url` must be the URL before /responses", line)

    def test_one_way_to_limit_an_answer(self) -> None:
        self.assertEqual(self.load({**GOOD, "body": {"max_tokens": 5}}).body, {"max_tokens": 5})
        line = self.mistake({**GOOD, "max_tokens": 5, "body": {"max_tokens": 5}})
        self.assertIn("keep the one that your server knows", line)

    def test_a_mistake_in_targets_names_the_place(self) -> None:
        for target, place in (
            ({"url": "h"}, "under `billing`, `url` must be an http:// or https:// URL"),
            ({"headers": {}}, "under `billing`, `url` is missing"),
            ({"url": "http://h", "headers": {"A": 1}}, "`headers` must be .*; A must be"),
            ("MARKED", "under `billing`, there must be `url`, and perhaps `headers`"),
            ({"MARKED": "http://h"}, "under `billing`, there must be `url`"),
        ):
            line = self.mistake({**GOOD, "targets": {"billing": target}})
            self.assertRegex(line, place)
            self.assertNotIn("MARKED", line)
        wrong = {"url": "h", "content_mode": "x"}
        line = self.mistake({**GOOD, "targets": {"a": wrong, "b": {}}})
        self.assertRegex(line, "`a`, `content_mode` must .*, and `url` must .*; under `b`, `url`")
        line = self.mistake({**GOOD, "targets": {"a": {"url": "http://h"}, "sk-marked0": {}}})
        self.assertIn("under target no. 2, `url`", line)
        line = self.mistake({**GOOD, "targets": {"MARKED": {"url": "http://h"}}})
        self.assertIn("the name of target no. 1 must be", line)
        self.assertNotIn("MARKED", line)

    def test_a_targets_secrets_are_in_no_repr(self) -> None:
        target = {"url": "http://h", "headers": {"A": "MARKED"}, "signing_secret": "whsec_MARK"}
        self.assertNotIn("MARK", repr(self.load({**GOOD, "targets": {"a": target}})))

    def test_a_reply_needs_kept_answers(self) -> None:
        for kept in ({}, {"keep_answers": 0}, {"keep_answers": None}):
            line = self.mistake({**GOOD, "reply": 1, **kept})
            self.assertTrue(line.startswith("`reply` must be 0 where `keep_answers` is 0"), line)
        self.assertEqual(self.load({**GOOD, "reply": 0}).reply, 0)
        self.assertTrue(self.mistake({**GOOD, "reply": 1, "keep_answers": "x"}).startswith("`keep"))

    def test_the_background_needs_the_responses_api(self) -> None:
        for api in ({}, {"api": "chat"}, {"api": None}):
            line = self.mistake({**GOOD, **api, "background": True})
            self.assertTrue(line.startswith("`background` must be false unless"), line)
            self.assertIn("set `api: responses`", line)
        self.assertFalse(self.load({**GOOD, "background": False}).background)
        line = self.mistake({**GOOD, "api": "x", "background": True, "forget_responses": True})
        self.assertTrue(line.startswith("`api` must be"), line)

    def test_only_what_has_an_id_can_be_forgotten(self) -> None:
        for background in ({}, {"background": False}, {"background": None}):
            line = self.mistake(
                {**GOOD, "api": "responses", **background, "forget_responses": True}
            )
            self.assertTrue(line.startswith("`forget_responses` must be false unless"), line)
        line = self.mistake(
            {**GOOD, "api": "responses", "background": "x", "forget_responses": True}
        )
        self.assertTrue(line.startswith("`background` must be true or false"), line)

    def test_members_of_the_responses_api_that_have_a_setting(self) -> None:
        for member, advice in (
            ("input", "each prompt is its own"),
            ("instructions", "set `system_prompt` instead"),
            ("max_output_tokens", "set `max_tokens` instead"),
            ("background", "set `background` instead"),
        ):
            body = {"body": {member: 1}}
            line = self.mistake({**GOOD, "api": "responses", **body})
            self.assertEqual(line, f"`body` must be without `{member}`: {advice}")
            self.load({**GOOD, **body})

    def test_every_webhook_origin(self) -> None:
        self.assertEqual(self.load({**GOOD, "webhook_origins": "*"}).webhook_origins, ("*",))

    def test_headers_mistake_shows_no_value(self) -> None:
        line = self.mistake({**GOOD, "headers": {"X-Key": "MARK\nED"}})
        self.assertIn("X-Key must be", line)
        self.assertNotIn("MARK", line)
        self.assertNotIn("sk-MARKED0", self.mistake({**GOOD, "headers": {"sk-MARKED0": 1}}))

    def test_authorities_of_the_platform(self) -> None:
        config = self.load(GOOD, K_CA_CERTS=CERTIFICATE.decode())
        self.assertEqual((config.authorities, config.ca_file), ((CERTIFICATE,), ()))
        line = self.mistake(GOOD, K_CA_CERTS="MARKED")
        self.assertTrue(line.startswith("K_CA_CERTS must be one or more certificates"), line)
        self.assertNotIn("MARKED", line)

    def test_proxies(self) -> None:
        config = self.load(GOOD, HTTPS_PROXY="http://proxy:3128", no_proxy="a.example")
        self.assertEqual(config.proxies.https, Proxy("proxy", 3128))
        self.assertIsNone(config.proxies.of("https", "a.example", 443))
        lines = self.mistakes({**GOOD, "port": 0}, HTTPS_PROXY="socks5://MARKED")
        self.assertTrue(any(line.startswith("HTTPS_PROXY must be") for line in lines), lines)
        self.assertEqual(len(lines), 2)
        self.assertNotIn("MARKED", "".join(lines))

    def test_overrides(self) -> None:
        for value, expected in (
            ('{"extensions": {"cluster": "a", "x2": ""}}', {"cluster": "a", "x2": ""}),
            ("{}", {}),
            ('{"extensions": null}', {}),
            (" ", {}),
        ):
            self.assertEqual(self.load(GOOD, K_CE_OVERRIDES=value).extensions, expected)
        for wrong in (
            "MARKED",
            "[]",
            '{"extensions": ["MARKED"]}',
            '{"extensions": {"MARKED": "x"}}',
            '{"extensions": {"id": "MARKED"}}',
            '{"extensions": {"a": 1}}',
            '{"extensions": {"a": "MARKED\\n"}}',
            "[" * 100000,
        ):
            line = self.mistake(GOOD, K_CE_OVERRIDES=wrong)
            self.assertTrue(line.startswith("K_CE_OVERRIDES must be JSON like"), line)
            self.assertNotIn("MARKED", line)


class EnvironmentTests(ConfigCase):
    def env(self, **environ: str) -> Config:
        return load(environ, NO_FILE)

    def test_environment_alone(self) -> None:
        config = self.env(K_SINK="http://sink/", OPENAI_API_KEY=TOKEN)
        self.assertEqual((config.target, config.token.read()), ("http://sink/", TOKEN))
        self.assertEqual(config.origin, "the environment")
        for name, default in DEFAULTS.items():
            self.assertEqual(getattr(config, name), default, name)

    def test_connector_target_goes_before_k_sink(self) -> None:
        environ = {"CONNECTOR_TARGET": "http://c/", "K_SINK": "http://k/", "OPENAI_API_KEY": "t"}
        self.assertEqual(self.env(**environ).target, "http://c/")
        for blank in ("", " "):
            config = self.env(**{**environ, "CONNECTOR_TARGET": blank})
            self.assertEqual(config.target, "http://k/")

    def test_every_fallback(self) -> None:
        config = self.env(
            K_SINK="http://k/",
            OPENAI_API_KEY=f"{TOKEN}\n",
            OPENAI_BASE_URL="http://model/v1",
            OPENAI_ORG_ID="org-1",
            OPENAI_PROJECT_ID="proj_1",
            LOG_LEVEL="DEBUG",
        )
        self.assertEqual((config.organization, config.project), ("org-1", "proj_1"))
        self.assertEqual(config.token.read(), TOKEN)
        self.assertEqual(config.base_url, "http://model/v1")
        self.assertEqual(config.log_level, "debug")

    def test_file_goes_first(self) -> None:
        config = self.load(
            {**GOOD, "base_url": "http://file/v1", "log_config": {"log_level": "warn"}},
            CONNECTOR_TARGET="http://c/",
            K_SINK="http://k/",
            OPENAI_API_KEY="other",
            OPENAI_BASE_URL="http://env/v1",
            LOG_LEVEL="debug",
        )
        self.assertEqual((config.target, config.token.read()), (GOOD["target"], TOKEN))
        self.assertEqual((config.base_url, config.log_level), ("http://file/v1", "warn"))

    def test_empty_in_the_file_leaves_it_to_the_environment(self) -> None:
        for empty in ("''", "null", ""):
            config = self.load(
                f"target: {empty}\ntoken: {empty}\nbase_url: {empty}\nlog_config: {empty}\n",
                K_SINK="http://k/",
                OPENAI_API_KEY=TOKEN,
                OPENAI_BASE_URL="http://model/v1",
                LOG_LEVEL="error",
            )
            self.assertEqual((config.target, config.token.read()), ("http://k/", TOKEN))
            self.assertEqual((config.base_url, config.log_level), ("http://model/v1", "error"))

    def test_empty_log_config_leaves_it_to_the_environment(self) -> None:
        for empty in ({}, {"log_level": None}, {"log_level": ""}):
            config = self.load({**GOOD, "log_config": empty}, LOG_LEVEL="error")
            self.assertEqual(config.log_level, "error")

    def test_bad_value_in_the_file_is_not_papered_over(self) -> None:
        line = self.mistake({**GOOD, "target": "nonsense"}, K_SINK="http://k/")
        self.assertTrue(line.startswith("`target` must be"), line)

    def test_mistakes_name_the_variable_and_hold_no_value(self) -> None:
        environ = {
            "CONNECTOR_TARGET": "MARKED",
            "OPENAI_API_KEY": "MAR KED",
            "OPENAI_BASE_URL": "MARKED",
            "LOG_LEVEL": "MARKED",
        }
        error = self.assertRaises(ConfigError, self.env, **environ)
        self.assertEqual(len(error.mistakes), 4)
        for name in environ:
            self.assertEqual(sum(line.startswith(name) for line in error.mistakes), 1, name)
        self.assertNotIn("MAR", str(error))

    def test_nothing_else_is_taken_from_the_environment(self) -> None:
        environ = {"K_SINK": "http://k/", "OPENAI_API_KEY": "t"}
        others = {name.upper(): "7" for name in BAD} | {"OPENAI_MODEL": "m", "TZ": "Asia/Tokyo"}
        self.assertEqual(self.env(**environ, **others), self.env(**environ))

    def test_every_level(self) -> None:
        for level in LEVELS:
            config = self.load({**GOOD, "log_config": {"log_level": level.title()}})
            self.assertEqual(config.log_level, level)


class FileTests(ConfigCase):
    def test_named_file_must_exist(self) -> None:
        gone = self.mktemp()
        error = self.assertRaises(ConfigError, load, {"CONNECTOR_CONFIG": gone}, NO_FILE)
        self.assertIn(gone, str(error))
        self.assertIn("CONNECTOR_CONFIG", str(error))
        self.assertIn("does not exist", str(error))

    def test_default_file_is_read_if_it_is_there(self) -> None:
        self.file.write_text(yaml.safe_dump({**GOOD, "port": 99}))
        for environ in ({}, {"CONNECTOR_CONFIG": ""}):
            config = load(environ, self.file)
            self.assertEqual((config.port, config.origin), (99, str(self.file)))

    def test_default_file_is_optional(self) -> None:
        environ = {"K_SINK": "http://k/", "OPENAI_API_KEY": "t"}
        self.assertEqual(load(environ, NO_FILE).origin, "the environment")

    def test_named_file_replaces_the_default_one(self) -> None:
        default = Path(self.mktemp())
        default.write_text("port: 99")
        self.file.write_text(yaml.safe_dump(GOOD))
        config = load({"CONNECTOR_CONFIG": str(self.file)}, default)
        self.assertEqual(config.port, 8080)

    def test_directory(self) -> None:
        self.file.mkdir()
        error = self.assertRaises(ConfigError, load, {"CONNECTOR_CONFIG": str(self.file)})
        self.assertRegex(str(error), "can't be read: .*directory")

    def test_unreadable(self) -> None:
        self.file.write_text("token: MARKED")
        self.file.chmod(0)
        if os.access(self.file, os.R_OK):
            raise SkipTest("root reads everything")
        error = self.assertRaises(ConfigError, load, {"CONNECTOR_CONFIG": str(self.file)})
        self.assertRegex(str(error), "can't be read by this user.*docker run --user")

    def test_empty(self) -> None:
        for empty in (b"", b"\n\n", b"# nothing\n", b"---\n", b"null\n", b"\xef\xbb\xbf"):
            config = self.load(empty, K_SINK="http://k/", OPENAI_API_KEY="t")
            self.assertEqual(config.port, 8080)

    def test_not_a_mapping(self) -> None:
        for other in ("- a\n- b\n", "port 80", "42", "true", "!!set {a}", "[]", "''"):
            self.assertIn("must hold a mapping", self.mistake(other), other)

    def test_not_yaml(self) -> None:
        junk = (
            b"\x00",
            b"\xff\xfe\x00",
            b"port: \xff",
            b"token: caf\xe9",
            bytes(range(256)),
            b"\x7fELF\x02\x01\x01",
            b"a: b: c",
            b"\tport: 80",
            b"port: '80",
            b"port: [80",
            b"{port: 80",
            b"&a *a",
            b"*gone",
            b"%YAML 9.9\n---\na: 1",
            b"a: 1\n---\nb: 2",
            b"a: 2023-99-99",
            b"port: !!python/object/apply:os.system [id]",
            b"? [a]\n: b",
            b"? {a: b}\n: c",
            b"target: {{ .Values.target }}",
            b"a: !!bool x",
            b"a: !!timestamp x",
            b"a: !!int ''",
            b"a: !!int x",
            b"a: !!float ''",
            b"a: !!null x",
            b"a: !!binary x",
            b"a: !!map x",
            b"<<: x",
            b"port: " + b"9" * 5000,
            b"[" * 5000,
            b"a: " + b"{a: " * 5000,
        )
        for document in junk:
            mistakes = self.mistakes(document)
            self.assertTrue(mistakes, document)

    def test_place_is_named(self) -> None:
        line = self.mistake("port: 80\ntarget: 'http")
        self.assertIn(f"config file {self.file}", line)
        self.assertIn("line 2", line)

    def test_key_given_twice(self) -> None:
        line = self.mistake(yaml.safe_dump(GOOD) + "port: 1\nmodel: m\nport: 2\n")
        self.assertIn("a key is given twice at line 5, column 1", line)
        self.mistake(yaml.safe_dump(GOOD) + "port: 1\n'port': 1\n")
        self.assertIn("twice", self.mistake("log_config: {log_level: a, log_level: b}"))

    def test_numbers_that_yaml_reads_as_others(self) -> None:
        for number, word in (
            ("0600", "as octal"),
            ("-0_1", "as octal"),
            ("24:00", "in units of 60"),
            ("1:30:00", "in units of 60"),
            ("1:30.5", "in units of 60"),
        ):
            line = self.mistake(f"{yaml.safe_dump(GOOD)}deadline: {number}\n")
            self.assertIn(word, line)
            self.assertIn("at line 3, column 11", line)
        for number, read in (("0", 0.0), ("600", 600.0), ("0.5", 0.5), ("0x10", 16.0)):
            config = self.load(f"{yaml.safe_dump(GOOD)}give_up_after: {number}\n")
            self.assertEqual(config.give_up_after, read)
        self.assertEqual(self.load(f"{yaml.safe_dump(GOOD)}model: '0600'\n").model, "0600")

    def test_what_would_never_end(self) -> None:
        tens = "".join(f", a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))
        long = "x" * 500_000
        for body, word in (
            (f"{{a0: &a0 [x]{tens}}}", "each alias counted"),
            (f"{{a: &a {long}, b: [{', '.join(['*a'] * 9)}]}}", "each alias counted"),
            ("{a: &a [*a]}", "within itself"),
            ("{a: &a {<<: *a}}", "within itself"),
            ("[" * 60 + "]" * 60, "deep"),
            (f"{{a: 1{':59' * 300_000}}}", "too long"),
            (f"[{'a,' * 20_000}]", "more than 10000 values"),
        ):
            self.assertIn(word, self.mistake(f"{yaml.safe_dump(GOOD)}body: {body}\n"))

    def test_a_file_that_is_none(self) -> None:
        self.file.unlink(missing_ok=True)
        os.mkfifo(self.file)
        for name, word in ((str(self.file), "a pipe"), ("/dev/zero", "a device")):
            error = self.assertRaises(ConfigError, load, {"CONNECTOR_CONFIG": name})
            self.assertIn(word, str(error))

    def test_the_null_device_is_an_empty_file(self) -> None:
        environ = {"CONNECTOR_CONFIG": os.devnull, "OPENAI_API_KEY": TOKEN}
        error = self.assertRaises(ConfigError, load, environ)
        self.assertTrue(str(error).startswith("`target` is missing"), str(error))

    def test_anchors(self) -> None:
        config = self.load(
            f"target: &url http://t.example/\nbase_url: *url\ntoken: {TOKEN}\n"
            "give_up_after: &day 86400\nkeep: *day\n"
        )
        self.assertEqual((config.base_url, config.keep), ("http://t.example/", 86400.0))

    def test_merge_key(self) -> None:
        config = self.load(
            f"<<: {{port: 1, model: a}}\nmodel: b\ntarget: http://t.example/\ntoken: {TOKEN}\n"
        )
        self.assertEqual((config.port, config.model), (1, "b"))


class VanusTests(ConfigCase):
    def test_target_to_write(self) -> None:
        line = self.mistake({**GOOD, "vanus": {"endpoint": "10.0.0.1:8080", "eventbus": "quick"}})
        self.assertIn("target: http://10.0.0.1:8080/gateway/quick", line)

    def test_what_cannot_be_shown(self) -> None:
        odd = (None, "x", [], {"endpoint": 1}, {"endpoint": "a b", "eventbus": "\n"}, {"x": "y"})
        for value in odd:
            line = self.mistake({**GOOD, "vanus": value})
            self.assertIn("target: http://<gateway>/gateway/<eventbus>", line)

    def test_without_effect(self) -> None:
        config = self.load({**GOOD, "store_config": {"type": "x"}, "batch_size": 5})
        self.assertEqual(len(config.warnings), 2)
        self.assertIn("`store_config` does nothing", config.warnings[0])
        self.assertIn("`batch_size` does nothing", config.warnings[1])

    def test_settings_that_do_nothing_alone(self) -> None:
        fallback = {"base_url": "http://s.example", "token": "t"}
        for key, value, other in (
            ("batch_window", 60, {"batch_over": 86400}),
            ("batch_margin", 60, {"batch_over": 86400}),
            ("fallback_after_timeout", True, {"fallbacks": [fallback]}),
            ("admin_auth", {"bearer": ["b"]}, {"admin": "tcp:9464:interface=127.0.0.1"}),
        ):
            (warning,) = self.load({**GOOD, key: value}).warnings
            (needed,) = other
            self.assertEqual(
                warning, f"`{key}` does nothing without `{needed}`: set that too, or remove `{key}`"
            )
            self.assertEqual(self.load({**GOOD, key: value, **other}).warnings, ())
        self.assertEqual(self.load({**GOOD, "fallback_after_timeout": False}).warnings, ())

    def test_a_tier_that_is_set_twice(self) -> None:
        tiers = {"flex_over": 3600, "body": {"service_tier": "priority"}}
        (warning,) = self.load({**GOOD, **tiers}).warnings
        self.assertIn("`service_tier` in `body` is not sent on the flex tier", warning)
        self.assertEqual(self.load({**GOOD, "body": tiers["body"]}).warnings, ())

    def test_tiers_without_time(self) -> None:
        for tiers, words in (
            (
                {"batch_over": 3600, "flex_over": 14400},
                ["`batch_over` should be more than 16800 s"],
            ),
            ({"batch_over": 2400}, ["`batch_over` should be more than 2400 s"]),
            ({"batch_over": 14400, "flex_over": 3600, "deadline": 86400}, []),
            ({"flex_over": 7200, "deadline": 3600}, ["not more than `flex_over`"]),
        ):
            warnings = self.load({**GOOD, **tiers}).warnings
            self.assertEqual(len(warnings), len(words), tiers)
            for warning, word in zip(warnings, words, strict=True):
                self.assertIn(word, warning)

    def test_a_background_that_stores_nothing(self) -> None:
        stores = {"api": "responses", "background": True, "body": {"store": False}}
        self.assertIn("without `store: false`", self.mistake({**GOOD, **stores}))
        config = self.load({**GOOD, "context_count": {"SECRET": "x"}})
        self.assertEqual(len(config.warnings), 1)
        self.assertNotIn("SECRET", config.warnings[0])


class UrlTests(ConfigCase):
    def test_good(self) -> None:
        table = {
            "http://h": "http://h",
            " http://h/ ": "http://h/",
            "http://h:1/": "http://h:1/",
            "https://h:65535/a/b?c=d&e=%2F": "https://h:65535/a/b?c=d&e=%2F",
            "http://h/a%20b": "http://h/a%20b",
            "http://h/x#part": "http://h/x",
            "http://h#": "http://h",
            "http://127.0.0.1:80/": "http://127.0.0.1:80/",
            "http://my_host/": "http://my_host/",
            "http://[::1]:8080/x": "http://[::1]:8080/x",
            "https://[2001:db8::1]/": "https://[2001:db8::1]/",
            "http://münchen.example/ü?q=ä": "http://xn--mnchen-3ya.example/%C3%BC?q=%C3%A4",
            "http://default.broker.svc.cluster.local/ns": (
                "http://default.broker.svc.cluster.local/ns"
            ),
        }
        for given_, expected in table.items():
            for key in ("target", "base_url"):
                config = self.load({**GOOD, key: given_})
                self.assertEqual(getattr(config, key), expected, given_)


class RequireFilesTests(ConfigCase):
    def check(self, concurrency: int, limit: int) -> str | None:
        config = self.load({**GOOD, "concurrency": concurrency})
        try:
            require_files(config, limit)
        except ConfigError as error:
            return str(error)
        return None

    def test_bound(self) -> None:
        limit = FILES_KEPT_FREE + 64 * FILES_PER_CALL
        self.assertIsNone(self.check(64, limit))
        line = self.check(65, limit)
        assert line
        self.assertIn("`concurrency` must be at most 64", line)
        self.assertIn(str(limit), line)
        self.assertIsNotNone(self.check(64, limit - 1))

    def test_each_named_target_needs_its_own(self) -> None:
        targets = {name: {"url": f"http://{name}"} for name in "abc"}
        config = self.load({**GOOD, "concurrency": 10, "targets": targets})
        limit = FILES_KEPT_FREE + 10 * (FILES_PER_CALL + 3)
        require_files(config, limit)
        self.assertRaises(ConfigError, require_files, config, limit - 1)
        self.assertEqual(files_for_callers(config, limit), FILES_KEPT_FREE - FILES_OF_OUR_OWN)

    def test_callers_have_what_is_left(self) -> None:
        for concurrency in (1, 64, 400):
            config = self.load({**GOOD, "concurrency": concurrency})
            least = FILES_KEPT_FREE + concurrency * FILES_PER_CALL
            self.assertEqual(files_for_callers(config, least), FILES_KEPT_FREE - FILES_OF_OUR_OWN)
            self.assertEqual(files_for_callers(config, least + 1000), 1100)
        self.assertEqual(files_for_callers(self.load(GOOD), 10), 1)

    def test_what_is_advised_is_accepted(self) -> None:
        for limit in (0, 1, FILES_KEPT_FREE, FILES_KEPT_FREE + 1, FILES_KEPT_FREE + 2, 1024):
            line = self.check(10**6, limit)
            assert line
            most = int(line.split("at most ")[1].split()[0])
            if "lower it" in line:
                self.assertIsNone(self.check(most, limit), limit)


WORDY = st.text(ascii_letters + digits + "_", min_size=1, max_size=30)
"""What keys of some providers are made of; the others have hyphens in them as well."""
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *BAD,
                *[
                    "\n\n\n:",
                    ":",
                    ",",
                    "{",
                    "}",
                    "[",
                    "]",
                    "-",
                    "?",
                    "&",
                    "*",
                    "!",
                    "|",
                    ">",
                    "'",
                    '"',
                    "#",
                    "%",
                    "@",
                    "`",
                    "\t",
                ],
                ": ",
                "\n  ",
                "\n- ",
                " #",
                "<<: ",
                "!!bool ",
                "!!int ",
                "!!timestamp ",
                "!!binary ",
                "!!set ",
                "!!omap ",
                "&a ",
                "*a",
                "\\",
                "---\n",
                "store_config: ",
                "batch_size",
                "http://",
                "1",
                "null",
                "log_level: ",
                "\x00",
                "\ud800",
                "\x85",
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=12,
)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**310)
    | st.floats()
    | st.text()
    | st.dates()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SECRETS = (
    st.text(max_size=5)
    | st.dictionaries(st.sampled_from(["env", "file", "x"]), st.text(max_size=5), max_size=2)
    | VALUES
)


class SecretTests(ConfigCase):
    """Wherever a slip puts the token, no message shows it, and nothing else goes wrong."""

    def messages(self, text: str, token: str) -> str:
        try:
            config = self.load(text.encode("utf-8", "surrogatepass"))
        except ConfigError as error:
            self.assertTrue(error.mistakes)
            return str(error)
        return (
            "\n".join((repr(attrs.evolve(config, token=Secret("x"))), *config.warnings)).replace(
                f"system_prompt={config.system_prompt!r}", ""
            )
            if token == config.token.read()
            else "\n".join(config.warnings)
        )

    def test_slips(self) -> None:
        for token in ("sk-proj-MARKED", "gsk_MARKED0", "MARKED0123456789abcdef0123456789"):
            slips = (
                f"token:{token}",
                f"token {token}",
                f"token= {token}",
                f"{token}",
                f"{token}:",
                f"{token}: token",
                f"- {token}",
                f"token:\n  {token}:",
                f"token: {{{token}}}",
                f"token: [{token}]",
                f"token: {{{{ {token} }}}}",
                f"token: {token} x",
                f"token: '{token}",
                f'token: "{token}',
                f"token: {token}: x",
                f"{{token, {token}}}",
                f"{{token: x, {token}}}",
                f"? {token}\n? token",
                f"port: {token}",
                f"target: {token}",
                f"target: http://{token}@h/",
                f"target: http://u:{token}@h/",
                f"target: http://h:{token}/",
                f"target: ftp://{token}/",
                f"timezone: {token}",
                f"log_config: {token}",
                f"log_config: {{log_level: {token}}}",
                f"log_config: {{{token}: info}}",
                f"everyday_limit: {token}",
                f"keep: {token}",
                f"token: !{token} x",
                f"token: !!{token} x",
                f"token: &{token} [x]",
                f"token: *{token}",
                f"%{token}\n---\n",
                f"tokne: {token}",
                f"!!int {token}",
                f"token: !!int {token}",
                f"token: !!bool {token}",
                f"store_config: {token}",
                f"vanus: {token}",
                f"vanus: {{token: {token}}}",
                f"port: 1\n{token}: 1\n{token}: 2",
            )
            for slip in slips:
                self.assertNotIn("MARKED", self.messages(slip, token), slip)

    def test_vanus(self) -> None:
        """The two values that are shown, to be copied, are not shown if they hold the token."""
        for key in ("endpoint", "eventbus"):
            shown = self.mistakes({"vanus": {key: TOKEN}, "token": TOKEN, "target": "http://t/"})
            self.assertNotIn(TOKEN, "\n".join(shown))

    @settings(deadline=None, max_examples=400)
    @given(PIECES, PIECES, st.sampled_from(["-", "_", ".", ""]), WORDY)
    @example(["{", "token", ", "], ["}"], "_", "0")
    @example(["? ["], ["]\n: x"], "-", "0")
    @example(["keep: !!int 0x"], ["f" * 400], "", "0")
    def test_anywhere(self, before: list[str], after: list[str], dash: str, rest: str) -> None:
        token = f"sk{dash}MARKED{dash}{rest}0"  # no key is without a digit
        text = "".join(before) + token + "".join(after)
        self.assertNotIn("MARKED", self.messages(text, token))

    @settings(deadline=None, max_examples=200)
    @given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
    def test_junk(self, junk: bytes | str) -> None:
        document = junk.encode("utf-8", "surrogatepass") if isinstance(junk, str) else junk
        try:
            self.load(document, K_SINK="http://k/", OPENAI_API_KEY=TOKEN)
        except ConfigError as error:
            self.assertNotIn(TOKEN, str(error))

    @settings(deadline=None, max_examples=300)
    @given(
        st.sampled_from(list(BAD)),
        VALUES,
    )
    def test_any_value(self, key: str, value: Any) -> None:
        try:
            self.load({**GOOD, key: value})
        except ConfigError as error:
            self.assertEqual(len(error.mistakes), 1)
            self.assertIn(f"`{key}`", str(error))

    @settings(deadline=None, max_examples=300)
    @given(st.dictionaries(st.sampled_from(list(BAD)), VALUES, max_size=8))
    @example({"port": 1, "listen": "tcp:1"})
    def test_any_document(self, document: dict[str, Any]) -> None:
        """Each key that is wrong has its line, and no other thing happens."""
        alone = [key for key, value in document.items() if self.wrong({key: value})]
        mistakes = self.wrong(document)
        if "api" in alone:  # what belongs to an API is not looked at then
            alone = [key for key in alone if key not in {"background", "forget_responses"}]
        for key in alone:
            found = [line for line in mistakes if line.startswith(f"`{key}`")]
            self.assertEqual(len(found), 1, key)
        pairs = (
            {"port", "listen"},
            {"reply", "keep_answers"},
            {"background", "forget_responses"},
            {"api", "background"},
            {"api", "forget_responses"},
        )
        both = any(pair <= document.keys() for pair in pairs) and len(mistakes) > len(alone)
        self.assertEqual(bool(mistakes), bool(alone) or both)

    def wrong(self, document: dict[str, Any]) -> tuple[str, ...]:
        try:
            self.load({**GOOD, "keep_answers": 1, **document})
        except ConfigError as error:
            return error.mistakes
        return ()

    @settings(deadline=None, max_examples=300)
    @given(
        st.sampled_from(["auth", "admin_auth"]),
        st.dictionaries(
            st.sampled_from(["bearer", "basic", "x"]),
            st.lists(SECRETS, max_size=3) | st.dictionaries(st.text(max_size=4), SECRETS),
        ),
    )
    def test_any_credentials(self, key: str, value: Any) -> None:
        try:
            config = self.load({**GOOD, key: value})
        except ConfigError as error:
            self.assertEqual(len(error.mistakes), 1)
            self.assertIn(f"`{key}`", str(error))
        else:
            self.assertTrue(getattr(config, key).bearer or getattr(config, key).basic)

    @settings(deadline=None, max_examples=300)
    @given(st.text(), st.text(), st.text())
    def test_any_url(self, host: str, path: str, junk: str) -> None:
        for url in (junk, f"http://{host}", f"http://h/{path}", f"http://{host}:{junk}/{path}"):
            try:
                config = load({"K_SINK": url, "OPENAI_API_KEY": TOKEN}, NO_FILE)
            except ConfigError:
                continue
            self.assertRegex(config.target, r"\A(?i:https?)://[\x21-\x7e]+\Z")
