"""Encoding: the arrays that ask for behaviours and for explanations.

Shapes: N pairs, T tokens, C positions read, K options.
"""

import array
from collections.abc import Sequence
import functools
from typing import Any

import numpy as np

from coupling.config import schema
from coupling.elicit import options as options_lib
from data import formats
from data import pairs as pairs_lib
from data import tokens as tokens_lib
from data import trees as trees_lib


def questions(
  format: formats.Format,
  texts: Sequence[formats.Turns],
  completions: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
  """Arrays that put questions to a model, with or without the answers to learn.

  Args:
    format: how the model is asked.
    texts: what is asked, up to the answer position.
    completions: the answers to be learned; default: none, only asked.

  Returns:
    tokens_NxT, padded on the right, valid_NxT, and read_NxC: the positions whose
    prediction is wanted (C is 1, or the longest completion), with target_NxC and
    mask_NxC where there are completions.
  """
  prompts = _prompts(
    format, tuple(t if isinstance(t, str) else tuple(t) for t in texts)
  )
  if completions is None:
    answers = [[] for _ in prompts]
  else:
    distinct = list(dict.fromkeys(completions))  # answers are few, questions are many
    ids = dict(zip(distinct, format.answers(distinct)))
    answers = [ids[completion] for completion in completions]
  # The last token of a completion is a target only, never an input.
  rows = [prompt + _ids(answer[:-1]) for prompt, answer in zip(prompts, answers)]
  length_N = np.array([len(row) for row in rows])
  tokens_NxT = tokens_lib.pad(rows, length_N.max(), format.pad_token)
  width = max(1, max(map(len, answers)))
  last_N = np.array([len(prompt) for prompt in prompts]) - 1
  read_NxC = np.minimum(last_N[:, None] + np.arange(width), length_N[:, None] - 1)
  arrays = {
    'tokens': tokens_NxT,
    'valid': np.arange(tokens_NxT.shape[1]) < length_N[:, None],
    'read': read_NxC.astype(np.int32),
  }
  if completions is not None:
    arrays['target'] = tokens_lib.pad(answers, width, format.pad_token)
    arrays['mask'] = np.arange(width) < np.array([len(a) for a in answers])[:, None]
  return arrays


@functools.lru_cache(maxsize=4)  # the runs of a seed ask the same
def _prompts(
  format: formats.Format, texts: tuple[formats.Turns, ...]
) -> list[array.array]:
  return [_ids(row) for row in format.prompts(texts)]


_ids = functools.partial(array.array, 'i')  # an eighth of a list


def explanation_texts(
  template: pairs_lib.Questions,
  items: Sequence[pairs_lib.Pair],
  answers: Sequence[str] | None,
) -> list[formats.Turns]:
  """What asks for explanations, before or after an answer stands in the context.

  Args:
    template: how the task asks.
    items: the pairs.
    answers: the answers on x; None: asked before any.
  """
  if answers is None:
    return [template.explanation.format(prompt=pair.prompt) for pair in items]
  return [
    (template.behavior.format(prompt=pair.prompt), answer, template.explanation_after)
    for pair, answer in zip(items, answers, strict=True)
  ]


def pair_questions(
  format: formats.Format,
  items: Sequence[pairs_lib.Pair],
  template: pairs_lib.Questions,
  how: options_lib.How = options_lib.PLAIN,
) -> dict[str, Any]:
  """What is asked about each pair, and its options.

  Returns:
    For a forced choice `trees`, a data.trees.Trees: the behaviour questions on x and
    x∖C and the explanation question before any answer; `read` [N, 2C + 1], what is read
    of these, in this order; and `options`, which are [N, K] of `option_tokens` where C
    is 1 and first tokens are read, and else those of options.readings, with what else
    that gives. For behaviours that are read from replies `pair`: see `questions`, with
    an axis of x and x∖C after the first, tokens [N, 2, T]; and `option_texts`, object
    [N] of the tuples of options.
  """
  prompts = [text for p in items for text in (p.prompt, p.counterfactual)]
  asked = [template.behavior.format(prompt=x) for x in prompts]
  if template.detect is not None:
    rows = questions(format, asked)
    pair = {k: v.reshape(len(items), 2, *v.shape[1:]) for k, v in rows.items()}
    texts_N = np.empty(len(items), object)
    texts_N[:] = [p.options for p in items]
    return {'pair': pair, 'option_texts': texts_N}
  ids = format.prompts(asked)
  explain = format.prompts(explanation_texts(template, items, None))
  if how.plain:
    options, suffixes = {'options': option_tokens(format, items)}, [((),)] * len(items)
  else:
    options = options_lib.readings(format, items, how)
    suffixes = options.pop('suffixes')
  groups = [
    [[*prompt, *suffix] for prompt in pair for suffix in after] + [why]
    for *pair, why, after in zip(ids[0::2], ids[1::2], explain, suffixes, strict=True)
  ]
  trees, places = trees_lib.build(groups)
  read_NxC = np.array([[x[-1] for x in place] for place in places], np.int32)
  return {'trees': trees, 'read': read_NxC, **options}


def option_tokens(
  format: formats.Format, items: Sequence[pairs_lib.Pair]
) -> np.ndarray:
  """First answer token of each pair's options [N, K]: see tokens.option_tokens.

  Raises:
    ConfigError: options that a forced choice cannot tell apart, and whose they are.
  """
  try:
    return format.option_tokens([p.options for p in items])
  except ValueError:
    for pair in {p.options: p for p in items}.values():
      try:
        format.option_tokens([pair.options])
      except ValueError as e:
        raise schema.ConfigError(
          f'task: the pair from {pair.provenance!r} has the options {pair.options}. {e}'
        ) from e
    raise
