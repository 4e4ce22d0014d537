"""Which pairs fit: none of whose prompts, with its answer, is too long."""

from collections.abc import Sequence

import numpy as np

from coupling.config import schema
from coupling.elicit import encoding
from data import formats
from data import pairs as pairs_lib
from data import tokens as tokens_lib


def lengths(
  format: formats.Format,
  template: pairs_lib.Questions,
  found: Sequence[pairs_lib.Pair],
  read: str,
  reply_tokens: int,
  after: bool,
) -> np.ndarray:
  """Tokens of the longest prompt of each pair with its answer, int [N].

  Args:
    format: how the model is asked.
    template: how the task asks.
    found: the pairs.
    read: see schema.Behavior.
    reply_tokens: of a reply, where behaviours are read from replies.
    after: whether explanations are asked for after an answer too.
  """
  options = dict.fromkeys(option for pair in found for option in pair.options)
  forms = (template.unchanged, template.changed)
  statements = format.answers([x.format(answer=o) for o in options for x in forms])
  answer = 1
  if template.detect:
    answer = reply_tokens
  elif read == 'text':
    answer = max(map(len, format.answers(list(options))))

  def tokens(texts: Sequence[formats.Turns]) -> np.ndarray:
    return np.array([len(prompt) for prompt in format.prompts(texts)])

  statement = max(map(len, statements))
  longest = [
    *(
      tokens([template.behavior.format(prompt=getattr(p, x)) for p in found]) + answer
      for x in ('prompt', 'counterfactual')
    ),
    tokens(encoding.explanation_texts(template, found, None)) + statement,
  ]
  if after:
    widest = [max(p.options, key=len) if template.detect is None else '' for p in found]
    asked = tokens(encoding.explanation_texts(template, found, widest))
    longest.append(asked + statement + (answer if template.detect else 0))
  return np.max(longest, axis=0)


def kept(length_N: np.ndarray, length: schema.Length, where: str) -> np.ndarray:
  """Indices of the pairs that are not too long.

  Args:
    length_N: of `lengths`.
    length: the limit, and what is done with those above it.
    where: what errors call these pairs.

  Raises:
    ConfigError: too long prompts where none are wanted, or nothing else.
  """
  try:
    return tokens_lib.fit_lengths(length_N, length.max_tokens, length.too_long)
  except ValueError as error:
    raise schema.ConfigError(
      f'length.max_tokens={length.max_tokens}, {where}: {error}'
    ) from error
