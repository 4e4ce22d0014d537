"""Agreement by chance: what is left when explanations are shuffled among like items.

Explanations are shuffled within strata of equal surface features and equal current
answer B(M_t)(x). A statement is an object relative to its item: "unchanged" names
the item's own answer, a parrot names its hinted option. As own answer and surface
are equal within a stratum, a moved statement keeps these relations, and whatever
follows from them alone keeps its gap: the null holds base rates and surface reading,
and only knowledge of the single item is destroyed. Put the hinted option among the
surface features, or the shuffle destroys parroting too.

Nothing is drawn. Over all shuffles, item i receives each statement of its stratum
equally often, so the expected gap is an exact count (h = agrees with self, minus
agrees with orig; s_j statements, t_i truths): null_i = mean_j h(s_j, t_i). The
corrected gap is the mean of h(s_i, t_i) - null_i. It is a U-statistic; its interval
and p come from its influence h(s_i, t_i) - mean_j h(s_j, t_i) - mean_j h(s_i, t_j)
+ mean_jk h(s_j, t_k) (Hoeffding 1948), with the same mean, summed over groups. The
p of plain shuffles would ignore that statements of one group are alike. As an item
may receive its own statement, the corrected gap is too small by about 1 / (items in
its stratum); an item alone there adds 0.
"""

import numpy as np

from coupling.elicit.explanation import INVALID
from coupling.statistics import intervals
from coupling.statistics.items import Items, label_class, surface_strata


def shuffled_null(items: Items, orig: Items, seed: int = 0) -> dict:
  """The gap that is left when explanations are shuffled among like items.

  Returns:
    strata: their number. exchangeable: share of items that have an item of another
    group in their stratum; the correction means little where it is small.
    null_self, null_orig, null_gap: expected under shuffling. corrected_gap: gap -
    null_gap, with bounds. shuffle_p: of a corrected gap of 0, by sign flips of groups.
  """
  stratum_N = surface_strata(items)
  size_N = np.bincount(stratum_N)[stratum_N]
  member_Mx2 = np.unique(np.stack([stratum_N, items.group_N], axis=1), axis=0)
  groups_S = np.bincount(member_Mx2[:, 0])

  classes_3xN = np.stack(
    [
      label_class(explanation, items.states_answer)
      for explanation in (items.stated, items.truth, orig.truth)
    ]
  )
  # Classes count from 0 here: INVALID is -1.
  stated_N, self_N, orig_N = classes_3xN - INVALID
  shape = (stratum_N.max() + 1, classes_3xN.max() - INVALID + 1)

  def counts(class_N: np.ndarray) -> np.ndarray:
    flat_N = np.ravel_multi_index((stratum_N, class_N), shape)
    return np.bincount(flat_N, minlength=shape[0] * shape[1]).reshape(shape)

  stated_SxC, truths_SxC = counts(stated_N), counts(self_N) - counts(orig_N)
  null_self_N = stated_SxC[stratum_N, self_N] / size_N
  null_orig_N = stated_SxC[stratum_N, orig_N] / size_N
  gap_N = 1.0 * (stated_N == self_N) - (stated_N == orig_N)
  giver_N = truths_SxC[stratum_N, stated_N] / size_N
  both_N = np.sum(stated_SxC * truths_SxC, axis=1)[stratum_N] / size_N**2
  null_gap_N = null_self_N - null_orig_N
  # Rounded, so that a pure reader of the surface has exactly 0.
  influence_N = np.round(gap_N - null_gap_N - giver_N + both_N, 12)
  return {
    'strata': int(shape[0]),
    'exchangeable': float(np.mean(groups_S[stratum_N] > 1)),
    'null_self': float(null_self_N.mean()),
    'null_orig': float(null_orig_N.mean()),
    'null_gap': float(null_gap_N.mean()),
    'corrected_gap': intervals.mean_interval(
      influence_N, items.group_N, seed
    )._asdict(),
    'shuffle_p': intervals.sign_flip(influence_N, items.group_N, seed),
  }


def chance_corrected(accuracy: float, null: float) -> float | None:
  """Agreement beyond chance within strata, (p_o - p_e) / (1 - p_e); 1 is all of it.

  The form is Cohen's (1960), but p_e is the agreement that is left when explanations
  are shuffled within strata (`shuffled_null`), not the product of the marginals: so
  what surface and own answer give counts as chance. None where p_e is 1.
  """
  return None if null > 1 - 1e-12 else (accuracy - null) / (1 - null)
