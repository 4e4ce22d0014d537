"""Batches of made-up words, in the form of real ones: for plans and benchmarks."""

from typing import Any, NamedTuple

import numpy as np

from coupling.config import schema
from coupling.model import speculative
from coupling.model.architecture import DecoderConfig
from coupling.training import preference_loss
from coupling.training import tree_batches
from data import loader
from data import trees as trees_lib

OPTIONS = 4  # of a pair


class Lengths(NamedTuple):
  """Of a made-up pair, in tokens."""

  before: int  # of x, before its cue
  cue: int
  after: int
  asked: int = 16  # what asks for the behaviour
  explain: int = 32  # and for the explanation
  statement: int = 16

  @classmethod
  def of(cls, tokens: int) -> 'Lengths':
    """Those of an x of so many tokens, its cue in the middle."""
    cue = min(24, tokens // 2)
    before = (tokens - cue) // 2
    return cls(before, cue, tokens - cue - before)


def questions(
  model: DecoderConfig, lengths: Lengths, pairs: int
) -> dict[str, np.ndarray]:
  """Random token ids of pairs, int32 [N, T] each: what asks for the behaviours on `x`
  and on x∖C, `counterfactual`, what asks for the `explanation`, and its `statement`.

  Pairs differ in x; what is asked about it is asked of all in the same words."""
  rng = np.random.default_rng(0)
  before, cue, after = (
    rng.integers(1, model.vocab_size, (pairs, n), np.int32) for n in lengths[:3]
  )
  asked, explain = (
    np.tile(rng.integers(1, model.vocab_size, n, np.int32), (pairs, 1))
    for n in lengths[3:5]
  )
  allowed_MxG = statements(model, lengths)
  joined = lambda *parts: np.concatenate(parts, axis=1)
  return {
    'x': joined(before, cue, after, asked),
    'counterfactual': joined(before, after, asked),
    'explanation': joined(before, cue, after, explain),
    'statement': allowed_MxG[rng.integers(len(allowed_MxG), size=pairs)],
  }


def statements(model: DecoderConfig, lengths: Lengths) -> np.ndarray:
  """Random token ids of what may be stated [M, G], as of statements.tokens.

  "Unchanged" is one text, "changed" names the option in its last words.
  """
  rng, length = np.random.default_rng(1), lengths.statement
  unchanged_G, changed_G = rng.integers(1, model.vocab_size, (2, length), np.int32)
  allowed_MxG = np.tile([unchanged_G, changed_G], (OPTIONS, 1))
  allowed_MxG[1::2, max(length - 3, 0)] = np.arange(1, OPTIONS + 1)
  return allowed_MxG


def train_batch(
  config: schema.Train, model: DecoderConfig, lengths: Lengths, multiple: int
) -> loader.Arrays:
  """One batch of made-up pairs; rows of trees are a multiple of `multiple`."""
  terms, pairs = config.objectives, config.explanation_batch
  asked, members = {}, {}
  if terms.explanation_xent.weight:
    asked['explanation'] = _explanation_rows(questions(model, lengths, pairs))
    members['explanation'] = np.arange(pairs)[:, None]
  if terms.behavior_kl.weight or terms.behavior_xent.weight:
    shown = pairs if config.trees else -(-config.behavior_batch // 2)
    asked['behavior'] = _behavior_rows(terms, model, questions(model, lengths, shown))
    members['behavior'] = np.arange(2 * shown).reshape(2, -1).T
  apart = {}
  if terms.dpo.weight:
    apart[preference_loss.PART] = _preference_rows(model, lengths, terms.dpo.batch)
  if config.trees and asked:
    grown = tree_batches.grow(asked, members)
    pools = {'explained': loader.ShuffledBatches(grown, pairs, 0)}
    plan = tree_batches.plan(pools, 1, multiple)
    return tree_batches.pack([grown], plan) | apart
  if 'behavior' in asked:  # of an odd number, one x more
    rows = np.arange(config.behavior_batch)
    asked['behavior'] = loader.take(asked['behavior'], rows)
  return asked | apart


def _explanation_rows(made: dict[str, np.ndarray]) -> loader.Arrays:
  """What is asked for, with the statements to learn."""
  asked, said = made['explanation'], made['statement']
  rows = np.concatenate([asked, said[:, :-1]], axis=1)
  read = np.arange(asked.shape[1] - 1, rows.shape[1], dtype=np.int32)
  learned = {'target': said, 'mask': np.ones(said.shape, bool)}
  return _rows(rows, np.tile(read, (len(rows), 1))) | learned


def _preference_rows(
  model: DecoderConfig, lengths: Lengths, count: int
) -> loader.Arrays:
  """Two replies to x, as long as statements, and M_0's log-probabilities of them."""
  made = _explanation_rows(questions(model, lengths, 2 * count))
  rows = {k: x.reshape(count, 2, -1) for k, x in made.items()}
  return rows | {'reference': np.zeros((count, 2), np.float32)}


def _behavior_rows(
  terms: schema.Objectives, model: DecoderConfig, made: dict[str, np.ndarray]
) -> loader.Arrays:
  """All x, then all x∖C, with what they are held or shifted to."""
  pairs, length = made['x'].shape
  cue = length - made['counterfactual'].shape[1]
  rows = np.concatenate([made['x'], np.pad(made['counterfactual'], ((0, 0), (0, cue)))])
  last = np.repeat([length - 1, length - 1 - cue], pairs).astype(np.int32)
  options = np.tile(np.arange(1, OPTIONS + 1, dtype=np.int32), (2 * pairs, 1, 1))
  every = np.ones((2 * pairs, 1), bool)
  part = _rows(rows, last[:, None]) | {'options': options, 'mask': every}
  kl = terms.behavior_kl
  if kl.weight and kl.reference == 'labels':
    support = OPTIONS if kl.support == 'options' else model.vocab_size
    shape = 2 * pairs, 1, support
    part['reference'] = np.full(shape, -np.log(support), np.float32)
  if terms.behavior_xent.weight:
    part['shift_target'] = np.full(options.shape, 1 / OPTIONS, np.float32)
    part['shift_mask'] = every
  return part


def _rows(tokens_NxT: np.ndarray, read_NxC: np.ndarray) -> loader.Arrays:
  valid = np.arange(tokens_NxT.shape[1]) <= read_NxC[:, -1:]
  return {'tokens': tokens_NxT, 'valid': valid, 'read': read_NxC}


def evaluation_batch(
  model: DecoderConfig, lengths: Lengths, pairs: int
) -> dict[str, Any]:
  """Made-up pairs as evaluation.questions asks about real ones, but for `explain`."""
  made = questions(model, lengths, pairs)
  asked = [made[name] for name in ('x', 'counterfactual', 'explanation')]
  trees, places = trees_lib.build(list(zip(*asked)))
  read_Nx3 = np.array([[x[-1] for x in place] for place in places], np.int32)
  options_NxK = np.tile(np.arange(1, OPTIONS + 1, dtype=np.int32), (pairs, 1))
  allowed_NxMxG = np.tile(statements(model, lengths), (pairs, 1, 1))
  return {
    'trees': trees,
    'read': read_Nx3,
    'options': options_NxK,
    'statements': speculative.make_drafts(allowed_NxMxG, ()),
  }
