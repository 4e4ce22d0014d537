"""How much host memory the import of a checkpoint takes, over the checkpoint's size.

  python -m benchmarks.import_memory

`transformers` makes a random model of Qwen3's shape, saved in shards of 500 MB; a fresh
process imports it. Prints a table of peak resident memory (getrusage), which on a
machine without accelerator includes the imported weights themselves. Goal: below 2.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags
import jax

from coupling.checkpoints import hub
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.model import sharding

DEPTH = flags.DEFINE_integer('depth', 28, 'Layers; 28 are those of Qwen3-0.6B.')
IMPORT = flags.DEFINE_string('import_from', None, 'Folder to import: a fresh process.')
DTYPES = ('bfloat16', 'float32')
GOAL = 2.0

# Run apart: what made the files must not count, and torch is not needed elsewhere.
MAKE = """
import sys, torch, transformers
folder, dtype, depth = sys.argv[1:]
config = transformers.Qwen3Config(
  hidden_size=1024, intermediate_size=3072, num_hidden_layers=int(depth),
  num_attention_heads=16, num_key_value_heads=8, vocab_size=151_936,
  # The same bytes in either type: a float32 model goes without a head of its own,
  # and with fewer layers.
  tie_word_embeddings=dtype == 'float32',
)
torch.set_default_dtype(getattr(torch, dtype))
model = transformers.AutoModelForCausalLM.from_config(config)
model.save_pretrained(folder, max_shard_size='500MB')
"""


def import_from(folder: pathlib.Path) -> None:
  """Imports in the files' type; prints seconds, peaks before and after in bytes."""
  peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  before, start = peak(), time.monotonic()
  raw = hub.read_config(folder)
  dtype = raw.get('dtype', raw.get('torch_dtype'))
  config = hub.decoder_config(folder, dtype=dtype, param_dtype=dtype)
  mesh = sharding.make_mesh(schema.Mesh(data=1, fsdp=-1, tensor=1))
  params = weights.load(folder, config, sharding.abstract_params(mesh, config))
  seconds = time.monotonic() - start
  assert all(x.dtype == dtype for x in jax.tree.leaves(params))
  print(json.dumps({'seconds': seconds, 'before': before, 'peak': peak()}))


def measure(dtype: str, depth: int) -> dict[str, float]:
  """One row of the table: sizes in bytes."""
  with tempfile.TemporaryDirectory() as folder:
    make = [sys.executable, '-c', MAKE, folder, dtype, str(depth)]
    subprocess.run(make, check=True, stderr=subprocess.DEVNULL)
    files = list(pathlib.Path(folder).glob('*.safetensors'))
    found = subprocess.run(
      [sys.executable, '-m', 'benchmarks.import_memory', f'--import_from={folder}'],
      check=True,
      stdout=subprocess.PIPE,
      text=True,
    ).stdout
    row = {'files': len(files), 'size': sum(f.stat().st_size for f in files)}
    return row | json.loads(found.splitlines()[-1])


def main(_) -> None:
  if IMPORT.value:
    import_from(pathlib.Path(IMPORT.value))
    return
  print('| type | files | checkpoint, GB | peak, GB | of it before, GB | ratio | s |')
  print('|---|---|---|---|---|---|---|')
  ratios = []
  for dtype in DTYPES:
    # The float32 model is to have the bytes of the bfloat16 one.
    depth = DEPTH.value if dtype == 'bfloat16' else DEPTH.value // 2
    row = measure(dtype, depth)
    ratios.append(row['peak'] / row['size'])
    sizes = [f'{row[name] / 1e9:.2f}' for name in ('size', 'peak', 'before')]
    cells = [dtype, str(row['files']), *sizes, f'{ratios[-1]:.2f}']
    print('| ' + ' | '.join([*cells, f'{row["seconds"]:.0f}']) + ' |', flush=True)
  if max(ratios) >= GOAL:
    sys.exit(
      f'peak memory is {max(ratios):.2f} times the checkpoint, not below {GOAL}.'
    )


if __name__ == '__main__':
  app.run(main)
