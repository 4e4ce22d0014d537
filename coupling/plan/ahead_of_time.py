"""What a configured run would need of machines that are not at hand.

Its train step, and a batch of its evaluation, are compiled ahead of time for named
targets, on examples of made-up words: no weights, no data and no accelerator are
needed, only the checkpoint's config.json. Behaviours are planned as forced choices.
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

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
from coupling.training import train_step

Experiment = schema.Experiment


@dataclasses.dataclass(frozen=True)
class Chip:
  """What a device has, by its maker's data sheet.

  Attributes:
    memory: bytes; a little of it is the system's.
    flops: bfloat16 operations a second of its matrix units.
    links: bytes a second that it can send to other chips of its slice.
  """

  memory: float
  flops: float
  links: float


# cloud.google.com/tpu/docs, system architecture.
CHIPS = {
  'TPU v4': Chip(32 * 2**30, 275e12, 300e9),
  'TPU v5 lite': Chip(16 * 2**30, 197e12, 200e9),
  'TPU v5': Chip(95 * 2**30, 459e12, 600e9),
  'TPU v6 lite': Chip(32 * 2**30, 918e12, 400e9),
}
# Of the peak, in the estimate of time: what well-tuned trainings of this kind reach.
USED = 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """One program on one target; bytes and operations are those of one device.

  Attributes:
    memory: bytes that it needs; None where the compiler says that they do not fit.
    problem: what the compiler says then.
    flops: matrix products of one run of the program, shared out evenly.
    traffic: kind of collective -> how often, and bytes sent; None where the compiler
      does not tell.
  """

  target: str
  devices: int
  chip: Chip | None  # None: not known, as of a CPU
  memory: float | None
  problem: str
  flops: float
  traffic: dict[str, costs.Traffic] | None

  @property
  def seconds(self) -> float | None:
    """Of one run of the program: its products at USED of the peak, then its traffic,
    nothing at the same time."""
    if self.chip is None or self.memory is None or self.traffic is None:
      return None
    sent = sum(x.sent for x in self.traffic.values())
    return self.flops / (USED * self.chip.flops) + sent / self.chip.links


def find_devices(target: str) -> Sequence[jax.Device]:
  """Devices to compile for: a TPU slice such as `v5e:4x4`, or `cpu:8`.

  Raises:
    ConfigError: no such slice, or the TPU's compiler is not installed.
  """
  kind, _, shape = target.partition(':')
  if kind == 'cpu':
    found = jax.devices('cpu')
    if not shape.isdigit() or int(shape) > len(found):
      raise schema.ConfigError(
        f'--target={target}: there are {len(found)} CPU devices here; set '
        f'JAX_NUM_CPU_DEVICES={shape or 8} in the environment.'
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
) -> tuple[jax.stages.Lowered, float]:
  """A step of the main run, to be compiled, and the operations of its products.

  Raises:
    ConfigError: the mesh does not divide the batch or a weight.
  """
  config = e.runs[e.report.main]
  loop = config.loop
  terms = config.objectives
  if not config.trees and terms.explanation_xent.weight:
    _check_batch(mesh, config, 'explanation_batch')
  if not config.trees and (terms.behavior_kl.weight or terms.behavior_xent.weight):
    _check_batch(mesh, config, 'behavior_batch')
  program = compiled_lib.program(compiled_lib.of_run(model, config), mesh)
  multiple = sharding.batch_parts(mesh) * loop.accumulation
  batch = synthetic.train_batch(config, model, lengths, multiple)
  one_step = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (1, *x.shape), x.dtype, sharding=program.batch_sharding
    ),
    batch,
  )
  hyper = train_step.hyper(config.objectives, config.optimizer)
  traced = program.run.trace(program.like, program.frozen, hyper, one_step)
  return traced.lower(), costs.product_flops(traced.jaxpr)


def _check_batch(mesh: jax.sharding.Mesh, config: schema.Train, field: str) -> None:
  batch, parts = getattr(config, field), config.loop.accumulation
  sharding.check_batch(mesh, f'train.{field}', batch, parts)


def evaluation_program(
  e: Experiment,
  model: DecoderConfig,
  mesh: jax.sharding.Mesh,
  lengths: synthetic.Lengths,
) -> tuple[jax.stages.Lowered, float]:
  """One batch of evaluation, likewise."""
  sharding.check_batch(mesh, 'evaluate.batch', e.evaluate.batch)
  batch = synthetic.evaluation_batch(model, lengths, e.evaluate.batch)
  where = sharding.batch_sharding(mesh)
  batch = _placed(batch, jax.tree.map(lambda _: where, batch))
  params = sharding.abstract_params(mesh, model)
  low_rank = e.runs[e.report.main].lora
  if low_rank.rank:
    adapters = jax.eval_shape(lambda: train_step.fresh_adapters(model, low_rank, 0))
    params |= _placed(adapters, sharding.state_shardings(mesh, adapters))

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

  traced = run.trace(params, batch)
  return traced.lower(), costs.product_flops(traced.jaxpr)


def _placed(shapes: Any, shardings: Any) -> Any:
  """Shapes and types of arrays, with the places where they are to lie."""
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    shapes,
    shardings,
  )


def compiled(
  target: str, mesh: jax.sharding.Mesh, lowered: jax.stages.Lowered, flops: float
) -> Estimate:
  """Compiles a program for a target, and says what it takes there."""
  device = mesh.devices.flat[0]
  make = lambda **x: Estimate(
    target=target,
    devices=mesh.size,
    chip=CHIPS.get(device.device_kind),
    flops=flops / mesh.size,
    **x,
  )
  try:
    done = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return make(memory=None, problem=str(error).splitlines()[0], traffic={})
  use = done.memory_analysis()
  memory = (
    use.argument_size_in_bytes
    + use.output_size_in_bytes
    - use.alias_size_in_bytes
    + use.temp_size_in_bytes
    + use.generated_code_size_in_bytes
  )
  try:
    traffic = costs.traffic(done.as_text())
  except jax.errors.JaxRuntimeError:  # of v5p, libtpu 0.0.52 cannot always write it out
    traffic = None
  return make(memory=memory, problem='', traffic=traffic)


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
  if isinstance(e, paper_schema.Paper) or e.report.main not in e.trained:
    raise schema.ConfigError(
      '--stage=plan is of one experiment whose report.main has training steps.'
    )
  if not targets:
    raise schema.ConfigError(
      '--stage=plan needs a --target, such as v5e:4x4; several are planned in turn.'
    )
  jax.config.update('jax_platforms', 'cpu')  # an accelerator here is left alone
  config, model = e.runs[e.report.main], base_model.decoder(e)
  if config.attention == 'cudnn':
    raise schema.ConfigError(
      f'runs.{e.report.main}.attention=cudnn is for NVIDIA GPUs, which are not planned '
      'for: set it to blocks'
    )
  tokens = tokens or e.length.max_tokens
  lengths = synthetic.Lengths.of(tokens)
  longest = tokens + lengths.explain + lengths.statement
  if 0 < model.learned_positions < longest:
    raise schema.ConfigError(
      f'--tokens={tokens}: with questions and statement a prompt has {longest} tokens, '
      f'and this model learned {model.learned_positions} positions.'
    )
  devices = {target: find_devices(target) for target in targets}
  adapters = f'LoRA rank {config.lora.rank}' if config.lora.rank else 'all weights'
  if config.lora.rank and config.lora.layers:
    adapters += f' from layer {config.lora.layers} on'
  print(
    f'{decoder.num_params(decoder.abstract(model)) / 1e9:.2f} billion parameters, '
    f'{adapters}; {config.explanation_batch} pairs a step, x of {tokens} tokens'
    f'{", in prefix trees" if config.trees else ""}; rematerialisation '
    f'{config.remat}; evaluation in batches of {e.evaluate.batch} pairs'
  )
  print(_row('target', 'program', 'GiB/device', 'of', 'TFLOP', 'MB sent', 's', 'hours'))
  for target in targets:
    mesh = sharding.make_mesh(e.mesh, devices[target])
    for name, make in (
      ('train step', train_program),
      ('evaluation', evaluation_program),
    ):
      try:
        found = compiled(target, mesh, *make(e, model, mesh, lengths))
      except schema.ConfigError as error:  # the mesh does not divide something
        print(_row(target, name, 'cannot run', *[''] * 5) + f'\n    {error}')
        continue
      _print(name, found, config.loop.steps if make is train_program else 0)
  print(
    'TFLOP and MB: matrix products and traffic of one device in one step (or batch). '
    f's: of one step, its products at {USED:.0%} of the peak of the matrix units, then '
    f'its traffic. hours: of all devices together, {config.loop.steps} steps; without '
    'evaluation, compilation and reading of data. Evaluation: of one batch; both '
    'behaviours are read, and explanations from the allowed statements; what must be '
    'generated beside them counts as one token. Every pair is explained. Pairs are of '
    f'made-up words: a cue of {lengths.cue} tokens in the middle of x, questions of '
    f'{lengths.asked} and {lengths.explain}, a statement of {lengths.statement}.'
  )


def _print(name: str, x: Estimate, times: int) -> None:
  has = f'{x.chip.memory / 2**30:.0f}' if x.chip else '-'
  if x.memory is None:
    print(_row(x.target, name, 'too much', has, f'{x.flops / 1e12:.2f}', '', '', ''))
    print(f'    {x.problem}')
    return
  traffic, seconds, hours = x.traffic or {}, x.seconds, '-'
  sent = f'{sum(t.sent for t in traffic.values()) / 1e6:.0f}'
  if seconds is not None and times:
    hours = f'{seconds * times * x.devices / 3600:.2f}'
  print(
    _row(
      x.target,
      name,
      f'{x.memory / 2**30:.2f}',
      has,
      f'{x.flops / 1e12:.2f}',
      '-' if x.traffic is None else sent,
      '-' if seconds is None else f'{seconds:.3g}',
      hours,
    )
  )
  kinds = [f'{t.count} {k} {t.sent / 1e6:.0f} MB' for k, t in traffic.items()]
  if kinds:
    print('    ' + ', '.join(kinds))


def _row(*fields: str) -> str:
  widths = (12, 11, 10, 4, 9, 9, 8, 8)
  return ' '.join(f'{x:>{n}}' for x, n in zip(fields, widths))
