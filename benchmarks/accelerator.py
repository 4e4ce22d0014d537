"""A train step and an evaluation on one accelerator, against transformers and peft.

  python -m benchmarks.accelerator

Qwen3 shapes with random weights, LoRA of rank 128, bfloat16, the whole objective on
made-up pairs (see against_torch.py, whose peer this is on other devices). Each side has
a process of its own, one after the other, so that neither holds the other's memory.
Adapters are float32 and their products bfloat16 on both sides.

Told, medians over --rounds: tokens a second that are computed, fillings included; the
matrix products of a step without rematerialisation, over its time, as a share of the
device's own measured rate of large bfloat16 products (not of its data sheet's); peak
memory of the training; pairs a second of an evaluation, its reading of prompts as a
share of that rate, and its generation token by token, which reads weights and caches
for each, as a share of the device's own measured bandwidth; and on a GPU the step with
fused attention (train.attention=cudnn), whose first loss is compared. So far it was run
on a CPU alone, by the tests, with a tiny shape and without that.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import against_torch
from coupling.checkpoints import hub
from coupling.config import schema
from coupling.elicit import behavior
from coupling.model import decoder
from coupling.model import generate
from coupling.model import sharding
from coupling.model import speculative
from coupling.plan import costs
from coupling.plan import synthetic
from coupling.training import compiled
from coupling.training import train_step
from coupling.training import tree_batches

SHAPES = pathlib.Path(__file__).parent / 'shapes'
SHAPE = flags.DEFINE_multi_string(
  'shape',
  [str(SHAPES / x) for x in ('qwen3_0p6b', 'qwen3_1p7b', 'qwen3_8b')],
  'Folders with the config.json of a checkpoint.',
)
RANK = flags.DEFINE_integer('rank', 128, 'Of the adapters.')
TOKENS = flags.DEFINE_integer('tokens', 960, 'Of x; its questions are 64 more.')
PAIRS = flags.DEFINE_integer('pairs', 8, 'Of a train step.')
EVALUATED = flags.DEFINE_integer('evaluated', 32, 'Pairs of an evaluation.')
REMAT = flags.DEFINE_enum('remat', 'full', ['none', 'dots', 'full'], 'Of a step.')
SIDE = flags.DEFINE_enum(
  'side', '', ['', 'here', 'fused', 'PyTorch'], 'One side, as JSON.'
)
DTYPE = 'bfloat16'


def seconds(run: Callable) -> float:
  """The median time of a run that returns when it is done; a first one is not timed."""
  run()
  found = []
  for _ in range(against_torch.ROUNDS.value):
    start = time.perf_counter()
    run()
    found.append(time.perf_counter() - start)
  return float(np.median(found))


def matmul_rate() -> float:
  """bfloat16 operations a second of large matrix products."""
  n = 1024 if jax.default_backend() == 'cpu' else 8192
  x = jax.random.normal(jax.random.key(0), (n, n), DTYPE)
  several = jax.jit(lambda x: jax.lax.fori_loop(0, 8, lambda _, y: (y @ x) / n**0.5, x))
  return 8 * 2 * n**3 / seconds(lambda: several(x).block_until_ready())


def bandwidth() -> float:
  """Bytes a second that are read and written."""
  n, turns = 2**22 if jax.default_backend() == 'cpu' else 2**28, 64
  add = lambda x: jax.lax.fori_loop(0, turns, lambda _, y: y + 1, x)
  several, x = jax.jit(add, donate_argnums=0), [jnp.zeros(n, jnp.float32)]

  def run():
    x[0] = several(x[0]).block_until_ready()

  return turns * 2 * x[0].nbytes / seconds(run)


def size_of() -> against_torch.Size:
  lengths = synthetic.Lengths.of(TOKENS.value)
  return against_torch.Size({}, lengths, PAIRS.value, EVALUATED.value, 1)


def here(folder: pathlib.Path, attention: str = 'blocks') -> dict[str, float | None]:
  """This program; with fused attention its step alone."""
  size, device = size_of(), jax.devices()[0]
  mesh = sharding.make_mesh(schema.Mesh(data=1, fsdp=1, tensor=1), [device])
  model = hub.decoder_config(folder, dtype=DTYPE, param_dtype=DTYPE)
  places = sharding.state_shardings(mesh, decoder.abstract(model))
  params = jax.jit(lambda: decoder.init(model, 0), out_shardings=places)()
  config = against_torch.train_config(size, True, RANK.value, REMAT.value, attention)
  program = compiled.program(compiled.of_run(model, config), mesh)
  hyper = train_step.hyper(config.objectives, config.optimizer)
  adapters = train_step.fresh_adapters(model, config.lora, 0)
  batch = synthetic.train_batch(config, model, size.lengths, 1)
  batch = jax.tree.map(lambda x: x[None], batch)
  state = [program.init(adapters)]
  placed = jax.device_put(batch, program.batch_sharding)

  def step() -> float:
    state[0], metrics = program.run(state[0], params, hyper, placed)
    return float(metrics['loss'][0])

  found = {
    'loss': step(),
    'train': seconds(step),
    'peak': (device.memory_stats() or {}).get('peak_bytes_in_use'),
  }
  if attention != 'blocks':
    return found
  kept = dataclasses.replace(config, remat='none')
  traced = compiled.program(compiled.of_run(model, kept), mesh).run.trace(
    state[0], params, hyper, batch
  )
  found |= {
    'device': device.platform,
    'kind': device.device_kind,
    'flops': costs.product_flops(traced.jaxpr),
    'tokens': batch[tree_batches.TREES].tokens.size,
    'rate': matmul_rate(),
    'bandwidth': bandwidth(),
    'parameters': decoder.num_params(params),
  }
  weights = params | state[0]['params']
  asked = synthetic.evaluation_batch(model, size.lengths, size.evaluated)
  asked = jax.device_put(asked, sharding.batch_sharding(mesh))
  read = behavior.forced_choice(model, mesh)
  begun = read(weights, asked)[1]
  last = size.lengths.statement - 1

  @jax.jit
  @sharding.on(mesh)
  def drafts(weights, begun, expected):
    what = model, weights, begun, expected
    return speculative.follow(*what, end_tokens=(), fill=0)[:2]

  @jax.jit
  @sharding.on(mesh)
  def by_tokens(weights, begun):
    return generate.greedy(model, weights, begun, mesh, max_new_tokens=last + 1)

  done = jax.block_until_ready
  reading = jax.jit(read).trace(weights, asked)
  size_in_bytes = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))
  each = size_in_bytes(weights) + size_in_bytes(begun.cache)
  if not model.tied_head:
    each -= size_in_bytes(params['embed'])  # of which a token reads a row
  found |= {
    'read': seconds(lambda: done(read(weights, asked))),
    'read_flops': costs.product_flops(reading.jaxpr),
    'drafts': seconds(lambda: done(drafts(weights, begun, asked['statements']))),
    'by_tokens': seconds(lambda: done(by_tokens(weights, begun))),
    'decoded_bytes': last * each,
  }
  return found


def theirs(folder: pathlib.Path) -> dict[str, float | None]:
  """PyTorch, transformers and peft."""
  import peft
  import torch
  import transformers

  device = 'gpu' if torch.cuda.is_available() else 'cpu'
  with torch.device('cuda' if device == 'gpu' else device):
    model = transformers.AutoModelForCausalLM.from_config(
      transformers.AutoConfig.from_pretrained(folder),
      attn_implementation='sdpa',
      dtype=torch.bfloat16,
    )
    # Puts its layers into the model itself.
    adapters = peft.LoraConfig(
      r=RANK.value, lora_alpha=RANK.value, target_modules='all-linear'
    )
    peft.get_peft_model(model, adapters)
  if REMAT.value != 'none':
    model.gradient_checkpointing_enable({'use_reentrant': False})
  shape = hub.decoder_config(folder, dtype=DTYPE, param_dtype=DTYPE)
  torch_side = against_torch.Torch(size_of(), model.train(), shape)
  with torch.autocast(model.device.type, torch.bfloat16):
    found = {'train': seconds(torch_side.train), 'tokens': torch_side.train_tokens}
    found['peak'] = torch.cuda.max_memory_allocated() if device == 'gpu' else None
    model.eval()
    found['evaluate'] = seconds(torch_side.evaluate)
  return found | {'device': device}


def both(shape: str) -> bool:
  """Runs both sides of a shape, prints what they found; False where one failed.

  JAX is not touched here: it would hold a part of the device.
  """
  found, failed = {}, False
  for side in ('here', 'fused', 'PyTorch'):
    if side == 'fused' and found.get('here', {}).get('device') != 'gpu':
      continue
    told = [f'--{x.name}={x.value}' for x in (RANK, TOKENS, PAIRS, EVALUATED, REMAT)]
    told += [f'--rounds={against_torch.ROUNDS.value}', f'--shape={shape}']
    done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.accelerator', f'--side={side}', *told],
      env=os.environ
      | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', 'JAX_TRACEBACK_FILTERING': 'off'},
      capture_output=True,
      text=True,
    )
    if done.returncode:
      lines = done.stderr.strip().splitlines() or [f'status {done.returncode}']
      print(f'{shape}: {side} failed: {lines[-1]}')
      failed = True
      continue
    found[side] = json.loads(done.stdout.splitlines()[-1])
  if 'here' not in found:
    return False
  x, peer = found['here'], found.get('PyTorch')
  gib = lambda side: f'{side["peak"] / 2**30:.1f} GiB' if side['peak'] else 'not told'
  share = lambda part, whole: f'{part / whole:.0%}'
  print(f'\n{shape}: {x["parameters"] / 1e9:.2f} billion parameters, {x["kind"]}')
  print(f'  device: {x["rate"] / 1e12:.3g} TFLOP/s, {x["bandwidth"] / 1e12:.3g} TB/s')
  print(
    f'  step: {x["train"]:.3f} s, {x["tokens"] / x["train"]:,.0f} tokens/s, '
    f'{share(x["flops"] / x["train"], x["rate"])} of the rate, peak {gib(x)}'
  )
  if fused := found.get('fused'):
    print(
      f'  … with fused attention: {fused["train"]:.3f} s, '
      f'{x["train"] / fused["train"]:.2f} times as fast, peak {gib(fused)}, first loss '
      f'{fused["loss"]:.4f} (without {x["loss"]:.4f})'
    )
  evaluation = {how: x['read'] + x[how] for how in ('drafts', 'by_tokens')}
  pairs = {how: f'{EVALUATED.value / time:.1f}' for how, time in evaluation.items()}
  print(
    f'  evaluation: {pairs["drafts"]} pairs/s where all states something allowed, '
    f'{pairs["by_tokens"]} token by token; reading '
    f'{share(x["read_flops"] / x["read"], x["rate"])} of the rate, generation '
    f'{share(x["decoded_bytes"] / x["by_tokens"], x["bandwidth"])} of the bandwidth'
  )
  if peer is not None and peer['device'] == x['device']:
    times = [f'{peer["evaluate"] / time:.2f}' for time in evaluation.values()]
    print(
      f'  PyTorch: step {peer["train"]:.3f} s, '
      f'{peer["tokens"] / peer["train"]:,.0f} tokens/s (question by question), peak '
      f'{gib(peer)}, evaluation {EVALUATED.value / peer["evaluate"]:.1f} pairs/s; here '
      f'{peer["train"] / x["train"]:.2f} and {" or ".join(times)} times as fast'
    )
    return not failed
  if peer is not None:
    print(f'  PyTorch ran on another device: {peer["device"]}')
  return False


def main(_) -> None:
  if not SIDE.value:
    sys.exit(0 if all([both(shape) for shape in SHAPE.value]) else 1)
  fused = functools.partial(here, attention='cudnn')
  run = {'here': here, 'fused': fused, 'PyTorch': theirs}[SIDE.value]
  (shape,) = SHAPE.value
  print(json.dumps(run(pathlib.Path(shape))))


if __name__ == '__main__':
  app.run(main)
