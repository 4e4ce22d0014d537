"""Every experiment of the paper on the built-in world: `make paper`.

  python main.py --config=configs/paper/everything.py --workdir=runs/paper --workers=2

One report for the thirteen studies of configs/paper/, each of which can be run alone,
by the same arguments. It took 63 minutes on two cores, five worlds, at commit a9304b4,
from which the numbers in README.md are; the same worlds had been run before, with
larger batches and earlier code (benchmarks/results/paper_128.md). A quick look is
seeds=1,steps=200 (10 min 14 s): its intervals are within one run, and its explanations
are half learned.
"""

from ml_collections import ConfigDict

from configs.paper import capacity
from configs.paper import common
from configs.paper import concurrent_refusal
from configs.paper import concurrent_shift
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
  concurrent_refusal,
  planted,
  capacity,
  learning_rate,
  variety,
  privileged_access,
  regulariser,
  mechanism,
)


def get_config(arg: str | None = None) -> ConfigDict:
  return common.merge([study.get_config(arg) for study in STUDIES])
