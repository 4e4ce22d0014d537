"""Names from the config that become folders: of runs, and of the parts of a paper.

  <workdir>/<part>/seed0/<run>/train      and  <workdir>/<part>/tensorboard/seed0/<run>

A name must stay within its folder, be the only one there, and be none of a stage's.
"""

from collections.abc import Iterable
import re
import unicodedata

# Letters and digits of any script, and what else is safe in a name everywhere.
_PLAIN = re.compile(r'\w[\w.+=@%-]*')
_LONGEST = 100  # bytes; file systems take 255, and files are named after runs too
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
  """A path in which {seed} stands for the seed, that cannot be filled so."""
  try:
    path.format(seed=0)
  except (LookupError, ValueError, AttributeError) as error:
    return [
      f'{field}={path!r}: cannot be filled ({type(error).__name__}: {error}); '
      '{seed} stands for the seed, other braces are written twice, {{ and }}'
    ]
  if '\0' in path:
    return [f'{field}={path!r}: no path holds a NUL character; remove it']
  return []
