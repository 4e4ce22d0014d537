"""Introspective coupling: from a base model to a coupling report.

python main.py --config=configs/world.py --workdir=runs/world

Configs and their arguments are described in configs/ and docs/experiments.md.
"""

import json
import os
import pathlib
import sys

from absl import app
from absl import flags
from ml_collections import config_flags

from coupling.checkpoints import gguf_checkpoint
from coupling.config import close_names
from coupling.config import field_flags
from coupling.config import paper_parts
from coupling.config import schema
from coupling.config import validate
from coupling.plan import ahead_of_time
from coupling.report import last_numbers
from coupling.run import pipeline
from coupling.runtime import distributed
from coupling.runtime import finite
from coupling.runtime import interrupt
from coupling.runtime import workdir
from data import readers

CONFIG = config_flags.DEFINE_config_file(
  'config', help_string='File of the experiment, as configs/world.py:seeds=1'
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the experiment.')
REPORTING = ('run', 'report')
ALONE = ('patch', 'export', 'plan')  # stages of one process
STAGE_HELP = (
  'Stage to run; run is all of them but patch and export. plan tells what a training '
  'would need of machines that are not at hand.'
)
STAGE = flags.DEFINE_enum('stage', 'run', ('run', *pipeline.STAGES, 'plan'), STAGE_HELP)
WORKERS = flags.DEFINE_integer(
  'workers', 1, 'Processes on the CPU that share the seeds and runs.'
)
FOLLOW = flags.DEFINE_bool(
  'follow',
  False,
  'Evaluate a run that is still training; in an audit of a folder of checkpoints go on '
  'with those that appear there until the trainer has reached its last step.',
)
FAIL_BELOW = flags.DEFINE_float(
  'fail_below',
  None,
  'Of --stage=run and report, for CI: print the numbers of the last checkpoint as one '
  'line of JSON, the last of the output, and exit with status 3 if the whole 95% '
  'interval of Self (a share, 0 to 1) lies below this number, else with 0; without an '
  'interval its value counts. Errors exit with 1.',
  lower_bound=0.0,
  upper_bound=1.0,
)
DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'This is one of several processes, on one host or on several, that run the same '
  'command on the same workdir; TPU pods, SLURM and Open MPI tell each of the others.',
)
COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'Of --distributed elsewhere: HOST:PORT of process 0.'
)
PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Of --distributed elsewhere: how many processes there are.'
)
PROCESS = flags.DEFINE_integer(
  'process_id', None, 'Of --distributed elsewhere: which of them this is, from 0.'
)
TARGET = flags.DEFINE_multi_string(
  'target', [], 'Of --stage=plan: devices, as v5e:4x4 or cpu:8; may be repeated.'
)
TOKENS = flags.DEFINE_integer(
  'tokens',
  None,
  'Of --stage=plan: tokens of a prompt; default: length.max_tokens.',
  lower_bound=1,
)
flags.mark_flags_as_required(['config'])
flags.register_multi_flags_validator(
  ['workdir', 'stage'],
  lambda given: given['workdir'] or given['stage'] == 'plan',
  message='--workdir must have a value: the folder of the experiment.',
)
flags.register_multi_flags_validator(
  ['fail_below', 'stage'],
  lambda given: (
    given['fail_below'] is None
    or (given['stage'] in REPORTING and given['fail_below'] == given['fail_below'])
  ),
  message='--fail_below is a number, and goes with --stage=run and --stage=report, '
  'which make the numbers that it is about.',
)
flags.register_multi_flags_validator(
  ['distributed', 'stage', 'workers', 'follow'],
  lambda given: (
    not given['distributed']
    or (given['workers'] == 1 and given['stage'] not in ALONE and not given['follow'])
  ),
  message='--distributed does not go with --workers, --follow, --stage=patch, '
  '--stage=export and --stage=plan: leave it out, they are for one process.',
)
flags.register_multi_flags_validator(
  ['distributed', 'coordinator_address', 'num_processes', 'process_id'],
  lambda given: given['distributed'] or [*given.values()].count(None) == 3,
  message='--coordinator_address, --num_processes and --process_id go with '
  '--distributed.',
)


def parse_flags(argv: list[str]) -> list[str]:
  """Flags as absl reads them; of a config that cannot be read, the cause alone."""
  try:
    rest = flags.FLAGS(argv)
    CONFIG.value.to_dict()  # a file that is not there is told only when it is used
    return rest
  except Exception as error:  # of many kinds: the config's file is run here
    if isinstance(error, flags.Error) and '--config' not in str(error):
      sys.exit(f'{error}\n--help tells the flags')
    if found := field_flags.problems(argv):
      sys.exit('\n  '.join(('wrong fields:', *found)))
    cause = error
    while deeper := cause.__cause__ or (
      None if cause.__suppress_context__ else cause.__context__
    ):
      cause = deeper
    if isinstance(cause, readers.DataError):  # of pairs that the config looked into
      sys.exit(f'DataError: {cause}')
    given = ' '.join(x for x in argv if x.startswith('--config')) or 'no --config'
    told = str(cause).startswith('config argument')  # and what to do
    if told or isinstance(cause, schema.ConfigError):
      sys.exit(f'{cause}\nin {given}')
    sys.exit(
      f'{type(cause).__name__}: {cause}\nin {given}: give an existing config file, '
      'arguments that its docstring names after a colon, and by --config.<field> only '
      'fields that it has'
    )


def main(_) -> None:
  try:
    if DISTRIBUTED.value:
      distributed.start(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    interrupt.install()
    resolve = paper_parts.resolve if 'parts' in CONFIG.value else validate.resolve
    experiment = resolve(CONFIG.value)
    folder = pathlib.Path(WORKDIR.value or '.')
    schema.ConfigError.refuse(
      close_names.path_problems('--workdir', str(folder.absolute()))
    )
    if STAGE.value == 'plan':
      ahead_of_time.run(experiment, TARGET.value, TOKENS.value)
      return
    if FAIL_BELOW.value is not None:
      last_numbers.check(experiment)
    converted = str(folder.absolute() / gguf_checkpoint.FOLDER)
    os.environ.setdefault(gguf_checkpoint.CACHE, converted)
    pipeline.run(experiment, folder, STAGE.value, WORKERS.value, FOLLOW.value)
    if STAGE.value in REPORTING and distributed.is_first():
      pages = folder.glob('report*/index.html')  # of a paper, one for each look
      print(f'report: {max(pages, key=lambda page: page.stat().st_mtime)}')
    if FAIL_BELOW.value is not None:
      found = distributed.first(last_numbers.read, folder, FAIL_BELOW.value)
      if distributed.is_first():
        print(json.dumps(found))
      if found['failed']:
        sys.exit(last_numbers.FAILED)
  except (
    schema.ConfigError,
    distributed.DistributedError,
    workdir.WorkdirError,
    readers.DataError,
    finite.NonFiniteError,
  ) as e:
    sys.exit(f'{type(e).__name__}: {e}')
  except interrupt.Interrupted as e:
    print(e, file=sys.stderr)
    sys.exit(e.exit_code)


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
