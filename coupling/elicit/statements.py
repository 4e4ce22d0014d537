"""The statements that a task allows as explanations: their tokens, what they mean.

Shapes: N or B items, G tokens of a statement, M = 2K allowed statements (2k + changed)
of an item with K options.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from coupling.config import schema
from coupling.elicit import explanation
from data import formats
from data import pairs as pairs_lib
from data import tokens as tokens_lib

NO_TOKEN = -1  # fills statements of options that an item lacks; nothing matches it


def tokens(
  format: formats.Format,
  items: Sequence[pairs_lib.Pair],
  template: pairs_lib.Questions,
) -> np.ndarray:
  """Tokens of every statement that parses, each with what ends it and padded after.

  Returns:
    int32 [N, M, G].

  Raises:
    ConfigError: see check_ends.
  """
  K = max(len(p.options) for p in items)
  forms = (template.unchanged, template.changed)
  options = dict.fromkeys(option for p in items for option in p.options)
  texts = [form.format(answer=option) for option in options for form in forms]
  ids = dict(zip(texts, format.answers(texts)))
  check_ends(format, ids)
  G = max(map(len, ids.values()))
  padded = {
    text: tokens_lib.pad([x], G, format.pad_token)[0] for text, x in ids.items()
  }
  statements_NxMxG = np.full((len(items), 2 * K, G), NO_TOKEN, np.int32)
  for row_MxG, pair in zip(statements_NxMxG, items):
    for m, text in enumerate(_allowed(pair, template)):
      row_MxG[m] = padded[text]
  return statements_NxMxG


def check_ends(format: formats.Format, ids: Mapping[str, Sequence[int]]) -> None:
  """Raises ConfigError where a statement's tokens could go on, as longer ones do.

  Args:
    format: how the model is asked.
    ids: statements and their tokens.
  """
  longest = max(ids, key=lambda text: len(ids[text]))
  G = len(ids[longest])
  for text, tokens in ids.items():
    if len(tokens) != G and tokens[-1] not in format.end_tokens:
      raise schema.ConfigError(
        f'The statements of an explanation have different lengths, up to {G} tokens '
        f'({longest!r}; {text!r} has {len(tokens)}), and nothing that ends them: ask '
        "by a chat template (base.chat=True), or word the task's `unchanged` and "
        '`changed` so that they are equally long.'
      )


def parse(
  generated_BxG: jax.Array,
  statements_BxMxG: jax.Array,
  behavior_B: jax.Array,
  states_answer: bool,
) -> explanation.Explanation:
  """The explanation that a generation states; INVALID where it is no statement."""
  same_BxM = jnp.all(generated_BxG[:, None] == statements_BxMxG, axis=-1)
  stated = meaning(jnp.argmax(same_BxM, axis=-1), behavior_B, states_answer)
  valid_B = jnp.any(same_BxM, axis=-1)
  return explanation.Explanation(
    *(jnp.where(valid_B, x_B, explanation.INVALID) for x_B in stated)
  )


def longest(items: Sequence[pairs_lib.Pair], template: pairs_lib.Questions) -> int:
  """Bytes of the longest statement, than which it has no more tokens."""
  texts = (text for pair in items for text in _allowed(pair, template))
  return max(len(text.encode()) for text in texts)


def parse_texts(
  texts: Sequence[str],
  items: Sequence[pairs_lib.Pair],
  template: pairs_lib.Questions,
  behavior_N: np.ndarray,
) -> explanation.Explanation:
  """What `parse` gives, of generations that are texts; blanks around them do not count.

  Tokens that a tokenizer does not itself write a statement by are none to `parse`, but
  their text is one.
  """
  index_N = np.full(len(items), -1)
  for i, (text, pair) in enumerate(zip(texts, items, strict=True)):
    allowed = [x.strip() for x in _allowed(pair, template)]
    if text.strip() in allowed:
      index_N[i] = allowed.index(text.strip())
  stated = meaning(index_N, behavior_N, template.states_answer)
  invalid_N = index_N < 0
  return explanation.Explanation(
    *(np.where(invalid_N, explanation.INVALID, x_N).astype(np.int32) for x_N in stated)
  )


def _allowed(pair: pairs_lib.Pair, template: pairs_lib.Questions) -> list[str]:
  """All M statements of a pair."""
  forms = (template.unchanged, template.changed)
  return [form.format(answer=x) for x in pair.options for form in forms]


def meaning(
  statement_B: jax.Array, behavior_B: jax.Array, states_answer: bool
) -> explanation.Explanation:
  """The explanation that an allowed statement is, by its index 2k + changed.

  Where "unchanged" names no answer, the answer meant is the model's own on x.
  """
  answer_B, changed_B = statement_B // 2, statement_B % 2
  if not states_answer:
    answer_B = jnp.where(changed_B == 1, answer_B, behavior_B)
  return explanation.Explanation(answer_B, changed_B)
