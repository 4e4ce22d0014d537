"""Activation patching, against a plain loop of hooks in PyTorch.

  python -m benchmarks.patching_against_torch

Both sides have the same weights (a Qwen3 that transformers makes and saves) and the
same pairs: prompts that share a question and options, differ in one word of a hint, and
end with an instruction. Effects on the behaviour are read from two options, on the
explanation from two statements. The loop in PyTorch is what one writes first: for every
site a hook, then one forward pass of the whole batch, logits only where they are read;
both runs are made and kept first. It is given the same sites as this program computes:
those that can change anything (engine.inert). PyTorch's time is that of both runs and
of a random sample of the sites, scaled to all of them, as the whole would take long.

Before anything is timed, effects of both sides are compared. Sides take turns; told are
the median times and the median ratio with its range. What is short is repeated for a
second, as what runs right after the other side is slowed by its threads.
"""

from collections.abc import Callable
import pathlib
import tempfile
import time

from absl import app
from absl import flags
import jax
import numpy as np
import torch
import transformers

from benchmarks import qwen3
from coupling.checkpoints import hub
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.model import sharding
from coupling.patching import aligned_prompts
from coupling.patching import engine
from coupling.statistics.effect_maps import EVERY_HEAD
from data import positions

ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns of both sides that are timed.')
SIZE = flags.DEFINE_multi_enum('size', ['world', 'mmlu'], ['world', 'mmlu'], 'Which.')
SAMPLE = flags.DEFINE_integer('sample', 12, 'Sites that PyTorch patches in a turn.')

TURN = 1.0  # seconds
# A model; pairs; tokens by group, of behaviour and explanation prompts;
# tokens of a statement.
SIZES = {
  'world': (
    qwen3.SMALL,
    256,
    dict(template=1, question=2, options=4, hint_source=1, hinted_option=1),
    (0, 0),
    2,
  ),
  'mmlu': (
    qwen3.LARGER,
    4,
    dict(template=4, question=60, options=40, hint_source=8, hinted_option=1),
    (18, 70),
    4,
  ),
}


def asked(size: tuple, instruction: int, G: int) -> aligned_prompts.Asked:
  """Made-up prompts with one word of a hint moved."""
  model, pairs, parts, *_ = size
  rng = np.random.default_rng(instruction)
  names = [name for name, n in parts.items() for _ in range(n)]
  names += ['instruction'] * instruction + ['answer']
  codes = np.array([positions.CODES[name] for name in names], np.int8)
  prompts = []
  for _ in range(pairs):
    own = rng.integers(1, model['vocab_size'], len(names))
    other = own.copy()
    at = names.index('hinted_option')
    other[at] = 1 + other[at] % (model['vocab_size'] - 1)
    prompts.append((own.tolist(), other.tolist(), codes))
  answers = rng.integers(1, model['vocab_size'], (pairs, 2, G))
  # Told apart from their first token on, so that all their positions are patched.
  answers[:, 1, 0] += answers[:, 0, 0] == answers[:, 1, 0]
  return aligned_prompts.asked(prompts, answers % model['vocab_size'], 0, ())


class Loop:
  """Hooks in PyTorch; both answers are rows of one batch."""

  def __init__(self, folder: pathlib.Path, a: aligned_prompts.Asked):
    self._model = transformers.AutoModelForCausalLM.from_pretrained(
      folder, attn_implementation='sdpa', dtype=torch.float32
    )
    self._head_dim = self._model.config.head_dim
    x = a.arrays
    (first,) = {int(row.argmax()) for row in x['valid']}  # all are of one length
    answers = torch.tensor(x['answers']).long()
    self._target = answers.flatten(0, 1)
    self._tokens = [
      torch.cat(
        [
          torch.tensor(x['tokens'][:, k, first:]).long().repeat_interleave(2, dim=0),
          self._target[:, :-1],
        ],
        dim=1,
      )
      for k in (0, 1)
    ]
    length = x['tokens'].shape[2] - first
    # Groups of columns before the prefix ends are never patched here.
    codes = np.full(self._tokens[0].shape[1], positions.CODES['template'])
    codes[a.prefix - first : length] = x['group'][0, : length + first - a.prefix]
    codes[length:] = positions.CODES['answer']
    self._codes, self._read = codes, length - 1
    layers = self._model.model.layers
    self._sites = {
      'residual': [(m, True) for m in layers],
      'heads': [(m.self_attn.o_proj, True) for m in layers],
      'attention_out': [(m.self_attn, False) for m in layers],
      'mlp_out': [(m.mlp, False) for m in layers],
    }
    self._kept = {}

  def _hook(self, site, change):
    module, before = self._sites[site.kind][site.layer]
    if before:
      return module.register_forward_pre_hook(lambda _, x: (change(x[0]), *x[1:]))

    def post(_, __, out):
      return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    return module.register_forward_hook(post)

  def _d(self, tokens: torch.Tensor) -> np.ndarray:
    hidden = self._model.model(input_ids=tokens, use_cache=False).last_hidden_state
    logprobs = self._model.lm_head(hidden[:, self._read :]).log_softmax(-1)
    said = torch.take_along_dim(logprobs, self._target[..., None], dim=-1)
    total = said[..., 0].sum(dim=1).reshape(-1, 2)
    return (total[:, 0] - total[:, 1]).numpy()

  @torch.inference_mode()
  def begin(self, sites) -> None:
    """Both runs; keeps the activations of that on x'."""
    hooks = []
    for site in {(s.kind, s.layer): s for s in sites}.values():

      def keep(x, key=(site.kind, site.layer)):
        self._kept[key] = x
        return x

      hooks.append(self._hook(site, keep))
    self._d(self._tokens[0])
    self._d(self._tokens[1])
    for hook in hooks:
      hook.remove()

  @torch.inference_mode()
  def run(self, sites) -> np.ndarray:
    """d with each site patched, [N, R]."""
    found = []
    for site in sites:
      at = np.flatnonzero(self._codes == positions.CODES[site.group])
      part = slice(None)
      if site.head != EVERY_HEAD:
        part = slice(site.head * self._head_dim, (site.head + 1) * self._head_dim)
      other = self._kept[site.kind, site.layer]

      def change(x, at=at, part=part, other=other):
        x = x.clone()
        x[:, at, part] = other[:, at, part]
        return x

      hook = self._hook(site, change)
      found.append(self._d(self._tokens[0]))
      hook.remove()
    return np.stack(found, axis=1)


def seconds(run: Callable, turns: int) -> float:
  """Of one of several turns, on average."""
  start = time.perf_counter()
  for _ in range(turns):
    run()
  return (time.perf_counter() - start) / turns


def compare(name: str) -> None:
  size = SIZES[name]
  model, pairs, _, instructions, G = size
  mesh = sharding.make_mesh(schema.Mesh(data=-1, fsdp=1, tensor=1))
  how = dict(batch=pairs, at_once=8, mesh=mesh, end_tokens=())
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    parameters = qwen3.save(folder, model)
    decoder = hub.decoder_config(folder, scan_layers=False)
    params = weights.load(folder, decoder)
    asks = {
      'behaviour': asked(size, instructions[0], 1),
      'explanation': asked(size, instructions[1], G),
    }
    loops = {key: Loop(folder, a) for key, a in asks.items()}
  print(f'\n{name}: {parameters:.2f} million parameters, {pairs} pairs')
  print('what          sites  PyTorch s    here s   ratio [range]   largest error')
  for key, a in asks.items():
    sites = [s for s in engine.sites(decoder) if not engine.inert(decoder, a, s)]
    some = np.random.default_rng(0).choice(len(sites), SAMPLE.value, replace=False)
    loop = loops[key]
    ours = lambda a=a, sites=sites: engine.effects(
      decoder, params, a, [(s,) for s in sites], **how
    )
    begin = lambda loop=loop, sites=sites: loop.begin(sites)
    sample = [sites[i] for i in some]
    patch = lambda loop=loop, sample=sample: loop.run(sample)
    begin()
    error = np.abs(ours().patched_NxR[:, some] - patch()).max()
    turns = {run: max(1, round(TURN / seconds(run, 1))) for run in (ours, begin, patch)}
    times = []
    for _ in range(ROUNDS.value):
      here, both, patched = (seconds(run, n) for run, n in turns.items())
      times.append((both + patched * len(sites) / len(some), here))
    torch_s, here_s = np.median(times, axis=0)
    ratio = [theirs / here for theirs, here in times]
    print(
      f'{key:12} {len(sites):6} {torch_s:10.2f} {here_s:9.2f} {np.median(ratio):7.1f} '
      f'[{min(ratio):.1f}, {max(ratio):.1f}] {error:15.1e}'
    )


def main(_) -> None:
  print(f'{jax.device_count()} x {jax.devices()[0].device_kind}, ', end='')
  print(f'{torch.get_num_threads()} threads of PyTorch {torch.__version__}')
  for name in SIZE.value:
    compare(name)


if __name__ == '__main__':
  app.run(main)
