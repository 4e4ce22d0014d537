"""Timing of several forms of the same work in turns, and the table of it."""

from collections.abc import Callable, Mapping, Sequence
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch

_HEAD = ('work', 'form', 's', 'ratio [quartiles]', 'tokens', 'of the peak')
_WIDTHS = (-10, -26, 9, 20, 11, 12)


def matmul_rate() -> float:
  """float32 operations a second of a large matrix product, the better library's."""
  n = 2048
  x = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
  ours, theirs = jax.device_put(x), torch.from_numpy(x)
  product = jax.jit(jnp.matmul)
  return max(
    _rate(lambda: product(ours, ours).block_until_ready(), n),
    _rate(lambda: theirs @ theirs, n),
  )


def bfloat16_rate() -> float:
  """bfloat16 operations a second of such a product in PyTorch."""
  n = 2048
  x = torch.randn(n, n, generator=torch.manual_seed(0)).bfloat16()
  return _rate(lambda: x @ x, n)


def _rate(product: Callable, n: int) -> float:
  product()
  return 4 * 2 * n**3 / seconds(product, 4)


def seconds(run: Callable, times: int = 1) -> float:
  start = time.perf_counter()
  for _ in range(times):
    run()
  return time.perf_counter() - start


def head() -> str:
  """What stands above rows."""
  return _line(_HEAD)


def row(
  work: str,
  form: str,
  rounds: Sequence[Mapping[str, float]],
  peer: str,
  tokens: int,
  rate: float = 0.0,
  flops: float = 0.0,
) -> str:
  """A line of the table.

  Args:
    work, form: what was done, and by whom.
    rounds: seconds of every form, in each round.
    peer: the form whose time is divided by this one's.
    tokens: that are computed.
    rate: of the machine's matrix products, operations a second; 0 leaves out the share.
    flops: of the work's own; likewise.
  """
  time = np.median([found[form] for found in rounds])
  share = f'{flops / time / rate:.0%}' if flops and rate else ''
  ratio = ratios(rounds, peer, form)
  return _line((work, form, f'{time:.4f}', ratio, f'{tokens:,}', share))


def ratios(rounds: Sequence[Mapping[str, float]], peer: str, form: str) -> str:
  """How many times as fast a form is as a peer, round by round: median, quartiles."""
  found = [x[peer] / x[form] for x in rounds]
  low, mid, high = np.percentile(found, [25, 50, 75])
  return f'{mid:.2f} [{low:.2f}, {high:.2f}]'


def _line(cells: Sequence[str]) -> str:
  sides = ('<' if width < 0 else '>' for width in _WIDTHS)
  padded = zip(cells, sides, _WIDTHS)
  return ' '.join(f'{x:{side}{abs(n)}}' for x, side, n in padded).rstrip()


def told(numbers: Mapping[str, float], form: str) -> str:
  return ', '.join(f'{name} {x:{form}}' for name, x in numbers.items())
