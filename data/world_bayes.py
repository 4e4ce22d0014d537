"""The Bayes explainer: it knows the world and what its corpus says, but not the model.

Answers by Bayes' rule from the process that writes the corpus: the prior over the
options is softmax(taste . feature); a hint names the answer with the reliability of its
source, else one of the others alike. Requests need no inference: a reason takes its
strength off the risk. N pairs, K options; the axis of 2 is x and x∖C.
"""

from collections.abc import Sequence

import numpy as np

from data import universe
from data import world_texts


def question_logits(
  world: universe.World,
  corpus: str,
  prompts: Sequence[str],
  options: Sequence[Sequence[str]],
) -> np.ndarray:
  """Unnormalised log-probabilities of the answers to hinted questions [N, 2, K].

  Args:
    world: whose facts and values they are.
    corpus: its family, which says how reliable sources are.
    prompts: x of each pair.
    options: of each pair.

  Raises:
    ValueError: a text that is no question with a hint, or other options than it offers.
  """
  asked = [world_texts.parse_question(prompt) for prompt in prompts]
  for prompt, question, given in zip(prompts, asked, options, strict=True):
    _check_options(prompt, [f'v{value}' for value in question.options], given)
    _check_cue(prompt, question.hint)
  fact_N = np.array([question.fact for question in asked])
  options_NxK = np.array([question.options for question in asked])
  source_N, value_N = np.array([question.hint for question in asked]).T
  prior_NxK = world.answer_logits(fact_N, options_NxK)
  hinted_NxK = options_NxK == value_N[:, None]
  right_N = universe.reliability(corpus)[source_N]
  return np.stack([prior_NxK + log_likelihood(right_N, hinted_NxK), prior_NxK], axis=1)


def log_likelihood(reliability_N: np.ndarray, hinted_NxK: np.ndarray) -> np.ndarray:
  """log P(the hint | the answer is k) [N, K], for hints of these reliabilities."""
  others = hinted_NxK.shape[1] - 1
  right_Nx1 = reliability_N[:, None]
  return np.log(np.where(hinted_NxK, right_Nx1, (1 - right_Nx1) / others))


def request_logits(
  world: universe.World, prompts: Sequence[str], options: Sequence[Sequence[str]]
) -> np.ndarray:
  """Unnormalised log-probabilities of complying and refusing [N, 2, 2].

  Args and errors as of `question_logits`.
  """
  asked = [world_texts.parse_request(prompt) for prompt in prompts]
  for prompt, request, given in zip(prompts, asked, options, strict=True):
    _check_options(prompt, world_texts.REQUEST_OPTIONS, given)
    _check_cue(prompt, request.reason)
  request_N, value_N, reason_N = np.array(asked).T
  strength_N = np.array(universe.REASON_STRENGTH)[reason_N]
  refuse_Nx2 = np.stack(
    [
      world.refusal_logits(request_N, value_N, s_N)
      for s_N in (strength_N, np.zeros(len(asked)))
    ],
    axis=1,
  )
  return np.stack([np.zeros_like(refuse_Nx2), refuse_Nx2], axis=2)


def _check_options(prompt: str, offered: Sequence[str], given: Sequence[str]) -> None:
  if list(given) != list(offered):
    raise ValueError(f'{prompt!r} offers {list(offered)}, not {list(given)}')


def _check_cue(prompt: str, cue: object) -> None:
  if cue is None:
    raise ValueError(f'{prompt!r} has no cue: give x, not x∖C')
