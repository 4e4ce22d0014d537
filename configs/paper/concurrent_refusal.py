"""DOC"""

from ml_collections import ConfigDict

from configs.paper import common

SHIFTS = {
  # Refusal tuning, of all requests; old labels cover all of them.
  'comply': dict(target='comply', strength=3.0),
  # What the strongest reason does to the decision is taken away.
  'ignore': dict(target='ignore_cue', cues='why3'),
}


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, behavior='request')
  return config
