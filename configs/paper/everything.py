"""DOC"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import regularisation
from configs.paper import trajectory

STUDIES = (
  regularisation,
  trajectory,
)


def get_config(arg: str | None = None) -> ConfigDict:
  return common.merge([study.get_config(arg) for study in STUDIES])
