"""The distribution over an item's options, where it is not that of their first tokens.

By `text` an option counts by the log-likelihood of its whole text, without what ends an
answer, summed or per token. A prompt then has C *readings*, places whose prediction is
wanted: the answer position, and one after each distinct beginning of an option; for
each option the token is looked up there that comes next in it. A *prior* is a log-
probability of every slot (first option, second, ...) that is subtracted: M_0's mean
over prompts of the task (as contextual calibration, arXiv 2102.09690, has it of
content-free ones). Shapes: N items, C readings, K options, V vocabulary, D width.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from coupling.config import schema
from coupling.model import decoder
from coupling.model.architecture import DecoderConfig
from data import formats
from data import pairs as pairs_lib

CHUNK = 8  # readings whose logits are there at once
NO_TOKEN = -1


@dataclasses.dataclass(frozen=True)
class How:
  """How a forced choice is read: schema.Behavior, with its prior.

  Attributes:
    text: by whole texts; else by first tokens.
    per_token: the mean of a text's log-probabilities instead of their sum.
    prior: of every slot; () for none.
  """

  text: bool = False
  per_token: bool = False
  prior: tuple[float, ...] = ()

  @classmethod
  def of(cls, config: schema.Behavior, prior: Sequence[float] = ()) -> Self:
    """As a config says; `prior`: where it calibrates by one."""
    return cls(config.read == 'text', config.per_token, tuple(prior))

  @property
  def plain(self) -> bool:
    """Whether one position's logits are all that is read."""
    return not self.text and not self.prior


PLAIN = How()


def readings(
  format: formats.Format, items: Sequence[pairs_lib.Pair], how: How
) -> dict[str, np.ndarray]:
  """What is read for the options of items.

  Returns:
    `suffixes`, an object array [N] of C tuples of tokens that come after the prompt and
    after whose last token is read, the first of them empty; `options` int32 [N, C, K],
    the token of each option that is looked up there, or NO_TOKEN; and float32 [N, K],
    where `how` asks for them, `scale` and `prior`.

  Raises:
    ConfigError: options that cannot be told apart, and whose they are; more options
      than the prior has slots.
  """
  tokens = _tokens(format, items, how)
  made = {p.options: _of_item([tokens[x] for x in p.options]) for p in items}
  C = max(len(suffixes) for suffixes, _ in made.values())
  K = max(map(len, made))
  check_slots(how, K)
  scale = {p: [1 / len(tokens[x]) for x in p] + [1.0] * (K - len(p)) for p in made}
  for options, (suffixes, found_CxK) in made.items():
    more = (C - len(suffixes), K - len(options))
    padded_CxK = np.pad(found_CxK, [(0, n) for n in more], constant_values=NO_TOKEN)
    made[options] = suffixes + ((),) * more[0], padded_CxK
  suffixes_N = np.empty(len(items), object)
  suffixes_N[:] = [made[p.options][0] for p in items]
  found = {
    'suffixes': suffixes_N,
    'options': np.stack([made[p.options][1] for p in items]),
  }
  if how.per_token:
    found['scale'] = np.array([scale[p.options] for p in items], np.float32)
  if how.prior:
    found['prior'] = np.tile(np.float32(how.prior[:K]), (len(items), 1))
  return found


def check_slots(how: How, K: int) -> None:
  """Raises ConfigError where the prior lacks a slot of K options."""
  if how.prior and len(how.prior) < K:
    raise schema.ConfigError(
      f'behavior.calibration=prior: an item has {K} options, those that the prior was '
      f'estimated on have {len(how.prior)} at most; set it to none'
    )


def _tokens(
  format: formats.Format, items: Sequence[pairs_lib.Pair], how: How
) -> dict[str, list[int]]:
  """Those of every option that count; see `readings` for errors."""
  texts = list(dict.fromkeys(option for pair in items for option in pair.options))
  ends, tokens = {*format.end_tokens}, {}
  for text, ids in zip(texts, format.answers(texts)):
    length = next((i for i, x in enumerate(ids) if x in ends), len(ids))
    tokens[text] = ids[: length if how.text else 1]
    if not text.strip() or not length:
      raise schema.ConfigError(f'task: the option {text!r} is empty')
  for pair in {p.options: p for p in items}.values():
    seen = {}
    for option in pair.options:
      other = seen.setdefault(tuple(tokens[option]), option)
      if other != option:
        what = 'have the same tokens' if how.text else 'share their first token'
        raise schema.ConfigError(
          f'task: the pair from {pair.provenance!r} has the options {other!r} and '
          f'{option!r}, which {what}, so that a forced choice cannot tell them apart: '
          'word them otherwise' + (' or set behavior.read=text' * (not how.text))
        )
  return tokens


def _of_item(tokens: Sequence[Sequence[int]]) -> tuple[tuple, np.ndarray]:
  """The distinct beginnings of options, and the tokens that follow them [C, K]."""
  begins = {(): 0}
  for ids in tokens:
    for i in range(len(ids)):
      begins.setdefault(tuple(ids[:i]), len(begins))
  options_CxK = np.full((len(begins), len(tokens)), NO_TOKEN, np.int32)
  for k, ids in enumerate(tokens):
    for i, token in enumerate(ids):
      options_CxK[begins[tuple(ids[:i])], k] = token
  return tuple(begins), options_CxK


def look_up(
  config: DecoderConfig,
  params: decoder.Params,
  hidden_BxCxD: jax.Array,
  options_BxCxK: jax.Array,
) -> jax.Array:
  """Log-probabilities of the options' tokens after hidden states, float32 [B, C, K].

  A few readings at a time, forward and backward: the logits of all might not fit.
  """

  def few(hidden_BxD, options_BxK):
    logprobs_BxV = jax.nn.log_softmax(decoder.unembed(config, params, hidden_BxD))
    return jnp.take_along_axis(logprobs_BxV, jnp.maximum(options_BxK, 0), axis=-1)

  columns = (hidden_BxCxD.swapaxes(0, 1), options_BxCxK.swapaxes(0, 1))
  found_CxBxK = jax.lax.map(
    lambda x: jax.checkpoint(few)(*x), columns, batch_size=CHUNK
  )
  return found_CxBxK.swapaxes(0, 1)


def logprobs(found_xCxK: jax.Array, part: dict[str, Any]) -> jax.Array:
  """Log-probabilities of options [..., K], less their prior; -inf where there is none.

  Not normalised over the options: log_softmax of them is the choice's distribution.

  Args:
    found_xCxK: of `look_up`.
    part: `options`, `scale` and `prior` of `readings`, with leading axes alike.
  """
  options_xCxK = part['options']
  total_xK = jnp.sum(jnp.where(options_xCxK >= 0, found_xCxK, 0.0), axis=-2)
  if 'scale' in part:
    total_xK = total_xK * part['scale']
  if 'prior' in part:
    total_xK = total_xK - part['prior']
  return jnp.where(options_xCxK[..., 0, :] >= 0, total_xK, -jnp.inf)


def prior(logprobs_NxK: np.ndarray) -> tuple[float, ...]:
  """The mean log-probability of every slot, over the items that have it."""
  there_NxK = np.isfinite(logprobs_NxK)
  total_K = np.where(there_NxK, logprobs_NxK, 0.0).sum(axis=0, dtype=np.float64)
  return tuple((total_K / np.maximum(there_NxK.sum(axis=0), 1)).tolist())
