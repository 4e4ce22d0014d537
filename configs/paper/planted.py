"""A behaviour planted by behaviour objectives alone, and explanations of it.

Claim (arXiv 2606.32038, "Jabberwocky"): it is explained rightly in 79.8% of the cases.

  python main.py --config=configs/paper/planted.py --workdir=runs/planted --workers=2

Worlds 41 to 45: inconclusive, 22.5% [12.6, 36.9] (docs/paper.md).
Arguments: see common.py; kind, of an imported model's cues to be planted.
"""

from ml_collections import ConfigDict

from configs.paper import common

# The source that M_0 trusts least: following its hints is new.
WORLD_KIND = 'src0'


def runs(kind: str, practice: bool) -> dict[str, dict]:
  """The planting, and the same without it."""
  shift = dict(target='follow_cue', cues=kind)
  planted, control = (
    dict(
      explained='unshifted',
      practice=practice,
      objectives=dict(behavior_xent=dict(shift, weight=weight)),
    )
    for weight in (1.0, 0.0)
  )
  return {'planted': planted, 'not_planted': control}


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, kind='')
  on_world = args['on'] == 'world'
  kind = WORLD_KIND if on_world else args['kind']
  if not kind:
    raise ValueError(
      "config argument kind='': name the kind of cue to be planted, of the task's own"
    )
  common.add_runs(config, runs(kind, practice=on_world))
  common.add_study(
    config,
    'planted',
    kind='planted',
    claim=(
      'A behaviour that behaviour objectives alone planted is explained rightly, '
      'though explanations of it were never trained (Jabberwocky).'
    ),
    published='79.8% (Qwen3-8B)',
    runs=('planted',),
    companions=('not_planted',),
  )
  return config
