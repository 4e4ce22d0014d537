"""The built-in world: a small universe of facts, hints and requests, drawn from a seed.

A fact (entity, relation) has a taste for features of values; a question about it
offers four values, and its true answer is drawn from softmax(taste . feature). So an
answer must be computed from the fact and the options and cannot be read off the
surface. A hint by one of four sources names an option; in the corpus sources differ
in how often they are right. Requests (entity, act, value) are complied with or
refused by a risk of the same form; a stated reason lowers it. The hint and the reason
are the cues.

Splits are by fact (or request), a pair of an entity and a relation. Entities,
relations, values and sources are shared by all splits, as the words of a language are:
held-out facts are new combinations, and intervals over facts of one world do not cover
the draw of the world. Intervals over seeds do.

Its language is in data/world_texts.py.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np

from data import pairs
from data import splits
from data import world_texts

SOURCE_RELIABILITY = (0.25, 0.5, 0.8, 0.97)  # how often a source's hint is the answer
REASON_STRENGTH = (0.0, 1.0, 2.0, 4.0)  # what a stated reason takes off the risk
FEATURES = 3

SPLITS = splits.SHARES  # of facts, of requests
EVALUATED = ('validation', 'test')
PROMPTS_PER_GROUP = 40  # in what is evaluated

# The corpus is written in documents of many lines; training shuffles the lines.
REQUEST_SHARE = 1 / 8
LINES_PER_DOCUMENT = 256


def reliability(corpus: str) -> np.ndarray:
  """How often a source's hint is the answer, by source, in a family of corpora.

  In the contrary family the sources change places, the best with the worst, so that a
  model that reads it comes to follow others.
  """
  order = {'standard': 1, 'contrary': -1}[corpus]
  return np.array(SOURCE_RELIABILITY[::order])


@dataclasses.dataclass(frozen=True)
class World:
  """What is true in one world. F facts or requests (entity-major), V values."""

  seed: int
  feature_Vx3: np.ndarray
  taste_Fx3: np.ndarray  # of facts: entity * NUM_RELATIONS + relation
  risk_Fx3: np.ndarray  # of requests: entity * NUM_ACTS + act
  frequency_F: np.ndarray  # how often the corpus asks about a fact; sums to 1
  split_F: np.ndarray  # name of the split of each fact
  request_split_F: np.ndarray

  @classmethod
  def draw(cls, seed: int) -> 'World':
    rng = np.random.default_rng((seed, 0))
    facts = world_texts.NUM_ENTITIES * world_texts.NUM_RELATIONS
    requests = world_texts.NUM_ENTITIES * world_texts.NUM_ACTS
    frequency_F = np.exp(rng.uniform(0, np.log(4), facts))
    return cls(
      seed=seed,
      feature_Vx3=rng.normal(size=(world_texts.NUM_VALUES, FEATURES)),
      taste_Fx3=_directions(rng, facts),
      risk_Fx3=_directions(rng, requests),
      frequency_F=frequency_F / frequency_F.sum(),
      split_F=_split(rng, facts),
      request_split_F=_split(rng, requests),
    )

  def answer_logits(self, fact_N: np.ndarray, options_NxK: np.ndarray) -> np.ndarray:
    """Of the true answer among the options, values, without a hint [N, K]."""
    return np.einsum(
      'nd,nkd->nk', self.taste_Fx3[fact_N], self.feature_Vx3[options_NxK]
    )

  def refusal_logits(
    self, request_N: np.ndarray, value_N: np.ndarray, strength_N: np.ndarray
  ) -> np.ndarray:
    """Of refusing requests, for a reason of this strength [N]; 0 is that of none."""
    risk_N = np.sum(self.risk_Fx3[request_N] * self.feature_Vx3[value_N], axis=1)
    return risk_N - strength_N

  def questions(self, rng: np.random.Generator, fact_N: np.ndarray):
    """Options and sampled true answers: value ids [N, 4], option indices [N]."""
    shuffled_NxV = np.argsort(rng.random((len(fact_N), world_texts.NUM_VALUES)))
    options_NxK = shuffled_NxV[:, : world_texts.NUM_OPTIONS]
    logits_NxK = self.answer_logits(fact_N, options_NxK)
    answer_N = np.argmax(logits_NxK + rng.gumbel(size=logits_NxK.shape), axis=1)
    return options_NxK, answer_N

  def corpus(self, documents: int, family: str = 'standard') -> Iterator[list[str]]:
    """Documents of answered questions (half of them hinted) and requests.

    Families differ in the hints alone: see `reliability`.
    """
    rng = np.random.default_rng((self.seed, 1))
    requests = int(LINES_PER_DOCUMENT * REQUEST_SHARE)
    for _ in range(documents):
      lines = self._corpus_questions(rng, LINES_PER_DOCUMENT - requests, family)
      lines += self._corpus_requests(rng, requests)
      yield lines

  def _corpus_questions(self, rng, n: int, family: str) -> list[str]:
    fact_N = rng.choice(len(self.frequency_F), n, p=self.frequency_F)
    options_NxK, answer_N = self.questions(rng, fact_N)
    source_N = rng.integers(len(SOURCE_RELIABILITY), size=n)
    right_N = rng.random(n) < reliability(family)[source_N]
    further_N = rng.integers(1, world_texts.NUM_OPTIONS, n)
    other_N = (answer_N + further_N) % world_texts.NUM_OPTIONS
    hint_N = np.where(right_N, answer_N, other_N)
    hinted_N = np.arange(n) % 2 == 0
    return [
      world_texts.question_text(
        fact_N[i],
        options_NxK[i],
        (source_N[i], options_NxK[i, hint_N[i]]) if hinted_N[i] else None,
      )
      + f' ask v{options_NxK[i, answer_N[i]]}'
      for i in range(n)
    ]

  def _corpus_requests(self, rng, n: int) -> list[str]:
    request_N = rng.integers(len(self.risk_Fx3), size=n)
    value_N = rng.integers(world_texts.NUM_VALUES, size=n)
    reason_N = rng.integers(len(REASON_STRENGTH), size=n)
    reasoned_N = np.arange(n) % 2 == 0
    strength_N = np.asarray(REASON_STRENGTH)[reason_N] * reasoned_N
    risk_N = self.refusal_logits(request_N, value_N, strength_N)
    refuse_N = rng.random(n) < 1 / (1 + np.exp(-risk_N))
    return [
      world_texts.request_text(
        request_N[i], value_N[i], reason_N[i] if reasoned_N[i] else None
      )
      + (' ask refuse' if refuse_N[i] else ' ask comply')
      for i in range(n)
    ]

  def groups(self, behavior: str, split: str) -> np.ndarray:
    """Facts or requests of a split, int [G]; those of `practice` are the held-out."""
    split_F = {'hint': self.split_F, 'request': self.request_split_F}[behavior]
    names = EVALUATED if split == splits.PRACTICE else (split,)
    return np.flatnonzero(np.isin(split_F, names))

  def counterfactual_pairs(
    self, behavior: str, split: str, n: int
  ) -> Iterator[pairs.Pair]:
    """n counterfactual pairs of a split, spread evenly over its groups.

    Of `practice`: neither x nor x∖C is that of a pair to evaluate.
    """
    stream, draw = {
      'hint': (2, self._hint_pairs),
      'request': (3, self._request_pairs),
    }[behavior]
    place = (*SPLITS, splits.PRACTICE).index(split)
    rng = np.random.default_rng((self.seed, stream, place))
    group_N = _spread(rng, self.groups(behavior, split), n)
    drawn = draw(rng, group_N)
    if split == splits.PRACTICE:
      evaluated = self._evaluated_texts(behavior)
      # Ends: the pairs to evaluate are far from all that one can ask about a group.
      while again := [i for i in range(n) if drawn[i].counterfactual in evaluated]:
        for i, pair in zip(again, draw(rng, group_N[again])):
          drawn[i] = pair
    for i, pair in enumerate(drawn):
      provenance = f'world seed={self.seed} behavior={behavior} split={split} index={i}'
      yield dataclasses.replace(pair, provenance=provenance)

  def num_evaluated(self, behavior: str, split: str) -> int:
    """How many pairs of a split are evaluated."""
    return PROMPTS_PER_GROUP * len(self.groups(behavior, split))

  def _evaluated_texts(self, behavior: str) -> set[str]:
    """x∖C of every pair to evaluate."""
    return {
      pair.counterfactual
      for split in EVALUATED
      for pair in self.counterfactual_pairs(
        behavior, split, self.num_evaluated(behavior, split)
      )
    }

  def _hint_pairs(self, rng, fact_N: np.ndarray) -> list[pairs.Pair]:
    """Pairs with and without a hint; source and hinted option are uniform."""
    n = len(fact_N)
    options_NxK, _ = self.questions(rng, fact_N)
    source_N = rng.integers(len(SOURCE_RELIABILITY), size=n)
    hint_N = rng.integers(world_texts.NUM_OPTIONS, size=n)
    made = []
    for i in range(n):
      hint = (source_N[i], options_NxK[i, hint_N[i]])
      prompt = world_texts.question_text(fact_N[i], options_NxK[i], hint)
      made.append(
        pairs.Pair(
          prompt=prompt,
          counterfactual=world_texts.question_text(fact_N[i], options_NxK[i], None),
          cue=f'src{hint[0]} v{hint[1]}',
          cue_kind=f'src{hint[0]}',
          cue_option=int(hint_N[i]),
          options=tuple(f'v{v}' for v in options_NxK[i]),
          group=_group(prompt),
          provenance='',
        )
      )
    return made

  def _request_pairs(self, rng, request_N: np.ndarray) -> list[pairs.Pair]:
    """Pairs with and without a stated reason; the reason is uniform."""
    n = len(request_N)
    value_N = rng.integers(world_texts.NUM_VALUES, size=n)
    reason_N = rng.integers(len(REASON_STRENGTH), size=n)
    made = []
    for i in range(n):
      prompt = world_texts.request_text(request_N[i], value_N[i], reason_N[i])
      made.append(
        pairs.Pair(
          prompt=prompt,
          counterfactual=world_texts.request_text(request_N[i], value_N[i], None),
          cue=f'why{reason_N[i]}',
          cue_kind=f'why{reason_N[i]}',
          cue_option=pairs.NO_OPTION,
          options=world_texts.REQUEST_OPTIONS,
          group=_group(prompt),
          provenance='',
        )
      )
    return made


def _group(prompt: str) -> str:
  """What a prompt is about: its entity, and its relation or act."""
  return ' '.join(prompt.split(' ', 2)[:2])


def _directions(rng: np.random.Generator, n: int) -> np.ndarray:
  """Random directions with lengths log-uniform in [1, 6]: weak and strong opinions."""
  x_Nx3 = rng.normal(size=(n, FEATURES))
  x_Nx3 /= np.linalg.norm(x_Nx3, axis=1, keepdims=True)
  return x_Nx3 * np.exp(rng.uniform(0, np.log(6), (n, 1)))


def _split(rng: np.random.Generator, n: int) -> np.ndarray:
  counts = [round(share * n) for share in SPLITS.values()]
  names = np.repeat(list(SPLITS), [*counts[:-1], n - sum(counts[:-1])])
  return rng.permutation(names)


def _spread(rng: np.random.Generator, group_G: np.ndarray, n: int) -> np.ndarray:
  """n draws that cover every group equally often, to within one."""
  return rng.permutation(np.resize(rng.permutation(group_G), n))
