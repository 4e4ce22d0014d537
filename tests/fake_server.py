"""An OpenAI-compatible server in this process, which can be told to misbehave."""

import collections
from collections.abc import Callable, Iterator
import contextlib
import hashlib
import http.server
import json
import threading
from typing import Any

MODEL = 'a-model'
STOPPED = 'the answer breaks off'


class Server:
  """Answers with `model`; what `bad` gives instead goes first.

  Attributes:
    url: up to /v1.
    asked: bodies of all requests for answers, in their order.
    model: prompt -> text.
    bad: number of the request from 0, body -> status, headers and body in the place of
      an answer; or STOPPED; or None.
    listed: what GET /models gives; None: no such page.
    headers: of the last request.
  """

  def __init__(self, model: Callable[[str], str]):
    self.asked: list[dict[str, Any]] = []
    self.model = model
    self.bad: Callable[[int, dict], Any] = lambda n, body: None
    self.listed: Any = {'data': [{'id': MODEL}]}
    self.url, self.headers = '', {}
    self.lock = threading.Lock()

  @property
  def twice(self) -> list[str]:
    """Requests that were made more than once."""
    count = collections.Counter(json.dumps(x, sort_keys=True) for x in self.asked)
    return [x for x, n in count.items() if n > 1]

  def answer(self, body: dict[str, Any]) -> dict[str, Any]:
    chat = 'messages' in body
    text = self.model(body['messages'][-1]['content'] if chat else body['prompt'])
    choice = {'index': 0, 'finish_reason': 'stop'}
    choice |= {'message': {'content': text}} if chat else {'text': text}
    if body.get('logprobs'):
      top = [{'token': text[:1], 'logprob': -0.5}, {'token': 'B ', 'logprob': -1.5}]
      choice['logprobs'] = {'content': [{'token': text[:1], 'top_logprobs': top}]}
    return {'choices': [choice], 'model': body['model']}


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    listed = self.server.of_test.listed
    self.give(404 if listed is None else 200, {}, json.dumps(listed))

  def do_POST(self):
    of_test = self.server.of_test
    body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
    with of_test.lock:
      number = len(of_test.asked)
      of_test.asked.append(body)
      of_test.headers = dict(self.headers)
    found = of_test.bad(number, body)
    if found == STOPPED:
      self.send_response(200)
      self.send_header('Content-Length', '1000')
      self.end_headers()
      self.wfile.write(b'{"choices": [{"mess')
      self.close_connection = True
    elif found is not None:
      self.give(*found)
    else:
      self.give(200, {}, json.dumps(of_test.answer(body)))

  def give(self, status: int, headers: dict[str, str], body: str):
    data = body.encode()
    self.send_response(status)
    for name, value in ({'Content-Length': str(len(data))} | headers).items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(data)

  def log_message(self, *_):
    pass


@contextlib.contextmanager
def running(model: Callable[[str], str]) -> Iterator[Server]:
  """A server on a free port, up to the end of the context."""
  found = Server(model)
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
  server.daemon_threads, server.of_test = True, found
  found.url = f'http://127.0.0.1:{server.server_port}/v1'
  thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
  thread.start()
  try:
    yield found
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def draw(text: str, size: int) -> int:
  """A number below `size` that the text decides."""
  return hashlib.sha256(text.encode()).digest()[0] % size
