"""Counterfactual pairs, and their text as token ids."""

import os

# Only tokenizers are used: that PyTorch is not installed is no news. Read as
# transformers is imported, so it is set before any module that does.
os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')
