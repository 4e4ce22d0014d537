"""What is wrong with --config.<field> flags, all of it at once, and what was meant."""

from collections.abc import Callable, Iterator, Sequence
import difflib
import re
from typing import Any

from absl import flags
import ml_collections
from ml_collections import config_flags

NEAR = 0.7  # of the letters of each name, for it to be taken for another


def problems(argv: Sequence[str]) -> list[str]:
  """Flags that name no field, or give it what is not of its type.

  Args:
    argv: the command line; nothing is found where its --config cannot be read.
  """
  plain = ['', *[x for x in argv if re.match('--?config=', x)]]
  try:
    config = _parsed(config_flags.DEFINE_config_file, None, plain)
    known, found = [*_paths(config)], []
  except Exception:  # of many kinds: the file is run
    return []
  for flag in _overrides(argv):
    path = re.sub(r'^--?(no)?config\.', '', flag[0].partition('=')[0])
    if path not in known:
      found.append(f'--config.{path}: {_unknown(path, known)}')
      continue
    try:
      own = config.copy_and_resolve_references()
      _parsed(config_flags.DEFINE_config_dict, own, ['', *flag])
    except Exception as error:  # of many kinds: of absl, and of what parses a value
      where = '' if isinstance(error, flags.Error) else f'{flag[0]}: '
      found.append(f'{where}{error}')
  return found


def _parsed(define: Callable, default: Any, argv: list[str]) -> Any:
  """The config as these arguments alone make it."""
  values = flags.FlagValues()
  define('config', default, '', values, sys_argv=argv)
  values(argv)
  return values['config'].value


def _overrides(argv: Sequence[str]) -> Iterator[list[str]]:
  """Each flag of a field, with the argument after it where that is its value."""
  for here, after in zip(argv, [*argv[1:], '--none']):
    if re.match(r'--?(no)?config\.', here):
      alone = '=' in here or re.match(r'--?[A-Za-z]', after)  # and no number below 0
      yield [here] if alone else [here, after]


def _unknown(path: str, known: Sequence[str]) -> str:
  """What was meant: a field by a name like it, or that is elsewhere; else what is."""
  same = [x for x in known if x.rpartition('.')[2] == path.rpartition('.')[2]]
  same.sort(key=lambda x: x.count('.'))
  near = max(known, key=lambda x: _alike(x, path))
  if meant := [near] if _alike(near, path) > NEAR else same[:3]:
    return f'there is no such field; did you mean {" or ".join(meant)}?'
  place = path.rpartition('.')[0]
  while place and place not in known:
    place = place.rpartition('.')[0]
  inside = f'{place}.' if place else ''
  rest = [x.removeprefix(inside) for x in known if x.startswith(inside)]
  here = ', '.join(x for x in rest if '.' not in x)
  here = here or 'none: what a run changes is set in the file of the config'
  return f'there is no such field; those of {place or "the config"}: {here}'


def _alike(one: str, other: str) -> float:
  """Of two paths of one depth, how alike those names are that are least alike."""
  names = [*zip(one.split('.'), other.split('.'))]
  if one.count('.') != other.count('.'):
    return 0.0
  return min(difflib.SequenceMatcher(None, *x).ratio() for x in names)


def _paths(config: ml_collections.ConfigDict, prefix: str = '') -> Iterator[str]:
  """Dotted names of all sections and fields."""
  for name in config:
    yield prefix + name
    if isinstance(config.get_ref(name).get(), ml_collections.ConfigDict):
      yield from _paths(config[name], f'{prefix}{name}.')
