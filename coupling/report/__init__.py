"""From evaluated items to numbers, conclusions, figures and the page; no JAX."""
