"""An evaluation by llama.cpp's server: what it is asked, and how its answers are read.

It cannot score a given text as such. It is made to write it: a grammar of token ids
admits this option alone, and the log-probabilities that it reports are those before the
grammar. Behaviours by first token take one such token, of a grammar that admits the
first token of any option. Prompts are cached: each pair has a slot of the server, and
its questions are put there one after another, those that begin alike in a row; all
slots work at the same time.
"""

from collections.abc import Sequence
from concurrent import futures
import http.client
import json
import pathlib
import subprocess
import threading
import time
from typing import Any
import urllib.parse

import numpy as np

from benchmarks import asked as asked_lib

HOST, PORT = '127.0.0.1', 8179
SLOTS = 8
CONTEXT = 512  # tokens of a slot


class Server:
  """A server that is running, or one that is started from its program."""

  def __init__(self, where: str, model: pathlib.Path, threads: int):
    """`where`: its URL, or the path of llama-server, which then loads the model."""
    self._process, self._own = None, threading.local()
    self._counts = []
    if '://' in where:
      url = urllib.parse.urlsplit(where)
      self._address = url.hostname, url.port
      return
    self._address = HOST, PORT
    numbers = dict(port=PORT, threads=threads, parallel=SLOTS)
    numbers |= {'ctx-size': CONTEXT * SLOTS, 'cache-ram': 0}
    flags = [f'--{k}={v}' for k, v in numbers.items()]
    flags = [x for flag in flags for x in flag.split('=')]
    self._process = subprocess.Popen(
      [where, '--model', str(model), *flags],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    for _ in range(120):
      if self._healthy():
        return
      time.sleep(0.5)
    self.close()
    raise RuntimeError(f'{where}: no answer on port {PORT}; start it, and give its URL')

  def close(self) -> None:
    if self._process is not None:
      self._process.terminate()

  def evaluate(
    self,
    asked: Sequence[asked_lib.Pair],
    longest: int,
    end_tokens: Sequence[int],
    fill: int,
  ) -> tuple[np.ndarray, int]:
    """Evaluates pairs.

    Args:
      asked: of each pair.
      longest: G, tokens of an explanation.
      end_tokens: tokens that may end one; the server stops at the first.
      fill: what follows.

    Returns:
      Choices on x and x∖C by log-probability per token, and explanations, [N, 2 + G];
      and how many tokens were computed.
    """
    self._counts.clear()

    def pair(asked: asked_lib.Pair, slot: int) -> list[int]:
      with_cue = self._chosen(asked.prompts[0], asked.options, slot)
      said = [x['id'] for x in self._ask(asked.explanation, slot, longest)]
      if len(said) < longest and said[-1:] != [end_tokens[0]]:
        said.append(end_tokens[0])  # which it does not report
      said += [fill] * (longest - len(said))
      return [with_cue, self._chosen(asked.prompts[1], asked.options, slot), *said]

    def of_slot(slot: int) -> list[list[int]]:
      return [pair(x, slot) for x in asked[slot::SLOTS]]

    with futures.ThreadPoolExecutor(SLOTS) as pool:
      every = list(pool.map(of_slot, range(SLOTS)))
    found = np.zeros((len(asked), 2 + longest), np.int32)
    for slot, rows in enumerate(every):
      if rows:
        found[slot::SLOTS] = rows
    return found, sum(self._counts)

  def _chosen(self, prompt: list[int], options: list[list[int]], slot: int) -> int:
    if all(len(x) == 1 for x in options):
      grammar = 'root ::= ' + ' | '.join(f'<[{x}]>' for [x] in options)
      said = self._ask(prompt, slot, 1, grammar=grammar)
      return options.index([said[0]['id']])
    scores = []
    for option in options:
      grammar = 'root ::= ' + ' '.join(f'<[{x}]>' for x in option)
      said = self._ask(prompt, slot, len(option), grammar=grammar)
      if [x['id'] for x in said] != option:
        raise RuntimeError(f'the server wrote {said}, not {option}: no token grammars?')
      scores.append(np.mean([x['logprob'] for x in said]))
    return int(np.argmax(scores))

  def _ask(self, prompt: list[int], slot: int, count: int, **more: Any) -> list[dict]:
    """The tokens that it writes, each with its log-probability."""
    body = dict(prompt=prompt, n_predict=count, n_probs=1, temperature=0.0, **more)
    reply = self._post('/completion', body | dict(cache_prompt=True, id_slot=slot))
    timings = reply['timings']
    self._counts.append(timings['prompt_n'] + timings['predicted_n'] - 1)
    return reply['completion_probabilities']

  def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
    if not hasattr(self._own, 'connection'):
      self._own.connection = http.client.HTTPConnection(*self._address)
    connection = self._own.connection
    headers = {'Content-Type': 'application/json'}
    connection.request('POST', path, json.dumps(body), headers)
    reply = connection.getresponse()
    content = json.loads(reply.read())
    if reply.status != 200:
      raise RuntimeError(f'{self._address}{path}: {reply.status} {content}')
    return content

  def _healthy(self) -> bool:
    try:
      connection = http.client.HTTPConnection(*self._address)
      connection.request('GET', '/health')
      return connection.getresponse().status == 200
    except OSError:
      return False
