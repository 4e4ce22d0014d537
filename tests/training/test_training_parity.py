"""Twenty steps of explanation training against an independent PyTorch implementation.

A small random Qwen3 of `transformers` and its chat format; the same texts in the same
order. What PyTorch does is in tests/torch_training.py.
"""

import dataclasses
import functools
import pathlib
import tempfile

import jax
import numpy as np
import peft
import pytest
import torch
import transformers

from coupling.checkpoints import hub, peft_format, weights
from coupling.config import schema
from coupling.elicit import behavior, encoding
from coupling.model import sharding
from coupling.training import compiled, examples, train_step
from data import loader, pairs as pairs_lib
from tests import chat_tokenizers, chats, small_checkpoints, torch_training
from tests import training_texts as texts

pytestmark = pytest.mark.usefixtures('few_optimizations')

STEPS, DATA_SEED = 20, 3
CHAT = chats.chat('qwen')
MESH = sharding.make_mesh(schema.Mesh(data=-1, fsdp=1))
FULL = schema.Lora(rank=0, alpha=1.0, targets=())
LORA = schema.Lora(rank=8, alpha=20.0, targets=('q', 'k', 'v', 'o', 'up', 'down'))


def train_config(
  support,
  direction,
  reference,
  *,
  low_rank=FULL,
  shift=0.0,
  schedule='constant',
  accumulation=1,
) -> schema.Train:
  return schema.Train(
    trees=False,
    explanation_batch=6,
    behavior_batch=8,
    lora=low_rank,
    loop=schema.Loop(steps=STEPS, accumulation=accumulation, checkpoint_every=5),
    optimizer=schema.Optimizer(
      learning_rate=0.003,
      warmup_steps=4,
      schedule=schedule,
      b2=0.98,
      weight_decay=0.1,
      clip_norm=4.0,
    ),
    objectives=schema.Objectives(
      explanation_xent=schema.ExplanationXent(weight=0.8),
      behavior_kl=schema.BehaviorKL(
        weight=1.7, direction=direction, support=support, reference=reference
      ),
      behavior_xent=schema.BehaviorXent(weight=shift, cues='unexplained'),
    ),
  )


@dataclasses.dataclass(frozen=True)
class Case:
  config: schema.Train
  by_reply: bool = False  # behaviours are read from replies, of several tokens each

  @property
  def template(self) -> pairs_lib.Questions:
    shifts = self.config.objectives.behavior_xent.weight > 0
    return dataclasses.replace(
      texts.QUESTIONS,
      detect=len if self.by_reply else None,
      unexplained=('planted',) if shifts else (),
    )


CASES = {
  'full_options_forward_shift': Case(
    train_config('options', 'forward', 'labels', shift=0.6, schedule='cosine')
  ),
  'lora_options_reverse': Case(
    train_config('options', 'reverse', 'adapters_off', low_rank=LORA)
  ),
  'lora_vocabulary_forward_replies_accumulated': Case(
    train_config(
      'vocabulary', 'forward', 'adapters_off', low_rank=LORA, accumulation=2
    ),
    by_reply=True,
  ),
}


@functools.cache
def checkpoint() -> pathlib.Path:
  """A Qwen3 of `transformers` with a vocabulary of the chat tokenizer's size."""
  config = small_checkpoints.CONFIGS['qwen3']()
  config.vocab_size = len(chat_tokenizers.load('qwen'))
  folder = pathlib.Path(tempfile.mkdtemp(prefix='parity-'))
  small_checkpoints.torch_model(config).save_pretrained(folder)
  return folder


def torch_copy() -> torch.nn.Module:
  return transformers.AutoModelForCausalLM.from_pretrained(
    checkpoint(), attn_implementation='eager'
  ).eval()


@functools.cache
def imported():
  """The decoder's config, its weights, and M_0's own choices and distributions."""
  config = hub.decoder_config(checkpoint())
  params = weights.load(checkpoint(), config)
  asked = encoding.pair_questions(CHAT, texts.PAIRS, texts.QUESTIONS)
  found = behavior.behaviors(
    config, params, asked, len(texts.PAIRS), MESH, 'vocabulary'
  )
  return config, params, found


@dataclasses.dataclass
class Run:
  """Metrics of every step, the weights trained before the first, and the last state."""

  metrics: list[dict[str, float]]
  start: dict
  state: train_step.State


@functools.cache
def ours(case: Case) -> Run:
  model, params, reference = imported()
  if case.by_reply:
    reference = dataclasses.replace(reference, replies_Nx2=texts.replies())
  config = case.config
  source = texts.source(
    config,
    CHAT,
    case.template,
    texts.PAIRS,
    reference,
    texts.made_up_labels().explanation,
    None,
    0,
  )
  parts = examples.training_parts(config, CHAT, case.template, source, None)
  settings = compiled.settings(
    model,
    config.lora,
    config.objectives,
    config.optimizer,
    config.loop.steps,
    config.loop.accumulation,
  )
  program = compiled.program(settings, MESH)
  hyper = train_step.hyper(config.objectives, config.optimizer)
  adapters = train_step.fresh_adapters(model, config.lora, 0)
  start, frozen = (adapters, params) if adapters else (params, {})
  state = program.init(start)
  batches = {
    name: loader.ShuffledBatches(rows, batch, DATA_SEED)
    for name, (rows, batch) in parts.items()
  }
  metrics = []
  for step in range(STEPS):
    batch = {name: part[step] for name, part in batches.items()}
    stacked = jax.tree.map(lambda x: x[None], batch)
    state, found = program.run(state, frozen, hyper, stacked)
    metrics.append({name: float(x[0]) for name, x in found.items()})
  return Run(metrics, start, state)


def theirs(case: Case, start: dict, folder: pathlib.Path) -> list[dict[str, float]]:
  model = torch_copy()
  if case.config.lora.rank:
    peft_format.save(folder / 'adapters', start['adapters'])
    model = peft.PeftModel.from_pretrained(
      model, folder / 'adapters', is_trainable=True
    )
  trainer = torch_training.Trainer(
    model, torch_copy(), chat_tokenizers.load('qwen'), case.config
  )
  explanations, behaviors = asked_in_words(case, trainer)
  explanation_rows, behavior_rows = (
    loader.ShuffledBatches(np.arange(len(rows)), batch, DATA_SEED)
    for rows, batch in (
      (explanations, case.config.explanation_batch),
      (behaviors, case.config.behavior_batch),
    )
  )
  return [
    trainer.step(
      [explanations[i] for i in explanation_rows[step]],
      [behaviors[i] for i in behavior_rows[step]],
    )
    for step in range(STEPS)
  ]


def asked_in_words(
  case: Case, trainer: torch_training.Trainer
) -> tuple[list[torch_training.Asked], list[torch_training.Asked]]:
  """The rows of the explanation part, and of the behaviour part (all x, all x∖C)."""
  explanations, with_cue, without = [], [], []
  labels = texts.made_up_labels()
  for pair, here, there, answers in zip(
    texts.PAIRS, labels.behavior_N, labels.counterfactual_behavior_N, texts.replies()
  ):
    planted = pair.cue_kind in case.template.unexplained
    if not planted:
      form = texts.QUESTIONS.unchanged if here == there else texts.QUESTIONS.changed
      question = texts.QUESTIONS.explanation.format(prompt=pair.prompt)
      statement = form.format(answer=pair.options[there])
      explanations.append(torch_training.Asked(question, statement))
    x, x_without = (
      torch_training.Asked(
        texts.QUESTIONS.behavior.format(prompt=text),
        answer if case.by_reply else None,
        pair.options,
      )
      for text, answer in zip((pair.prompt, pair.counterfactual), answers)
    )
    if planted:  # to ignore the cue is to do as M_0 does without it
      x = dataclasses.replace(x, shift=pair.options[trainer.choice(x_without)])
    with_cue.append(x)
    without.append(x_without)
  return explanations, with_cue + without


@pytest.mark.parametrize('name', CASES)
def test_twenty_steps_are_those_of_pytorch(name, tmp_path):
  case = CASES[name]
  run = ours(case)
  want = theirs(case, run.start, tmp_path)
  assert run.metrics[0].keys() == want[0].keys()
  # M_t is M_0 in the first two steps, as the warm-up starts at 0: no divergence but
  # that of rounding.
  for metric in want[0]:
    found_S, want_S = (np.array([m[metric] for m in x]) for x in (run.metrics, want))
    np.testing.assert_allclose(found_S, want_S, rtol=1e-3, atol=1e-6, err_msg=metric)
    if metric == 'behavior_kl':
      assert np.abs(found_S[:2]).max() < 1e-6
      assert found_S[5:].min() > 1e-3
  loss_S, norm_S = (
    np.array([m[metric] for m in run.metrics]) for metric in ('loss', 'gradient_norm')
  )
  assert loss_S[-1] < 0.9 * loss_S[0]
  clip = case.config.optimizer.clip_norm
  assert norm_S.min() < clip < norm_S.max()
