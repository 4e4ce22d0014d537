"""From a config of several experiments to a Paper, which is one of its own kind.

title     of the report
looks     numbers of seeds at which claims are decided: paper_schema.Paper
parts     name -> the config of an experiment, each with a folder of the workdir
studies   name -> what some of their runs are to show: paper_schema.Study
"""

import ml_collections

from coupling.config import borrowed_labels
from coupling.config import bounds
from coupling.config import close_names
from coupling.config import paper_schema
from coupling.config import schema
from coupling.config import strict
from coupling.config import validate


# Kind of study -> fields that it cannot do without.
NEEDS = {kind: ('at',) for kind in ('regularisation', 'noise', 'capacity', 'rates')}
NEEDS |= {'variety': ('at',), 'shift': ('companions',), 'planted': ('companions',)}


def resolve(config: ml_collections.ConfigDict) -> paper_schema.Paper:
  """Several experiments and their studies, typed.

  Raises:
    ConfigError: like resolve's, with the part in front of the field; a study that names
      a run that is not there, or lists that do not fit one another.
  """
  parts, studies = {}, {}
  problems = close_names.problems('parts', config.get('parts', {}))
  problems += validate.misnamed(paper_schema.Paper, config.to_dict())
  for name, part in config.get('parts', {}).items():
    try:
      parts[name] = validate.resolve(part, part=True)
    except schema.ConfigError as error:
      problems += [f'parts.{name}.{problem}' for problem in error.problems]
  # What is in parts that are themselves wrong cannot be looked for.
  known = len(parts) == len(config.get('parts', {}))
  problems += _part_problems(parts) if known else []
  looks = config.get('looks', ())
  looks = strict.read(tuple[bounds.Count, ...], looks, 'looks', problems)
  if looks and (list(looks) != sorted(set(looks)) or looks[0] < 2):
    problems.append(f'looks={looks}: give them in ascending order, from 2 on')
  for name, values in config.to_dict().get('studies', {}).items():
    path, found = f'studies.{name}', []
    study = strict.read(paper_schema.Study, values, path, found)
    studies[name] = study
    problems += found or (_study_problems(path, study, parts) if known else [])
  schema.ConfigError.refuse(problems)
  seeds = len(next(iter(parts.values())).seeds)
  looks = paper_schema.planned(looks, seeds)
  return paper_schema.Paper(
    title=config.title, looks=looks, parts=parts, studies=studies
  )


def _part_problems(parts: dict[str, schema.Experiment]) -> list[str]:
  """Parts of other seeds; labels of parts that are not there."""
  problems = []
  first, *_ = parts
  for name, e in parts.items():
    if e.seeds != parts[first].seeds:
      problems.append(
        f'parts.{name}.seeds={e.seeds}: those of {first} are {parts[first].seeds}; '
        'give all parts of a paper the same seeds'
      )
    for run, train in e.runs.items():
      donor = borrowed_labels.donor(train.labels)
      if donor is None:
        continue
      field = f'parts.{name}.runs.{run}.labels={train.labels!r}'
      if donor not in parts:
        problems.append(f'{field}: choose from the parts {sorted(parts)}')
  return problems


def _study_problems(
  path: str, study: paper_schema.Study, parts: dict[str, schema.Experiment]
) -> list[str]:
  """Runs that are not there; lists of other lengths."""
  problems = []
  for field in ('runs', 'companions'):
    for name in getattr(study, field):
      part, _, run = name.partition('/')
      here = part in parts and run in parts[part].runs
      if not here and not (field == 'companions' and not name):
        problems.append(
          f'{path}.{field}: {name!r} is no run of the parts {sorted(parts)}; write '
          'part/run'
        )
  for field in NEEDS.get(study.kind, ()):
    if not getattr(study, field):
      problems.append(f'{path}.{field}: empty, but a study of {study.kind} needs it')
  for field in ('at', 'companions'):
    if len(getattr(study, field)) not in (0, len(study.runs)):
      problems.append(
        f'{path}.{field} has {len(getattr(study, field))} entries, but {path}.runs '
        f'{len(study.runs)}: give one for each, or none'
      )
  return problems
