"""Labels that another training gives: how `train.labels` names them."""

from coupling.config import schema

# Beside '' and a folder: an earlier step of M_0's own pretraining, the end of another
# run, and M_0's own labels of another part of a paper_schema.Paper.
EARLIER, RUN, PART = 'step:', 'run:', 'part:'


def earlier_step(labels: str) -> int | None:
  """Which step of M_0's pretraining the labels are of, where they are of one."""
  if not labels.startswith(EARLIER):
    return None
  step = labels.removeprefix(EARLIER)
  return int(step) if step.isdecimal() else None


def other_run(labels: str) -> str | None:
  """Which run of the same experiment is asked at its end, where one is."""
  return labels.removeprefix(RUN) if labels.startswith(RUN) else None


def needs(train: schema.Train) -> set[str]:
  """The runs of the same experiment that a run waits for."""
  return {train.start, other_run(train.labels)} - {'', None}


def donor(labels: str) -> str | None:
  """Which part of the same paper the labels are of, where they are of one."""
  return labels.removeprefix(PART) if labels.startswith(PART) else None
