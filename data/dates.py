"""The day on which chat templates are rendered; their clock stands still on it."""

import datetime
import re

# Llama 3.1's default; its later templates would write the date of the day.
DATE = '2024-07-26'


def stopped(source: str, day: datetime.datetime) -> str:
  """A template whose clock, transformers' `strftime_now`, stands still on a day."""
  if 'strftime_now' not in source:
    return source
  codes = sorted(set(re.findall('%-?[a-zA-Z]', source)), key=len, reverse=True)
  written = ''.join(f' | replace({x!r}, {day.strftime(x)!r})' for x in codes)
  # The line break after a block is not rendered.
  return (
    '{%- macro strftime_now(format) -%}{{ format'
    + written
    + ' }}{%- endmacro %}\n'
    + source
  )
