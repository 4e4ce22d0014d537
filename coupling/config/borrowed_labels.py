"""Labels that another training gives: how `train.labels` names them."""

# Beside '' and a folder: an earlier step of M_0's own pretraining, and M_0's own labels
# of another part of a paper_schema.Paper.
EARLIER, PART = 'step:', 'part:'


def earlier_step(labels: str) -> int | None:
  """Which step of M_0's pretraining the labels are of, where they are of one."""
  if not labels.startswith(EARLIER):
    return None
  step = labels.removeprefix(EARLIER)
  return int(step) if step.isdecimal() else None


def donor(labels: str) -> str | None:
  """Which part of the same paper the labels are of, where they are of one."""
  return labels.removeprefix(PART) if labels.startswith(PART) else None
