"""What a report says of how it was made."""

from coupling.config import validate
from coupling.report import provenance
from coupling.runtime import workdir
from configs import world


def test_a_stage_that_is_under_way_is_left_out(tmp_path):
  """Such as patching, which no report but a paper's waits for."""
  e = validate.resolve(world.get_config('seeds=1'))
  root = tmp_path / f'seed{e.seeds[0]}'
  with workdir.open_stage(root / 'label', 'label', {}, {}) as label:
    label.finish({'too_long': {'test': 0}, 'devices': '1 x some'})
  with workdir.open_stage(root / 'kl' / 'patch', 'patch', {}, {}):
    found = provenance.provenance(e, tmp_path)
  assert list(found['stages']) == [f'{root.name}/label']
  assert found['stages'][f'{root.name}/label']['seconds'] >= 0
  assert found['devices'] == ['1 x some']
