"""What a configured run would need of machines that are not at hand.

Its train step, and a batch of its evaluation, are compiled ahead of time for named
targets, on examples of made-up words: no weights, no data and no accelerator are
needed, only the checkpoint's config.json. Behaviours are planned as forced choices.
"""

from collections.abc import Sequence
import os
import time
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from coupling.config import paper_schema
from coupling.config import schema
from coupling.elicit import behavior
from coupling.model import decoder
from coupling.model import scoring
from coupling.model import sharding
from coupling.model import speculative
from coupling.model.architecture import DecoderConfig
from coupling.plan import costs
from coupling.plan import synthetic
from coupling.run import base_model
from coupling.training import compiled as compiled_lib
from coupling.training import preference_loss
from coupling.training import train_loop
from coupling.training import train_step

Experiment = schema.Experiment


class Chip(NamedTuple):
  """What a device has, by its maker's data sheet."""

  memory: float  # bytes; a little of it is the system's
  flops: float  # bfloat16 operations a second of its matrix units


# cloud.google.com/tpu/docs, system architecture.
CHIPS = {
  'TPU v4': Chip(32 * 2**30, 275e12),
  'TPU v5 lite': Chip(16 * 2**30, 197e12),
  'TPU v5': Chip(95 * 2**30, 459e12),
  'TPU v6 lite': Chip(32 * 2**30, 918e12),
}
HEAD = 'target', 'program', 'GiB/device', 'of', 'fits', 'TFLOP', 'least s', 'compile s'


class Estimate(NamedTuple):
  """What one run of a program takes of one device."""

  chip: Chip | None  # None: not known, as of a CPU
  flops: float  # of matrix products, shared out evenly
  compiling: float  # seconds
  memory: float | None  # bytes; None where the compiler says that they do not fit
  problem: str = ''  # what it says then

  @property
  def fits(self) -> bool | None:
    """None where the chip's memory is not known."""
    if self.memory is None:
      return False
    return None if self.chip is None else self.memory <= self.chip.memory

  @property
  def least_seconds(self) -> float | None:
    """Its products at the chip's peak, and nothing else."""
    return None if self.chip is None else self.flops / self.chip.flops


def find_devices(target: str) -> Sequence[jax.Device]:
  """Devices to compile for: a TPU slice such as `v5e:4x4`, or `cpu:8`.

  Raises:
    ConfigError: no such slice, or the TPU's compiler is not installed.
  """
  kind, _, shape = target.partition(':')
  if kind == 'cpu':
    found = jax.devices('cpu')
    if not shape.isdigit() or not 0 < int(shape) <= len(found):
      raise schema.ConfigError(
        f'--target={target}: here are cpu:1 to cpu:{len(found)}; for cpu:N of more '
        'devices set JAX_NUM_CPU_DEVICES=N in the environment.'
      )
    return found[: int(shape)]
  # No chip is used: other processes may use one, and none need be found.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  try:
    return topologies.get_topology_desc(target, platform='tpu').devices
  except Exception as error:  # of many kinds
    raise schema.ConfigError(
      f'--target={target}: {str(error).splitlines()[0]}. Slices are named as v5e:4x4, '
      'v5p:2x2x1 or v6e:2x4; they are compiled for by the package libtpu '
      '(`pip install libtpu`), whose version JAX must know.'
    ) from error


def train_program(
  e: Experiment,
  model: DecoderConfig,
  mesh: jax.sharding.Mesh,
  lengths: synthetic.Lengths,
) -> jax.stages.Traced:
  """A step of the main run, to be compiled.

  Raises:
    ConfigError: the mesh does not divide the batch or a weight.
  """
  config = e.runs[e.report.main]
  parts = config.loop.accumulation
  program = compiled_lib.program(compiled_lib.of_run(model, config), mesh)
  multiple = sharding.batch_parts(mesh) * parts
  batch = synthetic.train_batch(config, model, lengths, multiple)
  for part, x in batch.items():
    if not config.trees or part == preference_loss.PART:  # rows of trees divide
      field = train_loop.BATCH_FIELDS[part]
      sharding.check_batch(mesh, field, len(x['read']), parts)
  one_step = _placed(jax.tree.map(lambda x: x[None], batch), program.batch_sharding)
  hyper = train_step.hyper(config.objectives, config.optimizer)
  return program.run.trace(program.like, program.frozen, hyper, one_step)


def evaluation_program(
  e: Experiment,
  model: DecoderConfig,
  mesh: jax.sharding.Mesh,
  lengths: synthetic.Lengths,
) -> jax.stages.Traced:
  """One batch of evaluation, likewise."""
  sharding.check_batch(mesh, 'evaluate.batch', e.evaluate.batch)
  batch = synthetic.evaluation_batch(model, lengths, e.evaluate.batch)
  program = compiled_lib.program(
    compiled_lib.of_run(model, e.runs[e.report.main]), mesh
  )
  params = program.frozen | program.like['params']

  @jax.jit
  @sharding.on(mesh)
  def run(params, batch):
    did, begun = behavior.forced_choice(model, mesh)(params, batch)
    what = model, params, begun, batch['statements'], mesh
    said, after_BxMxFxD = speculative.greedy_from_drafts(*what, end_tokens=(), fill=0)
    if not e.evaluate.likelihood:
      return did, said
    statements = batch['statements'].tokens_BxMxG
    hidden = begun.hidden_BxD, after_BxMxFxD
    return did, said, scoring.statement_logprobs(model, params, *hidden, statements, ())

  return run.trace(params, _placed(batch, sharding.batch_sharding(mesh)))


def _placed(batch: Any, where: jax.sharding.Sharding) -> Any:
  """Shapes and types of arrays, with the place where they are to lie."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), batch
  )


def compiled(mesh: jax.sharding.Mesh, traced: jax.stages.Traced) -> Estimate:
  """Compiles a program for the devices of a mesh, and says what it takes there."""
  chip = CHIPS.get(mesh.devices.flat[0].device_kind)
  flops = costs.product_flops(traced.jaxpr) / mesh.size
  lowered, start = traced.lower(), time.perf_counter()
  try:
    use = lowered.compile().memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    took = time.perf_counter() - start
    return Estimate(chip, flops, took, None, str(error).splitlines()[0])
  memory = (
    use.argument_size_in_bytes
    + use.output_size_in_bytes
    - use.alias_size_in_bytes
    + use.temp_size_in_bytes
    + use.generated_code_size_in_bytes
  )
  return Estimate(chip, flops, time.perf_counter() - start, memory)


def run(
  e: Experiment | paper_schema.Paper, targets: Sequence[str], tokens: int | None
) -> None:
  """Prints what the main run's training and evaluation need of each target.

  Args:
    e: the experiment.
    targets: see `find_devices`.
    tokens: length of x; default: the longest that the experiment admits.

  Raises:
    ConfigError: no experiment that a plan is of, a target that is none, prompts too
      long for the model, or a mesh that a target's devices do not make up.
  """
  _check(e, targets)
  config, model = e.runs[e.report.main], base_model.decoder(e)
  lengths = _lengths(model, tokens or e.length.max_tokens)
  jax.config.update('jax_platforms', 'cpu')  # an accelerator here is left alone
  devices = {target: find_devices(target) for target in targets}
  rank, trees = config.lora.rank, ', in prefix trees' if config.trees else ''
  print(
    f'{decoder.num_params(decoder.abstract(model)) / 1e9:.2f} billion parameters, '
    f'{f"LoRA rank {rank}" if rank else "all weights"}; {config.explanation_batch} '
    f'pairs a step, x of {sum(lengths[:3])} tokens{trees}; rematerialisation '
    f'{config.remat}; evaluation in batches of {e.evaluate.batch} pairs'
  )
  print(_row(*HEAD))
  programs = {'train step': train_program, 'evaluation': evaluation_program}
  for target in targets:
    mesh = sharding.make_mesh(e.mesh, devices[target])
    for name, make in programs.items():
      try:
        found = compiled(mesh, make(e, model, mesh, lengths))
      except schema.ConfigError as error:  # the mesh does not divide something
        print(_row(target, name, 'cannot run') + f'\n    {error}')
        continue
      _print(target, name, found)
  print(
    'fits: by the data sheet and the compiler. TFLOP: matrix products of one device in '
    'one step (or batch), with those that are computed anew. least s: these at the '
    'bfloat16 peak of the data sheet; a step takes longer. compile s: here. '
    'Evaluation: of one batch; both behaviours are read, and explanations from the '
    'allowed statements; what must be generated beside them counts as one token. Every '
    f'pair is explained. Pairs are of made-up words: a cue of {lengths.cue} tokens in '
    f'the middle of x, questions of {lengths.asked} and {lengths.explain}, a statement '
    f'of {lengths.statement}.'
  )


def _check(e: Experiment | paper_schema.Paper, targets: Sequence[str]) -> None:
  """Raises ConfigError unless a plan can be of this."""
  if isinstance(e, paper_schema.Paper):
    raise schema.ConfigError(
      '--stage=plan is of one experiment, and this config has several: plan its parts '
      'one by one, each by a config of its own.'
    )
  if isinstance(e.base, schema.Served):
    raise schema.ConfigError(
      f'--stage=plan: base.url={e.base.url} is served, and nothing is computed here'
    )
  main = e.report.main
  if main not in e.trained:
    raise schema.ConfigError(
      f'--stage=plan is of the training of report.main={main}, which has no steps: '
      f'set report.main to one of {", ".join(e.trained) or "the runs that train"}.'
    )
  if not targets:
    raise schema.ConfigError(
      '--stage=plan needs a --target, such as v5e:4x4; several are planned in turn.'
    )
  if e.runs[main].attention == 'cudnn':
    raise schema.ConfigError(
      f'runs.{main}.attention=cudnn is for NVIDIA GPUs, which are not planned for: set '
      'it to blocks'
    )


def _lengths(model: DecoderConfig, tokens: int) -> synthetic.Lengths:
  """Of made-up pairs; raises ConfigError where the model cannot read as much."""
  lengths = synthetic.Lengths.of(tokens)
  more = lengths.explain + lengths.statement
  if 0 < model.learned_positions < tokens + more:
    raise schema.ConfigError(
      f'--tokens={tokens}: with questions and statement a prompt has {tokens + more} '
      f'tokens, and this model learned {model.learned_positions} positions: plan with '
      'fewer tokens, or for a model with more positions.'
    )
  return lengths


def _print(target: str, name: str, x: Estimate) -> None:
  """A row of the table; below it what the compiler says, where it refuses."""
  gib = lambda size: '-' if size is None else f'{size / 2**30:.2f}'
  print(
    _row(
      target,
      name,
      gib(x.memory),
      gib(x.chip and x.chip.memory),
      {True: 'yes', False: 'no', None: '-'}[x.fits],
      f'{x.flops / 1e12:.3g}',
      '-' if x.least_seconds is None else f'{x.least_seconds:.3g}',
      f'{x.compiling:.0f}',
    )
  )
  if x.problem:
    print(f'    {x.problem}')


def _row(*fields: str) -> str:
  widths = (12, 11, 10, 5, 4, 9, 8, 9)
  return ' '.join(f'{x:>{n}}' for x, n in zip(fields, widths))
