"""Every experiment of the paper on the built-in world: `make paper`.

Claim: those of arXiv 2606.32038, in one report; each study can be run alone.

  python main.py --config=configs/paper/everything.py --workdir=runs/paper --workers=2

69 minutes for five worlds on two cores, before concurrent_dpo and the patching of v'
were in it. Of 67 statements on worlds 51 to 60, without capacity, planted, refusal and
most of the map of shifts, 26 are supported and 16 contradicted (docs/paper.md).
Arguments: see common.py; studies, some of them: mechanism+iterated; kind, of shifts.
"""

from ml_collections import ConfigDict

from configs.paper import capacity
from configs.paper import common
from configs.paper import concurrent_dpo
from configs.paper import concurrent_refusal
from configs.paper import concurrent_shift
from configs.paper import iterated
from configs.paper import label_noise
from configs.paper import label_source
from configs.paper import learning_rate
from configs.paper import mechanism
from configs.paper import planted
from configs.paper import privileged_access
from configs.paper import regularisation
from configs.paper import regulariser
from configs.paper import trajectory
from configs.paper import variety

STUDIES = (
  regularisation,
  trajectory,
  label_source,
  label_noise,
  concurrent_shift,
  concurrent_dpo,
  concurrent_refusal,
  planted,
  capacity,
  learning_rate,
  variety,
  privileged_access,
  regulariser,
  iterated,
  mechanism,
)
OF_KINDS = ('concurrent_shift', 'concurrent_dpo')  # they alone take the argument `kind`


def get_config(arg: str | None = None) -> ConfigDict:
  """All studies, or those that the argument `studies` names."""
  every = {study.__name__.rpartition('.')[2]: study for study in STUDIES}
  given = (arg or '').split(',')
  named = [x.partition('=')[2] for x in given if x.startswith('studies=')]
  chosen = '+'.join(named).split('+') if named else list(every)
  if unknown := sorted(set(chosen) - set(every)):
    raise ValueError(f'config argument studies: {unknown} are none of {[*every]}')
  kind = [x for x in given if x.startswith('kind=')]
  if kind and not set(chosen) & set(OF_KINDS):
    raise ValueError(f'config argument kind: of {" and ".join(OF_KINDS)} alone')
  rest = [x for x in given if not x.startswith(('studies=', 'kind='))]
  args = {name: rest + kind * (name in OF_KINDS) for name in chosen}
  return common.merge([every[x].get_config(','.join(args[x]) or None) for x in args])
