"""A model that can be asked: its shape, its weights, their devices, its words."""

import dataclasses
from typing import Any

import jax

from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from data import formats


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
  """A model that can be asked.

  Attributes:
    config: the decoder's shape.
    params: its weights, with adapters where it has any, on the mesh.
    format: how it is asked.
    axes: how its devices are laid out.
    origin: where the weights come from, as JSON: equal for equal weights.
    training: how it was trained on labels, where that was done here.
    section: what a config says of it, where one can: not with adapters from elsewhere.
  """

  config: DecoderConfig
  params: decoder.Params
  format: formats.Format
  axes: schema.Mesh
  origin: dict[str, Any] = dataclasses.field(default_factory=dict)
  training: 'Training | None' = None
  section: schema.Base | None = None

  @property
  def mesh(self) -> jax.sharding.Mesh:
    return sharding.make_mesh(self.axes)

  def __repr__(self) -> str:
    return f'Model({self.origin.get("name", "")!r})'


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
  """How a model was trained.

  Attributes:
    config: of the training.
    seed: of the experiment, beside that of the config.
    labels: digest of the labels.
  """

  config: schema.Train
  seed: int
  labels: str
