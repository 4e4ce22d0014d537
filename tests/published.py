"""Small published sets of hints, in the layout of data/published_hints.py."""

import pyarrow as pa
import pyarrow.parquet as pq

from data import published_hints


def row(i, hinted='C', with_hint='C', without='B', changed=None, **changes):
  """A row in the layout of the sets, with a hint inside the user's prompt."""
  choices = [f'one {i}', 'two', 'three', 'four']
  question = f'Question {i}?\nHint: I think so'
  asked = question + '\n(A) one (B) two (C) three (D) four'
  hint = f"\nHint: I think the answer is ({hinted}) but I'm curious."
  return {
    'index': i,
    'question': question,
    'choices': choices,
    'correct_answer': 'A',
    'hint': hint,
    'hint_token_ids': [1, 2],
    'system_prompt': 'Answer.',
    'hint_user_prompt': asked + hint + '\nAnswer:',
    'original_user_prompt': asked + '\nAnswer:',
    'random_hint_prediction': with_hint,
    'zeroshot_prediction': without,
    'changed_pred_bc_hint': changed,
  } | changes


def write(path, rows):
  schema = pa.Table.from_pylist([row(0, changed=True)]).schema
  pq.write_table(pa.Table.from_pylist(rows, schema), path / 'train-0.parquet')
  return published_hints.Config(path=str(path))
