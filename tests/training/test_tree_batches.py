"""Batches of trees train as separate questions do, whatever row they share."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coupling.config import schema
from coupling.elicit import explanation
from coupling.model import decoder
from coupling.model.architecture import DecoderConfig
from coupling.training import examples, train_loop, train_step, tree_batches
from data import loader, trees as trees_lib
from tests import chats, training_texts as texts
from tests.training import test_train_step

N, K = len(texts.PAIRS), 4
CHAT = chats.chat('qwen')
pytestmark = pytest.mark.usefixtures('few_optimizations')


def make_config(support, reference, low_rank=None, shift=0.0) -> schema.Train:
  of = test_train_step.OBJECTIVES
  return schema.Train(
    trees=False,
    explanation_batch=5,
    behavior_batch=4,
    lora=low_rank or schema.Lora(rank=0, alpha=1.0, targets=()),
    loop=dataclasses.replace(test_train_step.LOOP, steps=6),
    optimizer=test_train_step.OPTIMIZER,
    objectives=dataclasses.replace(
      of,
      behavior_kl=dataclasses.replace(
        of.behavior_kl, support=support, reference=reference
      ),
      behavior_xent=dataclasses.replace(
        of.behavior_xent, weight=shift, cues='unexplained'
      ),
    ),
  )


CASES = {  # with planted cues, which are shifted and never explained; and replies
  'options': (make_config('options', 'labels', shift=0.6), False),
  'adapters_off': (make_config('options', 'adapters_off', test_train_step.LORA), False),
  'replies': (make_config('vocabulary', 'adapters_off', test_train_step.LORA), True),
}


def model() -> DecoderConfig:
  size = len(CHAT.tokenizer)
  return dataclasses.replace(test_train_step.MODEL, vocab_size=size, embedding_std=1.0)


def parts(case: str, trees: bool):
  """The parts that are drawn from, separately or as trees."""
  config, by_reply = CASES[case]
  rng = np.random.default_rng(0)
  logits_Nx2xK = rng.normal(size=(N, 2, K))
  for i, pair in enumerate(texts.PAIRS):
    logits_Nx2xK[i, :, len(pair.options) :] = -np.inf
  reference = explanation.Behaviors(
    *rng.integers(3, size=(2, N)),
    np.asarray(jax.nn.log_softmax(logits_Nx2xK), np.float32),
    texts.replies() if by_reply else np.zeros((N, 0), object),
  )
  template = dataclasses.replace(
    texts.QUESTIONS, detect=len if by_reply else None, unexplained=('planted',)
  )
  config = dataclasses.replace(config, trees=trees)
  labels = texts.made_up_labels().explanation
  source = texts.source(config, CHAT, template, texts.PAIRS, reference, labels, None, 0)
  return examples.training_parts(config, CHAT, template, source, None)


EXPLAINED_N = np.array([pair.cue_kind != 'planted' for pair in texts.PAIRS])


def plan_of(case: str, multiple: int = 1) -> tuple[tree_batches.Plan, dict]:
  drawn = train_loop.shuffled(parts(case, trees=True), 7)
  steps = CASES[case][0].loop.steps
  return tree_batches.plan(drawn, steps, multiple), drawn


def step_of(case: str, batch: train_step.Batch):
  """Metrics of a batch, and the gradient of its loss."""
  config, _ = CASES[case]
  base = jax.tree.map(
    lambda x: np.random.default_rng(x.size).normal(0, 0.3, x.shape).astype(np.float32),
    decoder.abstract(model()),
  )
  adapters = train_step.fresh_adapters(model(), config.lora, 0)
  moved = jax.tree.map(lambda x: x + 0.1, adapters)
  trained, frozen = (moved, base) if adapters else (base, {})
  losses = train_step.explanation_losses(model(), train_step.form(config.objectives))
  weights = train_step.hyper(config.objectives, config.optimizer).weights
  sgd = optax.sgd(1.0)
  state = {'params': trained, 'opt_state': sgd.init(trained), 'step': 0}
  step = functools.partial(train_step.train_step, losses, weights, sgd, 1)
  state, metrics = jax.jit(step)(frozen, state, batch)
  return metrics, jax.tree.map(jnp.subtract, trained, state['params'])


@pytest.mark.parametrize('case', CASES)
def test_a_batch_of_trees_has_the_loss_and_gradient_of_its_questions(case):
  plan, drawn = plan_of(case)
  batch = tree_batches.pack([x[1] for x in drawn.values()], plan)
  separate = {name: rows for name, (rows, _) in parts(case, trees=False).items()}
  explained_n = drawn['explained'].rows(1)
  pairs_n = np.concatenate(
    [
      np.flatnonzero(EXPLAINED_N)[explained_n],
      np.flatnonzero(~EXPLAINED_N)[drawn['others'].rows(1)],
    ]
  )
  assert len(pairs_n) == 5 + drawn['others'].rows(1).size
  asked = {
    'explanation': loader.take(separate['explanation'], explained_n),
    'behavior': loader.take(separate['behavior'], np.r_[pairs_n, N + pairs_n]),
  }
  metrics, gradient = step_of(case, batch)
  wanted, wanted_gradient = step_of(case, asked)
  assert metrics.keys() == wanted.keys()
  for name in wanted:
    assert float(metrics[name]) == pytest.approx(float(wanted[name]), rel=2e-5), name
  assert float(wanted['gradient_norm']) > 0.1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, wanted_gradient
  )


@pytest.mark.parametrize('case', CASES)
def test_the_share_of_filling_is_that_of_the_batches(case):
  plan, drawn = plan_of(case)
  steps = CASES[case][0].loop.steps
  for pool in drawn.values():
    pool.arrays['trees'].rows.tokens[:] = trees_lib.FILL + 1
  batches = [
    tree_batches.pack([x[i] for x in drawn.values()], plan) for i in range(steps)
  ]
  tokens = np.stack([batch['trees'].tokens for batch in batches])
  found = tree_batches.filling(drawn, steps, plan)
  np.testing.assert_allclose(np.mean(tokens == trees_lib.FILL), found)
  assert 0 < found < 0.5


@pytest.mark.parametrize('case', CASES)
def test_fewer_tokens_are_read(case):
  plan, drawn = plan_of(case)
  separate = parts(case, trees=False)
  apart = sum(rows['valid'].sum() for rows, _ in separate.values())
  together = sum(x.arrays[tree_batches.TREES].size.sum() for x in drawn.values())
  assert together < 0.75 * apart  # their hints stand before the options


@pytest.mark.parametrize('multiple', [1, 4])
def test_one_shape_serves_every_step_and_every_mesh(multiple):
  plan, drawn = plan_of('options', multiple)
  assert plan.rows % multiple == 0
  shapes = set()
  for step in range(CASES['options'][0].loop.steps):
    batch = tree_batches.pack([x[step] for x in drawn.values()], plan)
    shapes.add(str(jax.tree.map(lambda x: (x.shape, x.dtype), batch)))
    explained = drawn['explained'][step]['explanation']
    assert batch['explanation']['mask'].sum() == explained['mask'].sum()
    asked = [x[step]['behavior'] for x in drawn.values()]
    for mask in ('mask', 'shift_mask'):
      assert batch['behavior'][mask].sum() == sum(x[mask].sum() for x in asked)
  assert len(shapes) == 1


def test_pairs_are_drawn_alike_however_they_are_packed():
  plan, drawn = plan_of('options')
  wide = dataclasses.replace(plan, rows=plan.rows + 3, length=2 * plan.length + 5)
  roomy = dataclasses.replace(
    wide, readings={part: 3 * count for part, count in plan.readings.items()}
  )
  one, other = (
    step_of('options', tree_batches.pack([x[2] for x in drawn.values()], p))
    for p in (plan, roomy)
  )
  for name in one[0]:
    assert float(one[0][name]) == pytest.approx(float(other[0][name]), rel=2e-5)


def test_pairs_that_are_not_explained_are_drawn_in_proportion():
  explained, others = parts('options', trees=True).values()
  assert explained[1] == 5
  assert others[1] == round(5 * (~EXPLAINED_N).sum() / EXPLAINED_N.sum())
