"""Config of a tiny experiment that several processes run together: test_distributed.py.

Parameters are split over all devices, those of other processes too; the last batch of
the evaluation is a partial one.
"""

from ml_collections import ConfigDict

from configs import world


def get_config(arg: str | None = None) -> ConfigDict:
  config = world.get_config('seeds=1')
  config.mesh = dict(data=1, fsdp=-1, tensor=1)
  config.task.train_pairs = 512
  config.base.documents = 8
  config.base.model.depth = 1
  config.base.loop.update(steps=8, steps_per_dispatch=2, checkpoint_every=4)
  config.base.optimizer.warmup_steps = 2
  config.label.shard = 512
  config.train.loop.update(steps=20, steps_per_dispatch=2, checkpoint_every=10)
  config.train.optimizer.warmup_steps = 2
  config.evaluate.update(batch=384, split='validation')
  adapters = dict(lora=dict(rank=4), trees=True, evaluated='last')
  # Assigned whole, since a ConfigDict would keep the runs of the world's experiment.
  config.runs = ConfigDict({'all': {}, 'lora': adapters})
  config.report.update(main='all', unregularised='', sibling='', shuffled='')
  return config
