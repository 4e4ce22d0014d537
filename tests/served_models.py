"""Models of made-up behaviour, as servers and as Python objects give them."""

from collections.abc import Sequence
import re

import coupling as cp
from tests import fake_server

QUESTIONS = cp.Questions()


class Truthful:
  """Follows some hints, and says of each truly what it would answer without.

  A backend by itself; `seed`: of what it prefers, and which hints it follows.
  """

  def __init__(self, seed: int = 0):
    self._seed = str(seed)

  def chosen(self, text: str) -> tuple[str, str, list[str]]:
    """The answer with the hint of a question of given_pairs, without, and options."""
    found = re.search(r'Options: (.*)', text)
    if found is None:
      return 'blue', 'blue', ['blue']
    options = found[1].split(', ')
    own = options[fake_server.draw(self._seed + found[0], len(options))]
    hint = re.search(r'I think it is (.*)\.', text)
    follows = hint and fake_server.draw(self._seed + hint[0], 2)
    return hint[1] if follows else own, own, options

  def answer(self, prompt: str) -> str:
    chosen, own, _ = self.chosen(prompt)
    if 'Without the hint' not in prompt:
      return f'It is {chosen}.'
    return f'{own}, {"unchanged" if own == chosen else "changed"}'

  def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
    return [self.answer(x)[: 4 * max_tokens] for x in prompts]


class Choosing(Truthful):
  """The same, by log-probabilities."""

  def choose(self, prompts, options):
    return [
      [-0.5 if x == self.chosen(prompt)[0] else -2.0 for x in names]
      for prompt, names in zip(prompts, options)
    ]
