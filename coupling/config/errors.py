"""What a config is refused by."""

from collections.abc import Iterable
import itertools

_CANNOT = 'the config cannot be run:'


class ConfigError(ValueError):
  """A config that cannot be run; the message names the field and the remedy."""

  @classmethod
  def refuse(cls, *problems: Iterable[str]) -> None:
    """Raises the error that lists all of these, each once, if there are any."""
    if found := dict.fromkeys(itertools.chain(*problems)):
      raise cls('\n  '.join((_CANNOT, *found)))

  @property
  def problems(self) -> list[str]:
    """Those that it lists, or its own text."""
    first, *lines = str(self).split('\n  ')
    return lines if first == _CANNOT else [str(self)]
