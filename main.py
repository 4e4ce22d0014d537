"""Introspective coupling: from a base model to a coupling report.

python main.py --config=configs/world.py --workdir=runs/world
"""

import pathlib
import sys

from absl import app
from absl import flags
from ml_collections import config_flags

from coupling import config as config_lib
from coupling import interrupt
from coupling import pipeline
from coupling import resolve as resolve_lib
from coupling import workdir as workdir_lib
from data import readers

CONFIG = config_flags.DEFINE_config_file('config', help_string='Experiment to run.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the experiment.')
STAGE = flags.DEFINE_enum('stage', 'run', ('run', *pipeline.STAGES), 'Stage to run.')
WORKERS = flags.DEFINE_integer(
  'workers', 1, 'Processes on the CPU that share the seeds and runs.'
)
FOLLOW = flags.DEFINE_bool('follow', False, 'Evaluate a run that is still training.')
flags.mark_flags_as_required(['config', 'workdir'])


def main(_) -> None:
  interrupt.install()
  workdir = pathlib.Path(WORKDIR.value)
  try:
    experiment = resolve_lib.resolve(CONFIG.value)
    pipeline.run(experiment, workdir, STAGE.value, WORKERS.value, FOLLOW.value)
  except (config_lib.ConfigError, workdir_lib.WorkdirError, readers.DataError) as e:
    sys.exit(f'{type(e).__name__}: {e}')
  except interrupt.Interrupted as e:
    print(e, file=sys.stderr)
    sys.exit(e.exit_code)


if __name__ == '__main__':
  app.run(main)
