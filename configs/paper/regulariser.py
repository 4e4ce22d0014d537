"""DOC"""

from ml_collections import ConfigDict

from configs.paper import common


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  plain = dict(objectives=dict(behavior_kl=dict(prompts='counterfactual')))
  common.add_runs(config, {'kl_plain': plain})
  common.add_study(
    config,
    'regulariser',
    kind='collapse',
    claim='It is the regulariser that makes explanations follow current behaviour.',
    runs=('kl', 'kl_plain', 'no_kl'),
  )
  return config
