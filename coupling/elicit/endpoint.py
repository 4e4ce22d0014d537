"""A backend that is served: the chat or text completions of an OpenAI-compatible API.

Answers are greedy (temperature 0, a fixed seed) and kept in a runtime.AnswerLog as they
come: what was answered is not asked again, after a kill or where two pairs share a
question. A request that fails for a passing reason is repeated after a pause.
"""

from collections.abc import Callable, Sequence
from concurrent import futures
import functools
import hashlib
import json
import os
import threading
import urllib.parse
from typing import Any

import httpx2

from coupling.config import schema
from coupling.elicit import served_answers
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.runtime.answer_log import AnswerLog

MODELS = '/models'
TRIES = 5  # of a request
PAUSE = 1.0  # seconds before the second try, doubled with each
LONGEST_PAUSE = 120.0  # that a server may ask for
PASSING = (408, 409, 425, 429)  # and 500 and above: worth another try
TOKEN_CHARACTERS = 4  # roughly, of English
# Questions by whose answers a model is known again: of a server another one may hide
# behind the same address and name.
PROBES = ('Name a colour.', 'What is 7 + 5?', 'Which city is the capital of Norway?')
PROBE_TOKENS = 16


class EndpointError(schema.ConfigError):
  """A server that does not answer as it must; the message says cause and remedy."""


class Endpoint:
  """See backend.Backend."""

  def __init__(self, config: schema.Served, log: AnswerLog | None = None):
    """Nothing is asked yet.

    Args:
      config: where it is, and how it is asked.
      log: keeps the answers; without one only `listed` and `probe` can be had.

    Raises:
      ConfigError: a named variable without an API key.
    """
    self.config, self.log = config, log
    self._url = config.url.rstrip('/')
    self._path = '/completions' if config.completions else '/chat/completions'
    self._key = os.environ.get(config.key, '').strip()
    if not self._key and config.key != schema.KEY:
      raise schema.ConfigError(
        f'key={config.key}: the environment has no such variable, which was to hold '
        f'the API key of {self._url}; export it, or leave key out'
      )
    if not self._key.isascii() or not self._key.isprintable():
      raise schema.ConfigError(
        f'key={config.key}: this variable of the environment holds signs that no API '
        'key has; export it anew'
      )
    if self._key and config.key == schema.KEY and _in_the_open(config.url):
      progress.line(
        f'{self._url} is not https: the key of {schema.KEY} is not sent there; name '
        'the variable of a key for it by key='
      )
      self._key = ''
    headers = {'Authorization': f'Bearer {self._key}'} if self._key else {}
    self._client = httpx2.Client(
      timeout=config.timeout,
      headers=headers,
      limits=httpx2.Limits(max_connections=config.concurrency),
    )
    self._bar, self._done = None, 0

  def expect(self, prompts: Sequence[str], max_tokens: int = 0) -> None:
    """Says what is going to be asked: how many requests, of how many tokens.

    `max_tokens`: of `generate`; 0 for `choose`.
    """
    body = self._text_body if max_tokens else self._choice_body
    missing = {x for x in prompts if self._digest(body(x, max_tokens)) not in self.log}
    asked = sum(map(len, missing)) // TOKEN_CHARACTERS
    progress.line(
      f'{self.config.model} at {self._url}',
      f'{len(missing)} requests, {self.config.concurrency} at once '
      f'({len(prompts) - len(missing)} more are answered already, or asked twice)',
      f'about {asked:,} tokens of prompts, up to '
      f'{len(missing) * max(1, max_tokens):,} of answers',
    )
    self._bar, self._done = None, 0
    if missing:
      self._bar = progress.Progress(self.config.model, len(missing), 'answers')

  def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
    """See backend.Backend; raises EndpointError."""
    found = self._answers([self._text_body(x, max_tokens) for x in prompts])
    if cut := sum(x['thinks'] for x in found):
      progress.line(
        f'WARNING: {self.config.model}: {cut} of {len(found)} answers are thoughts '
        'that do not end, and count as empty: raise thoughts '
        f'({self.config.thoughts}), in another --workdir'
      )
    return [served_answers.spoken(x) for x in found]

  def choose(
    self, prompts: Sequence[str], options: Sequence[Sequence[str]]
  ) -> list[list[float]]:
    """Options that are single letters or digits, by the first token of the answer.

    See backend.Backend, served_answers.letters for options that are not listed among
    the likeliest tokens.

    Raises:
      ConfigError: options of more than a character.
      EndpointError: also where no option is among the likeliest tokens.
    """
    served_answers.check_letters(options)
    found = self._answers([self._choice_body(x) for x in prompts])
    rows = []
    for prompt, answer, names in zip(prompts, found, options):
      try:
        rows.append(served_answers.letters(answer, names))
      except ValueError as error:
        raise self._error(
          f'{error}, to the prompt that ends in {prompt[-60:]!r}',
          'read behaviours from replies: behavior.read=reply',
        ) from error
    return rows

  def listed(self) -> list[str]:
    """The models that the server lists; [] where it lists none.

    Raises:
      EndpointError: they lack the one that is asked; the server cannot be reached.
    """
    try:
      found = self._request('GET', MODELS, None, served_answers.models)
    except _NoSuchPage:
      return []
    if found and self.config.model not in found:
      raise EndpointError(
        f'{self._url}: no model {self.config.model!r} is served there: give one of '
        f'{found[:20]} as model'
      )
    return found

  def probe(self) -> list[str]:
    """Answers to PROBES, asked now.

    Raises:
      EndpointError: the server does not answer, says nothing, or only thinks.
    """
    bodies = [self._text_body(x, PROBE_TOKENS) for x in PROBES]
    found = [self._ask(body) for body in bodies]
    texts = [served_answers.spoken(x) for x in found]
    if not any(x.strip() for x in texts):
      if any(x['thinks'] for x in found):
        raise self._error(
          'the model thinks before it answers, and its thoughts do not end within '
          f'{PROBE_TOKENS + self.config.thoughts} tokens',
          'switch thinking off at the server, or set thoughts to the tokens they take',
        )
      raise self._error(
        f'it answers nothing to {PROBES}',
        'see whether the server has the chat template of its model, or ask by '
        'completions=True',
      )
    return texts

  def _text_body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
    return self._body(prompt, max_tokens + self.config.thoughts)

  def _choice_body(self, prompt: str, _: int = 1) -> dict[str, Any]:
    most = served_answers.LIKELIEST
    if self.config.completions:
      return self._body(prompt, 1) | {'logprobs': most}
    return self._body(prompt, 1) | {'logprobs': True, 'top_logprobs': most}

  def _body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
    """What is sent."""
    config = self.config
    body = dict(model=config.model, max_tokens=max_tokens, temperature=0, seed=0)
    if config.completions:
      return body | {'prompt': prompt}
    turns = [{'role': 'user', 'content': prompt}]
    if config.system is not None:
      turns.insert(0, {'role': 'system', 'content': config.system})
    return body | {'messages': turns}

  def _digest(self, body: dict[str, Any]) -> str:
    asked = json.dumps([self._url, self._path, body], sort_keys=True)
    return hashlib.sha256(asked.encode(errors='surrogatepass')).hexdigest()

  def _answers(self, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The kept answers to all, of which those that are not kept yet are asked now.

    Raises:
      Interrupted: when a signal asked for it; what is under way is kept first.
      EndpointError: likewise.
    """
    digests = [self._digest(body) for body in bodies]
    missing = {x: y for x, y in zip(digests, bodies) if x not in self.log}
    stop = threading.Event()
    pool = futures.ThreadPoolExecutor(self.config.concurrency)
    try:
      waiting = {
        pool.submit(self._keep, digest, body, stop) for digest, body in missing.items()
      }
      while waiting:
        interrupt.check()
        done, waiting = futures.wait(waiting, 0.5, futures.FIRST_COMPLETED)
        for one in done:
          one.result()
        self._done += len(done)
        if done and self._bar is not None:
          self._bar.update(self._done)
    finally:
      stop.set()
      pool.shutdown(cancel_futures=True)
    return [self.log[x] for x in digests]

  def _keep(self, digest: str, body: dict[str, Any], stop: threading.Event) -> None:
    if stop.is_set():
      return
    try:
      self.log.keep(digest, self._ask(body, stop))
    except BaseException:
      stop.set()  # nothing more is begun
      raise

  def _ask(
    self, body: dict[str, Any], stop: threading.Event | None = None
  ) -> dict[str, Any]:
    """One answer, see served_answers.completion."""
    read = functools.partial(served_answers.completion, chooses='logprobs' in body)
    return self._request('POST', self._path, body, read, stop)

  def _request(
    self,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    read: Callable[[Any], Any],
    stop: threading.Event | None = None,
  ) -> Any:
    """What `read` makes of the answer, after several tries where that can help."""
    for tried in range(1, TRIES + 1):
      pause, lasting = PAUSE * 2 ** (tried - 1), False
      try:
        response = self._client.request(method, self._url + path, json=body)
        if response.is_success:
          return read(response.json())
        problem, remedy, lasting = self._status(response)
        pause = max(
          pause, served_answers.asked_pause(response.headers.get('retry-after', ''))
        )
      except httpx2.TimeoutException:
        problem = f'no answer within {self.config.timeout:g} s'
        remedy = 'raise timeout, or lower concurrency'
      except httpx2.RequestError as error:
        problem = f'no connection, or a broken one ({type(error).__name__}: {error})'
        remedy = 'start the server, or give its address as url'
      except served_answers.NoLogprobs as error:
        problem, remedy, lasting = str(error), 'set behavior.read=reply', True
      except ValueError as error:  # no JSON, or of another shape
        problem = f'what came is no completion ({error}): {self._short(response.text)}'
        remedy = 'give an OpenAI-compatible API as url; it usually ends in /v1'
      if pause > LONGEST_PAUSE:
        problem, lasting = f'{problem}; it asks to wait for {pause:.0f} s', True
      if lasting or tried == TRIES or (stop or threading.Event()).wait(pause):
        break
    raise self._error(problem, remedy, path, tried)

  def _status(self, response: httpx2.Response) -> tuple[str, str, bool]:
    """What a status that is no success means, what to do, and whether it lasts.

    Raises:
      _NoSuchPage: at what a server need not have.
    """
    code, key = response.status_code, f'set the variable {self.config.key} to'
    if code in (404, 405, 501) and response.request.url.path.endswith(MODELS):
      raise _NoSuchPage
    remedies = {
      401: f'{key} an API key that is valid there',
      403: f'{key} an API key that may ask this model',
      404: 'correct url, which usually ends in /v1, or model',
      429: 'lower concurrency, or go on later',
    }
    remedy = (
      'a prompt may be longer than the model takes, or the server may lack what is '
      'asked (seed, logprobs): go by its text'
    )
    if code >= 500:
      remedy = 'see what the server logs'
    if response.is_redirect:
      where = response.headers.get('location', 'it names none')
      remedy = f'give the address to which it redirects ({where}) as url'
    problem = f'{code} {response.reason_phrase}: {self._short(response.text)}'
    lasting = code not in PASSING and code < 500
    return problem, remedies.get(code, remedy), lasting

  def _error(
    self, problem: str, remedy: str, path: str = '', tried: int = 1
  ) -> EndpointError:
    """With what was answered so far, and never with the key."""
    text = f'{self._url}{path}, model {self.config.model!r}: {problem}'
    if tried > 1:
      text += f' (tried {tried} times)'
    text += f': {remedy}.'
    if self.log:
      text += f' {len(self.log)} answers are kept in {self.log.path}.'
    return EndpointError(self._hidden(text))

  def _short(self, text: str) -> str:
    return repr(self._hidden(text)[:200])

  def _hidden(self, text: str) -> str:
    return text.replace(self._key, '***') if self._key else text


def _in_the_open(url: str) -> bool:
  """Whether what is sent can be read on its way to another machine."""
  parts = urllib.parse.urlsplit(url)
  host = parts.hostname or ''
  return parts.scheme == 'http' and not (host == 'localhost' or host.startswith('127.'))


class _NoSuchPage(Exception):
  """A list of models that the server does not have."""
