"""Both sides of the benchmark on real weights compute the same, of a tiny Llama."""

import pathlib

import numpy as np
import pytest

from benchmarks import asked, smollm2
from coupling.checkpoints import hub
from coupling.config import schema
from coupling.model import lora
from data import formats, pairs as pairs_lib
from tests import chat_tokenizers, small_checkpoints, training_texts

pytestmark = pytest.mark.usefixtures('few_optimizations')

OPTIONS = ('iron', 'helium', 'salt water', 'the wrong here')
HINTS = (' I think it is {}.', ' The answer, if you please, is {}, not another.')


def made_pairs() -> list[pairs_lib.Pair]:
  found = []
  for i in range(12):
    options = OPTIONS[i % 4 :] + OPTIONS[: i % 4]
    text = f'{training_texts.SUBJECTS[i % 5]} {i}? Options: {", ".join(options)}.'
    cue = HINTS[i % 2].format(options[i % 3])
    found.append(
      pairs_lib.Pair(text + cue, text, cue, 'hint', i % 3, options, str(i), str(i))
    )
  return found


def train_config() -> schema.Train:
  return schema.Train(
    explanation_batch=3,
    behavior_batch=6,
    lora=schema.Lora(rank=4, alpha=8.0, targets=tuple(lora.TARGETS)),
    loop=schema.Loop(steps=5, checkpoint_every=5),
    optimizer=schema.Optimizer(
      learning_rate=0.003, warmup_steps=0, b2=0.99, weight_decay=0.1, clip_norm=0.5
    ),
    objectives=schema.Objectives(
      explanation_xent=schema.ExplanationXent(weight=0.8),
      behavior_kl=schema.BehaviorKL(weight=1.7),
    ),
  )


def compared(folder: pathlib.Path, text: bool) -> smollm2.Comparison:
  tokenizer = chat_tokenizers.load('qwen')
  model = small_checkpoints.CONFIGS['llama']()
  model.vocab_size = len(tokenizer)
  small_checkpoints.torch_model(model).save_pretrained(folder)
  encoder = asked.Encoder(formats.Chat(tokenizer), training_texts.QUESTIONS, text)
  pairs = made_pairs()
  reference = asked.made_up(pairs[:8])
  config = hub.decoder_config(folder)
  return smollm2.Comparison(
    asked.Work(encoder, train_config(), config, pairs[:8], reference, pairs[8:]), folder
  )


@pytest.mark.slow
@pytest.mark.parametrize('text', [True, False])
def test_here_and_in_transformers(tmp_path, text):
  found = compared(tmp_path, text)
  found.check()
  for losses in found.losses:
    assert losses[smollm2.OURS] == pytest.approx(losses[smollm2.PEER], rel=1e-4)
    for name in smollm2.HALF:
      assert losses[name] == pytest.approx(losses[smollm2.PEER], rel=0.05), name
  assert found.losses[1] != found.losses[0]
  found.round(0)
  np.testing.assert_array_equal(found.said[smollm2.OURS], found.said[smollm2.PEER])
  for rounds in found.rounds.values():
    assert all(x > 0 for x in rounds[0].values())
  assert all(x > 0 for x in found.flops.values())
