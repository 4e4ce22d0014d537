"""What an OpenAI-compatible server answers: its shapes, and how they are read."""

from collections.abc import Sequence
import email.utils
import math
import time
from typing import Any

import numpy as np

from coupling.config import schema

LIKELIEST = 20  # tokens whose log-probabilities are asked for; servers allow no more
IMPOSSIBLE = -1e3  # what some servers give for a token that cannot come
THOUGHTS = ('<think>', '</think>')


class NoLogprobs(ValueError):
  """An answer without the log-probabilities that were asked for."""


def completion(found: Any, chooses: bool = False) -> dict[str, Any]:
  """An answer as it is kept: `text`; `thinks`, whether thoughts took its place; `top`,
  the likeliest first tokens, [] without any.

  Args:
    found: JSON of /chat/completions or /completions.
    chooses: whether the likeliest tokens are wanted.

  Raises:
    NoLogprobs: there are none where they are wanted.
    ValueError: it is of another shape, or an error in the place of an answer.
  """
  if isinstance(found, dict) and found.get('error'):
    raise ValueError('an error in its place')
  try:
    choice = found['choices'][0]
    message = choice.get('message', choice)
    text = message['content'] if 'message' in choice else choice['text']
    thoughts = message.get('reasoning_content') or message.get('reasoning')
  except (LookupError, TypeError, AttributeError) as error:
    raise ValueError('no choices[0].message.content and no choices[0].text') from error
  if not isinstance(text, str | None):
    raise ValueError(f'its text is of the type {type(text).__name__}')
  text = text or ''
  thinks = not spoken({'text': text}).strip() and bool(thoughts or text.strip())
  top = _top(choice.get('logprobs'))
  if chooses and not top:
    raise NoLogprobs('the server gives no log-probabilities of tokens')
  return {'text': text, 'thinks': thinks, 'top': top}


def _top(logprobs: Any) -> list[tuple[str, float]]:
  """The likeliest first tokens, of either shape that servers give."""
  try:
    if 'content' in logprobs:
      first = logprobs['content'][0]['top_logprobs']
      pairs = [(x['token'], x['logprob']) for x in first]
    else:
      pairs = [*logprobs['top_logprobs'][0].items()]
    return [(str(token), float(x)) for token, x in pairs if float(x) > IMPOSSIBLE]
  except (LookupError, TypeError, AttributeError, ValueError):
    return []


def models(found: Any) -> list[str]:
  """Names of GET /models; [] where it is of another shape."""
  try:
    return [str(x['id']) for x in found['data']]
  except (LookupError, TypeError):
    return []


def spoken(answer: dict[str, Any]) -> str:
  """The text without thoughts; '' where these do not end."""
  begin, end = THOUGHTS
  text = answer['text']
  if end in text:
    return text.split(end)[-1].strip()
  return '' if text.lstrip().startswith(begin) else text


def are_letters(options: Sequence[str]) -> bool:
  """Whether a first token tells options apart, whatever the tokenizer."""
  return all(len(x) == 1 and x.isalnum() for x in options)


def check_letters(options: Sequence[Sequence[str]]) -> None:
  """Raises ConfigError at options of more than a character."""
  for names in options:
    if not are_letters(names):
      raise schema.ConfigError(
        f'behavior.read=first_token: the options {tuple(names)} are no single letters, '
        'and a server does not say which tokens they begin with: set it to reply'
      )


def letters(answer: dict[str, Any], options: Sequence[str]) -> list[float]:
  """Log-probabilities of options that are letters, [K].

  A letter counts with and without blanks around it. One that is not among the likeliest
  tokens gets half of the most that it could have, which is less than any that is.

  Raises:
    ValueError: none of them is.
  """
  top = answer['top']
  mass = {x: [p for token, p in top if token.strip() == x] for x in options}
  if not any(mass.values()):
    raise ValueError(
      f'none of the options {tuple(options)} is among the {len(top)} likeliest first '
      f'tokens ({[token for token, _ in top[:5]]} …)'
    )
  rest = 1 - sum(math.exp(x) for _, x in top)
  bound = min(min(x for _, x in top), math.log(max(rest, 1e-12)))
  missing = bound - math.log(2)  # so that even the last that is listed comes before it
  return [float(np.logaddexp.reduce(x)) if x else missing for x in mass.values()]


def asked_pause(given: str) -> float:
  """Seconds that a server asks to wait, by Retry-After: a number, or a date; else 0."""
  try:
    seconds = float(given)
  except ValueError:
    try:
      then = email.utils.parsedate_to_datetime(given).timestamp()
    except ValueError:
      return 0.0
    seconds = then - time.time()
  return max(0.0, seconds) if math.isfinite(seconds) else 0.0
