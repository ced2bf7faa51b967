import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from stepflow.plugins.builtin.chat import retry_after_s
from stepflow.plugins.builtin.openai import OPENAI_URL, OpenAISettings
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, Failed, Succeeded

KEY = "sk-very-secret"
MESSAGES = [{"role": "user", "content": "hi"}]
ANSWER = {
    "model": "small-1",
    "choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "other": {}},
}


class Service(ThreadingHTTPServer):
    """A chat service on loopback that answers as it was told and keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.headers, self.body = 200, {}, json.dumps(ANSWER).encode()
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def answers(self, status, body, **headers):
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args):
        pass


@pytest.fixture
def service(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(240)
    server.server_close()


@pytest.fixture
def ask(service, host, task):
    async def ask(settings=None, **input):
        plugin = BuiltinPlugin(openai=settings or OpenAISettings(base_url=service.url, api_key=KEY, model="small"))
        async with plugin.open():
            return await plugin.perform(task("/openai", {"messages": MESSAGES} | input), host)

    return ask


@pytest.mark.anyio
async def test_the_answer_comes_with_the_tokens_it_cost(ask, host):
    outcome = await ask()

    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert outcome == Succeeded({"response": "hello", "model": "small-1", "finish_reason": "stop", "usage": usage})
    assert host.reports == [{"usage": usage}]


@pytest.mark.anyio
async def test_the_settings_of_the_input_are_passed_on(ask, service):
    await ask(max_tokens=20.0, temperature=0, model="large", other="ignored")

    path, headers, body = service.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "large", "messages": MESSAGES, "max_tokens": 20, "temperature": 0.0}


@pytest.mark.anyio
async def test_what_was_not_given_is_not_sent(ask, service):
    await ask()

    assert service.asked[0][2] == {"model": "small", "messages": MESSAGES}


@pytest.mark.anyio
async def test_a_service_without_keys_is_asked_without_one(ask, service):
    outcome = await ask(OpenAISettings(base_url=service.url))

    assert isinstance(outcome, Succeeded)
    assert "Authorization" not in service.asked[0][1]


@pytest.mark.anyio
async def test_the_hosts_key_goes_to_the_hosts_address_only(ask, service):
    elsewhere = OpenAISettings(base_url="https://elsewhere.example/v1", api_key=KEY)

    await ask(elsewhere, base_url=service.url)
    await ask(elsewhere, base_url=service.url, api_key="of-the-input")

    assert "Authorization" not in service.asked[0][1]
    assert service.asked[1][1]["Authorization"] == "Bearer of-the-input"


@pytest.mark.anyio
async def test_openai_itself_is_not_asked_without_a_key(ask, service):
    outcome = await ask(OpenAISettings())

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.COMPONENT_FAILED
    assert not outcome.may_retry
    assert "OPENAI_API_KEY" in outcome.message


@pytest.mark.anyio
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_sets_the_delay(ask, service, status):
    service.answers(status, {"error": {"message": "slow down"}}, Retry_After="20")

    outcome = await ask()

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert outcome.retry_after_s == 20.0
    assert outcome.may_retry
    assert "slow down" in outcome.message


@pytest.mark.anyio
async def test_retry_after_as_a_date_is_counted_from_the_clock(ask, service, host):
    service.answers(429, b"", Retry_After="Mon, 12 Jan 1970 13:47:10 GMT")

    outcome = await ask()

    assert host.clock.now() == 1_000_000.0
    assert outcome.retry_after_s == 30.0


@pytest.mark.parametrize("value", [None, "", "soon", "nan", "inf", "-inf", "1e999", "Mon, 99 Foo"])
def test_a_retry_after_that_says_nothing_gives_no_delay(value):
    assert not retry_after_s(value, 0.0)


def test_a_date_that_is_over_means_now():
    assert retry_after_s("Mon, 12 Jan 1970 13:47:10 GMT", 2e9) == 0.0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "code", "may_retry"),
    [
        (400, ErrorCode.INVALID_INPUT, True),
        (401, ErrorCode.COMPONENT_FAILED, False),
        (404, ErrorCode.INVALID_INPUT, True),
        (429, ErrorCode.RESOURCE_UNAVAILABLE, True),
        (500, ErrorCode.RESOURCE_UNAVAILABLE, True),
    ],
)
async def test_a_refusal_has_the_code_of_its_cause_and_the_services_words(ask, service, status, code, may_retry):
    service.answers(status, {"error": {"message": f"no, not with {KEY}"}})

    outcome = await ask()

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.may_retry) == (code, may_retry)
    assert outcome.message == f"{service.url}/chat/completions answered {status}: no, not with [REDACTED]"
    assert outcome.data == {"status": status}


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(ask, service, status):
    service.answers(status, b"", Location="http://127.0.0.1:9/elsewhere")

    outcome = await ask()

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.COMPONENT_FAILED
    assert "http://127.0.0.1:9/elsewhere" in outcome.message
    assert len(service.asked) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[]", b'{"choices": 3}'])
async def test_an_answer_that_is_no_chat_completion_is_a_failure_of_the_component(ask, service, body):
    service.answers(200, body)

    outcome = await ask()

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.COMPONENT_FAILED


@pytest.mark.anyio
@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"message": {"content": None}}]}])
async def test_an_answer_without_content_is_empty_text(ask, service, body):
    service.answers(200, body)

    assert await ask() == Succeeded({"response": ""})


@pytest.mark.anyio
async def test_a_service_that_is_not_there_is_an_unavailable_resource(ask, service):
    service.shutdown()
    service.server_close()

    outcome = await ask()

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert "refused" in outcome.message


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x", "localhost", "http://", "http://x:y", "http://a:b@c", "http://[", "http://a b"],
)
async def test_an_address_that_is_not_of_http_is_refused(ask, url):
    outcome = await ask(base_url=url)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert "$.base_url" in outcome.message


def test_settings_come_from_the_environment_that_is_given():
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "", "OPENAI_MODEL": "large"}

    settings = OpenAISettings.from_environment(environ)

    assert settings == OpenAISettings(base_url=OPENAI_URL, api_key=KEY, model="large")


def test_settings_never_show_the_key():
    settings = OpenAISettings(api_key=KEY)

    assert KEY not in repr(settings)
    assert KEY not in str(settings)
    assert KEY not in repr(msgspec.structs.replace(settings, model="x"))
