"""What a compiled program costs: matrix products, and traffic between devices."""

from collections.abc import Iterator
import collections
import dataclasses
import functools
import math
import re

from jax.extend import core
from jax.interpreters import partial_eval

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_LOOP = re.compile(r'condition=%?([\w.\-]+), body=%?([\w.\-]+)')
_COUNTER = re.compile(r'get-tuple-element\(\S+\), index=(\d+)')
_MADE = re.compile(r'\s*(?:ROOT )?%([\w.\-]+) = (.*)')
_BOUND = re.compile(r'= [su]32\[\]\S* constant\((\d+)\)')
_GROUPS = re.compile(r'replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\})')
_PIECE = re.compile(r'channel_id=(\d+).*chain_id="(\d+)"')
_MESH = re.compile(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}')
_PARTITIONS = re.compile(r'num_partitions=(\d+)')
_ARRAY = re.compile(r'\b(pred|[a-z]+\d+[a-z\d]*)\[([\d,]*)\]')


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Of one kind of collective on one device, in one run of a program.

  Attributes:
    count: how often it runs.
    sent: bytes that a ring sends from each device.
  """

  count: int
  sent: float


def product_flops(jaxpr: core.ClosedJaxpr) -> float:
  """Floating-point operations of all matrix products, on all devices together.

  Those of loops count as often as they run, those that nothing reads not at all; what
  rematerialisation computes anew is counted anew. A branch counts as its longest.
  """
  used, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
  return _product_flops(used)


def _product_flops(jaxpr: core.Jaxpr) -> float:
  total = 0.0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      (contracted, _), _ = params['dimension_numbers']
      left = equation.invars[0].aval.shape
      out = equation.outvars[0].aval.shape
      total += 2.0 * math.prod(out) * math.prod(left[i] for i in contracted)
      continue
    inner = [_product_flops(x) for x in core.jaxprs_in_params(params)]
    if name == 'cond':
      total += max(inner, default=0.0)
    else:
      total += sum(inner) * params.get('length', 1)
  return total


def traffic(hlo: str) -> dict[str, Traffic]:
  """The collectives of a compiled program: kind -> Traffic.

  Args:
    hlo: text of the optimised program of one device (`Compiled.as_text()`).

  Turns of a loop are those that the compiler noted, or else the bound that its counter,
  which begins at 0, is held against; a loop with neither counts as one turn. Bytes are
  those of a ring over n devices: an all-gather or reduce-scatter sends (n - 1) / n of
  the whole array, an all-reduce twice that.
  """
  bodies, entry = _computations(hlo)
  match = _PARTITIONS.search(hlo)
  devices = int(match[1]) if match else 1

  @functools.cache
  def of(name: str) -> dict[str, tuple[str, int, float]]:
    """Kind, count and bytes of each collective that a computation runs."""
    found = {}
    for number, line in enumerate(bodies.get(name, ())):
      if (one := _collective(line, devices)) is not None:
        found[_identity(line) or f'{name} {number}'] = one[0], 1, one[1]
      turns = _turns(line, bodies)
      for called in _called(line):
        for key, (kind, count, sent) in of(called).items():
          key = key if key.startswith('chain') else f'{name} {number} {key}'
          found[key] = kind, count * turns, sent * turns
    return found

  totals = collections.defaultdict(lambda: (0, 0.0))
  for kind, count, sent in of(entry).values():
    totals[kind] = totals[kind][0] + count, totals[kind][1] + sent
  return {kind: Traffic(*x) for kind, x in sorted(totals.items())}


def _identity(line: str) -> str:
  """What tells the pieces of one collective, which the TPU's compiler spreads over
  several instructions to run beside others; '' where it is whole."""
  match = _PIECE.search(line)
  return f'chain {match[2]} {match[1]}' if match else ''


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """Lines of each computation, and the name of the first that runs."""
  bodies, entry, lines = {}, '', []
  for line in hlo.splitlines():
    if match := _COMPUTATION.match(line):
      lines = bodies.setdefault(match[1], [])
      if line.startswith('ENTRY'):
        entry = match[1]
    else:
      lines.append(line)
  return bodies, entry


def _called(line: str) -> Iterator[str]:
  """Computations that an instruction runs; not those that reduce within it."""
  if _operation(line) in {'', 'reduce', 'reduce-window', 'scatter', 'sort', 'map'}:
    return
  for match in _CALLED.finditer(line):
    yield match[1]
  for match in _BRANCHES.finditer(line):
    yield from (x.strip().lstrip('%') for x in match[1].split(','))


def _turns(line: str, bodies: dict[str, list[str]]) -> int:
  """How often what an instruction calls runs."""
  if match := _TRIPS.search(line):
    return int(match[1])
  loop = _LOOP.search(line)
  if loop is None:
    return 1
  condition, body = (bodies[name] for name in loop.groups())
  text = '\n'.join(condition)
  bounds, counters = _BOUND.findall(text), _COUNTER.findall(text)
  if len(bounds) != 1 or len(counters) != 1 or 'direction=LT' not in text:
    return 1
  return -(-int(bounds[0]) // _stride(body, int(counters[0])))


def _stride(body: list[str], place: int) -> int:
  """What a loop adds to the counter at a place of its tuple; 1 if that is not plain."""
  made = dict(match.groups() for line in body if (match := _MADE.match(line)))
  root = next(line for line in body if line.lstrip().startswith('ROOT'))
  names = re.findall(r'%([\w.\-]+)', root.partition('tuple(')[2].partition(')')[0])

  def added(name: str) -> int:
    made_by = made.get(name, '')
    if match := re.search(r' constant\((\d+)\)', made_by):
      return int(match[1])
    if match := re.search(r' add\(%([\w.\-]+), %([\w.\-]+)\)', made_by):
      return added(match[1]) + added(match[2])
    return 0  # the counter itself, or what is not followed

  return (added(names[place]) if place < len(names) else 0) or 1


def _operation(line: str) -> str:
  """An instruction's operation; '' where a line is none."""
  _, equals, rest = line.partition(' = ')
  match = re.search(r'[\s)}]([a-z][a-z\-]*)\(', ' ' + rest) if equals else None
  return match[1] if match else ''


def _collective(line: str, devices: int) -> tuple[str, float] | None:
  """Kind of an instruction that talks to other devices, and the bytes that it sends."""
  operation = _operation(line)
  kind = operation.removesuffix('-start')
  if kind not in COLLECTIVES:
    return None
  result = line.partition(' = ')[2].partition(f' {operation}(')[0]
  result = result.replace('u32[]', '')  # of a start: what its end waits for
  sizes = [_bytes(*match.groups()) for match in _ARRAY.finditer(result)]
  if kind != operation and kind != 'all-reduce':
    sizes = sizes[len(sizes) // 2 :]  # operands stand before results
  whole, n = sum(sizes), _group(line, devices)
  if kind == 'collective-permute':
    return kind, whole
  if kind == 'reduce-scatter':
    whole *= n
  return kind, whole * (n - 1) / n * (2 if kind == 'all-reduce' else 1)


def _group(line: str, devices: int) -> int:
  """How many devices take part; where no group is named, all of them."""
  if match := _MESH.search(line):
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
    return math.prod(int(sizes[x]) for x in re.findall(r"'([^']+)'", match[2]))
  match = _GROUPS.search(line)
  if match is None or match[2] == '':
    return devices
  return int(match[1]) if match[1] else len(match[2].split(','))


def _bytes(dtype: str, shape: str) -> float:
  bits = 8 if dtype == 'pred' else int(re.search(r'\d+', dtype)[0])
  return math.prod(int(x) for x in shape.split(',') if x) * bits / 8
