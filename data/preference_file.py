"""Files of preferences: a prompt, the reply that is preferred, and one that is not.

Rows of JSON lines (or whatever else readers.rows takes) have the fields of FIELDS. Each
is a text, or, as in TRL's conversational form, a list of messages {role, content}: a
prompt's by user and assistant in turn, the user's last; a reply's the assistant's one.
"""

import pathlib
from typing import NamedTuple

from data import asking
from data import readers

FIELDS = ('prompt', 'chosen', 'rejected')


class Preference(NamedTuple):
  """A prompt, of turns where it was given as messages, and two replies to it."""

  prompt: asking.Turns
  chosen: str
  rejected: str


def read(path: str) -> list[Preference]:
  """All of a file.

  Raises:
    DataError: naming the file, the row and the field that cannot be used, and why.
  """
  found = []
  for row in readers.rows(pathlib.Path(path).expanduser(), FIELDS):
    prompt, chosen, rejected = (_turns(row, field) for field in FIELDS)
    if chosen == rejected:
      raise readers.DataError(
        f"{row.where}, field 'rejected': the same as chosen, so that nothing is "
        'preferred; correct or remove the row.'
      )
    prompt = prompt if isinstance(row.values['prompt'], list) else prompt[0]
    found.append(Preference(prompt, *chosen, *rejected))
  return found


def _turns(row: readers.Row, field: str) -> list[str]:
  """A field's text, or the contents of its messages; raises DataError."""
  messages = row.values[field]
  if not isinstance(messages, list):
    return [row.text(field)]
  roles = ['assistant']
  if field == 'prompt':
    roles = ['user', 'assistant'] * (len(messages) // 2) + ['user']
  wanted = [{'role': role, 'content': ...} for role in roles]
  if [isinstance(x, dict) and x | {'content': ...} for x in messages] != wanted:
    raise readers.DataError(
      f'{row.where}, field {field!r}: expected a text, or messages of role and content '
      f'alone by {roles}, found {messages!r:.200}; correct or remove the row (a system '
      'turn is that of base.system).'
    )
  contents = (readers.Row(x, row.path, row.number) for x in messages)
  return [x.text('content') for x in contents]
