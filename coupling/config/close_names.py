"""Names and paths from the config: of runs, of the parts of a paper, of what is read.

  <workdir>/<part>/seed0/<run>/train      and  <workdir>/<part>/tensorboard/seed0/<run>

A name must stay within its folder, be the only one there, and be none of a stage's. A
path must be one that a file system can hold.
"""

from collections.abc import Iterable
import re
import reprlib
import string
import unicodedata

# Letters and digits of any script, and what else is safe in a name everywhere.
_PLAIN = re.compile(r'\w[\w.+=@%-]*')
_LONGEST = 100  # bytes; file systems take 255, and files are named after runs too
_LONGEST_PART, _LONGEST_PATH = 255, 3500  # bytes; of 4096, so that files fit below it
_SPEC = re.compile(r'0?\d?d?')  # how a seed may be written: a width of one digit
_LARGEST_SEED = 2**31 - 1
_STAGES = ('prepare', 'base', 'label', 'train', 'evaluate', 'patch', 'export', 'report')
_RESERVED = {
  'runs': re.compile(rf'{"|".join(_STAGES)}|tensorboard|label-step.*|m_0'),
  'parts': re.compile(rf'{"|".join(_STAGES)}|tensorboard|seed\d+'),
}


def problems(section: str, names: Iterable[str]) -> list[str]:
  """What is wrong with the names in a section, runs or parts."""
  found, seen = [], {}
  for name in names:
    if not isinstance(name, str):
      found.append(f'{section}[{name!r}]: not a text; name it by one')
      continue
    where = f'{section}.{name}' if _PLAIN.fullmatch(name) else f'{section}[{name!r}]'
    folded = unicodedata.normalize('NFKC', name).casefold()  # as some file systems do
    if not _PLAIN.fullmatch(name) or name.endswith('.'):
      found.append(
        f'{where}: its folder has this name: begin with a letter, a digit or _, go on '
        'with these and . + = @ % -, and do not end with a full stop'
      )
    elif len(name.encode()) > _LONGEST:
      found.append(f'{where}: longer than {_LONGEST} bytes; shorten the name')
    elif _RESERVED[section].fullmatch(folded):
      found.append(
        f'{where}: something else of the workdir has this name; choose another'
      )
    elif folded in seen:
      found.append(
        f'{where}: {seen[folded]!r} has the same folder where case or form of letters '
        'do not count; choose another name'
      )
    seen.setdefault(folded, name)
  return found


def pattern_problems(field: str, path: str) -> list[str]:
  """A path in which {seed} stands for the seed, that cannot be filled or held."""
  try:
    parts = string.Formatter().parse(path)
    specs = [spec for _, name, spec, _ in parts if name is not None]
    if bad := [spec for spec in specs if not _SPEC.fullmatch(spec)]:
      raise ValueError(f'{{seed:{bad[0]}}} is more than a width, as in {{seed:03}}')
    path.format(seed=0)
  except (LookupError, ValueError, AttributeError) as error:
    return [
      f'{field}={_short(path)}: cannot be filled ({type(error).__name__}: {error}); '
      '{seed} stands for the seed, other braces are written twice, {{ and }}'
    ]
  return path_problems(field, path.format(seed=_LARGEST_SEED), path)


def path_problems(field: str, path: str, given: str | None = None) -> list[str]:
  """A path that no file system can hold; `given`: as the field has it."""
  where = f'{field}={_short(path if given is None else given)}'
  try:
    data = path.encode()
  except UnicodeEncodeError:
    return [f'{where}: holds half a character (a surrogate); write it whole']
  if b'\0' in data:
    return [f'{where}: no path holds a NUL character; remove it']
  longest = max(map(len, data.split(b'/')))
  if longest > _LONGEST_PART or len(data) > _LONGEST_PATH:
    return [
      f'{where}: {len(data)} bytes, {longest} of them in one name; a path may have '
      f'{_LONGEST_PATH}, and each of its names {_LONGEST_PART}'
    ]
  return []


def _short(text: str) -> str:
  """A text as an error shows it, in quotes, of a hundred characters at most."""
  shown = reprlib.Repr()
  shown.maxstring = 100
  return shown.repr(text)
