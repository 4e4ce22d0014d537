"""A train step and an evaluation, against the same work in PyTorch and transformers.

  python -m benchmarks.against_torch

Both sides have the same weights (a Qwen3 that transformers makes and saves) and the
same made-up pairs. A step is that of the whole objective: cross-entropy of the
statements and KL of the behaviours on x and x∖C to a given distribution over the
options, gradient, clipping, AdamW, all weights. An evaluation reads both behaviours of
each pair and generates its explanation greedily. PyTorch has SDPA attention, its fused
AdamW, logits only where they are read, and decodes with a key/value cache; `--compile`
adds torch.compile. Here pairs are asked in prefix trees, or (`apart`, training alone)
question by question, and explanations come from drafts, the allowed statements, or
(`by tokens`, evaluation alone) token by token. For this the model has first learned to
state something allowed, as it has when it is evaluated; how many rows do is told.

Before anything is timed, losses and generated tokens of both sides are compared. Each
form takes its turn in every round; told are the median time, the median of the rounds'
ratios to PyTorch with its quartiles (above 1: faster than PyTorch), tokens that are
computed, and the share of the machine's own float32 matrix-product rate, measured in
every round, that the matrix products of a step reach.
"""

import dataclasses
import pathlib
import tempfile

from absl import app
from absl import flags
import jax
import numpy as np
import torch
from torch.nn import functional
import transformers

from benchmarks import qwen3
from benchmarks import turns
from configs import common
from coupling.checkpoints import hub
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.elicit import behavior
from coupling.model import generate
from coupling.model import lora
from coupling.model import sharding
from coupling.model import speculative
from coupling.model.architecture import DecoderConfig
from coupling.plan import costs
from coupling.plan import synthetic
from coupling.training import compiled as compiled_lib
from coupling.training import train_step
from coupling.training import tree_batches

LEARNED = 25  # turns of training on what is evaluated, until statements are allowed
ROUNDS = flags.DEFINE_integer('rounds', 7, 'Turns of every form that are timed.')
SIZE = flags.DEFINE_multi_enum(
  'size', ['world', 'aita'], ['world', 'mmlu', 'aita'], 'Models and lengths.'
)
COMPILE = flags.DEFINE_bool('compile', False, 'PyTorch with torch.compile too.')


@dataclasses.dataclass(frozen=True)
class Size:
  """A model, and the work that it is given.

  Attributes:
    model: of qwen3.
    lengths: of a pair.
    pairs: of a train step.
    evaluated: pairs of an evaluation.
    steps: in one turn; and evaluations, so that none is too short to be timed.
  """

  model: dict[str, int]
  lengths: synthetic.Lengths
  pairs: int
  evaluated: int
  steps: int


SIZES = {
  # The built-in world's: its hint stands first, its questions are of one word.
  'world': Size(qwen3.SMALL, synthetic.Lengths(4, 3, 2, 1, 2, 2), 85, 256, 10),
  # Hint-MMLU: the hint stands between question and options, or after both.
  'mmlu': Size(qwen3.LARGER, synthetic.Lengths(96, 24, 8, 16, 40, 12), 8, 32, 1),
  # AITA: a post, then the user's own opinion.
  'aita': Size(qwen3.LARGER, synthetic.Lengths(360, 24, 0, 16, 40, 12), 4, 16, 1),
}


class Ours:
  """This program, in trees or question by question, from drafts or by tokens."""

  def __init__(self, size: Size, folder: pathlib.Path, trees: bool, drafts: bool):
    self._config = hub.decoder_config(folder, dtype='float32', param_dtype='float32')
    self._config = dataclasses.replace(self._config, scan_layers=False)
    params = weights.load(folder, self._config)
    mesh = self._mesh = sharding.make_mesh(schema.Mesh(data=1, fsdp=1, tensor=1))
    config = train_config(size, trees)
    settings = compiled_lib.of_run(self._config, config)
    program = compiled_lib.program(settings, mesh)
    batch = synthetic.train_batch(config, self._config, size.lengths, 1)
    rows = [batch[tree_batches.TREES]] if trees else batch.values()
    self.train_tokens = sum(_tokens(x).size for x in rows)
    batch = jax.tree.map(lambda x: np.stack([x] * size.steps), batch)
    self._hyper = train_step.hyper(config.objectives, config.optimizer)
    self._state, self._batch = program.init(params), jax.device_put(batch)
    traced = program.run.trace(self._state, {}, self._hyper, self._batch)
    self._run = program.run
    self.train_flops = costs.product_flops(traced.jaxpr) / size.steps
    # Evaluation always asks in trees.
    self._params = params
    self._asked = jax.device_put(
      synthetic.evaluation_batch(self._config, size.lengths, size.evaluated)
    )

    @jax.jit
    def explain(params, begun, expected):
      what = self._config, params, begun
      if drafts:
        return speculative.greedy_from_drafts(
          *what, expected, mesh, end_tokens=(), fill=0
        )[0]
      return generate.greedy(*what, mesh, max_new_tokens=size.lengths.statement)

    self._explain = explain
    said = size.evaluated * (size.lengths.statement - 1)
    if drafts:
      said = self._asked['statements'].forest.tokens.size
    self.evaluate_tokens = self._asked['trees'].rows.tokens.size + said

  def train(self) -> float:
    """The loss of the turn's steps, on average."""
    self._state, metrics = self._run(self._state, {}, self._hyper, self._batch)
    return float(metrics['loss'].mean())

  def learn(self, folder: pathlib.Path) -> None:
    """Trains until what is stated is allowed, and saves the weights."""
    hyper = self._hyper._replace(learning_rate=np.float32(1e-3))
    for _ in range(LEARNED):
      self._state, _ = self._run(self._state, {}, hyper, self._batch)
    self._params = self._state['params']
    weights.save(folder, self._config, self._params)

  def allowed(self) -> float:
    """Share of the rows that state something allowed."""
    said_BxG = self.evaluate()[:, 2:]
    allowed_BxMxG = np.asarray(self._asked['statements'].tokens_BxMxG)
    return float(np.mean(np.any(np.all(said_BxG[:, None] == allowed_BxMxG, -1), -1)))

  def evaluate(self) -> np.ndarray:
    """Choices on x and x∖C, and the generated tokens [N, 2 + G]."""
    did, begun = behavior.forced_choice(self._config, self._mesh)(
      self._params, self._asked
    )
    said = self._explain(self._params, begun, self._asked['statements'])
    return np.concatenate([np.asarray(did['chosen']), np.asarray(said)], axis=1)


class Torch:
  """The same work in PyTorch."""

  def __init__(
    self,
    size: Size,
    model: transformers.PreTrainedModel,
    shape: DecoderConfig,
    compiled: bool = False,
  ):
    self._model = model
    self._decoder = torch.compile(model.model) if compiled else model.model
    config = train_config(size, trees=False)
    self._clip, self._steps = config.optimizer.clip_norm, size.steps
    self._trained = [x for x in model.parameters() if x.requires_grad]
    self._optimizer = torch.optim.AdamW(
      self._trained,
      lr=config.optimizer.learning_rate,
      betas=(config.optimizer.b1, config.optimizer.b2),
      weight_decay=0.0,
      fused=True,
    )
    batch = synthetic.train_batch(config, shape, size.lengths, 1)
    torched = lambda x: torch.from_numpy(np.array(x)).long().to(model.device)
    said, did = batch['explanation'], batch['behavior']
    self._parts = {
      part: (torched(x['tokens']), torched(x['read'])) for part, x in batch.items()
    }
    self._target = torched(said['target'])
    self._options = torched(did['options'])[:, 0]
    self._reference = torch.full_like(
      self._options, -np.log(synthetic.OPTIONS), dtype=torch.float32
    )
    self.train_tokens = sum(tokens.numel() for tokens, _ in self._parts.values())
    made = synthetic.questions(shape, size.lengths, size.evaluated)
    self._asked = {k: torched(made[k]) for k in ('x', 'counterfactual', 'explanation')}
    self._generated = size.lengths.statement
    self.evaluate_tokens = sum(x.numel() for x in self._asked.values())
    self.evaluate_tokens += size.evaluated * (self._generated - 1)

  def _logits(self, part: str) -> torch.Tensor:
    """float32 [B, C, V] at the places that are read."""
    tokens, read = self._parts[part]
    hidden = self._decoder(input_ids=tokens, use_cache=False).last_hidden_state
    hidden = torch.take_along_dim(hidden, read[..., None], dim=1)
    return self._model.lm_head(hidden).float()

  def train(self) -> float:
    losses = []
    for _ in range(self._steps):
      self._optimizer.zero_grad(set_to_none=True)
      said = self._logits('explanation')
      xent = functional.cross_entropy(said.flatten(0, 1), self._target.flatten())
      did = torch.take_along_dim(self._logits('behavior')[:, 0], self._options, dim=1)
      kl = functional.kl_div(
        did.log_softmax(-1), self._reference, reduction='batchmean', log_target=True
      )
      loss = xent + kl
      loss.backward()
      torch.nn.utils.clip_grad_norm_(self._trained, self._clip)
      self._optimizer.step()
      losses.append(loss.item())
    return float(np.mean(losses))

  @torch.inference_mode()
  def evaluate(self) -> np.ndarray:
    chosen = []
    for name in ('x', 'counterfactual'):
      out = self._decoder(input_ids=self._asked[name], use_cache=False)
      logits = self._model.lm_head(out.last_hidden_state[:, -1])
      chosen.append(logits[:, 1 : synthetic.OPTIONS + 1].argmax(-1))
    asked = self._asked['explanation']
    said = self._model.generate(
      asked,
      attention_mask=torch.ones_like(asked),
      max_new_tokens=self._generated,
      do_sample=False,
      pad_token_id=0,
    )[:, asked.shape[1] :]
    return torch.cat([torch.stack(chosen, dim=1), said], dim=1).cpu().numpy()


def train_config(
  size: Size,
  trees: bool,
  rank: int = 0,
  remat: str = 'none',
  attention: str = 'blocks',
) -> schema.Train:
  """The objectives of a step; rank 0 trains all weights."""
  optimizer = dict(learning_rate=1e-4, warmup_steps=0, schedule='constant')
  optimizer |= dict(b1=0.9, b2=0.999, weight_decay=0.0, clip_norm=1.0)
  kl = dict(prompts='both', direction='forward', support='options', reference='labels')
  return schema.Train(
    **common.LABELS | dict(trees=trees, remat=remat, attention=attention),
    explanation_batch=size.pairs,
    behavior_batch=2 * size.pairs,
    lora=schema.Lora(rank=rank, alpha=float(rank), targets=tuple(lora.TARGETS)),
    loop=schema.Loop(
      steps=1000, steps_per_dispatch=size.steps, accumulation=1, checkpoint_every=1000
    ),
    optimizer=schema.Optimizer(**optimizer),
    objectives=schema.Objectives(
      explanation_xent=schema.ExplanationXent(weight=1.0),
      behavior_kl=schema.BehaviorKL(weight=1.0, **kl),
    ),
  )


def _tokens(part) -> np.ndarray:
  return part['tokens'] if isinstance(part, dict) else part.tokens


def compare(name: str) -> None:
  """One size: what both sides compute, then how long it takes them."""
  size = SIZES[name]
  with tempfile.TemporaryDirectory() as scratch:
    fresh, folder = pathlib.Path(scratch, 'fresh'), pathlib.Path(scratch, 'learned')
    parameters = qwen3.save(fresh, size.model)
    every = dataclasses.replace(size, pairs=size.evaluated)
    Ours(every, fresh, trees=True, drafts=True).learn(folder)
    shape = hub.decoder_config(folder, dtype='float32', param_dtype='float32')
    theirs = lambda: transformers.AutoModelForCausalLM.from_pretrained(
      folder, attn_implementation='sdpa', dtype=torch.float32
    )
    forms = {'PyTorch': Torch(size, theirs(), shape)}
    if COMPILE.value:
      forms['PyTorch, compiled'] = Torch(size, theirs(), shape, compiled=True)
    forms |= {
      'apart': Ours(size, folder, trees=False, drafts=True),
      'trees': Ours(size, folder, trees=True, drafts=True),
      'trees, by tokens': Ours(size, folder, trees=True, drafts=False),
    }
  print(f'\n{name}: {parameters:.2f} million parameters, {size.lengths}')
  print(f'rows that state something allowed: {forms["trees"].allowed():.0%}')
  # The last bits of two libraries differ, and with them a choice between near ties.
  said = {form: x.evaluate() for form, x in forms.items()}
  same = {form: np.mean(x == said['PyTorch']) for form, x in said.items()}
  losses = {form: x.train() for form, x in forms.items()}
  print(f'loss of the first steps: {turns.told(losses, ".5f")}')
  print(f'choices and generated tokens as PyTorch: {turns.told(same, ".1%")}')
  rates, rounds = [], {'train': [], 'evaluate': []}
  for _ in range(ROUNDS.value):
    rates.append(turns.matmul_rate())
    for work, found in rounds.items():
      runs = {form: getattr(x, work) for form, x in forms.items()}
      # The same as 'trees'.
      del runs['apart' if work == 'evaluate' else 'trees, by tokens']
      times = size.steps if work == 'evaluate' else 1  # training takes its steps itself
      found.append(
        {k: turns.seconds(run, times) / size.steps for k, run in runs.items()}
      )
  peak = np.median(rates)
  print(f'matrix products: {peak / 1e9:.0f} GFLOP/s')
  print(turns.head())
  for work, found in rounds.items():
    for form in found[0]:
      x, flops = forms[form], 0.0
      if work == 'train' and isinstance(x, Ours):
        flops = x.train_flops
      tokens = getattr(x, f'{work}_tokens')
      print(turns.row(work, form, found, 'PyTorch', tokens, peak, flops))


def main(_) -> None:
  print(f'{jax.device_count()} x {jax.devices()[0].device_kind}, ', end='')
  print(f'{torch.get_num_threads()} threads of PyTorch {torch.__version__}')
  for name in SIZE.value:
    compare(name)


if __name__ == '__main__':
  app.run(main)
