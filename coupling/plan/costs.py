"""What a program costs, counted in its jaxpr."""

import math

from jax.extend import core
from jax.interpreters import partial_eval


def product_flops(jaxpr: core.ClosedJaxpr) -> float:
  """Floating-point operations of all matrix products, on all devices together.

  Those of a scan count as often as it runs, of a while loop once, those that nothing
  reads not at all; what rematerialisation computes anew is counted anew. A branch
  counts as its longest.
  """
  used, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
  return _product_flops(used)


def _product_flops(jaxpr: core.Jaxpr) -> float:
  total = 0.0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      (contracted, _), _ = params['dimension_numbers']
      left = equation.invars[0].aval.shape
      out = equation.outvars[0].aval.shape
      total += 2.0 * math.prod(out) * math.prod(left[i] for i in contracted)
      continue
    inner = [_product_flops(x) for x in core.jaxprs_in_params(params)]
    if name == 'cond':
      total += max(inner, default=0.0)
    else:
      total += sum(inner) * params.get('length', 1)
  return total
