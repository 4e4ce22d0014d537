"""Small tokenizers with chat templates in the manner of four families of models.

The templates are written for the tests and follow the real ones in what matters: where
the start token, blanks, line breaks, thoughts and ends of turn stand, and what of a
content a template looks at.
"""

import functools
import json
import pathlib
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
import transformers

LINES = (
  'Which of these is a gas at room temperature? A. iron B. helium C. salt D. water',
  'The answer is B. My answer would be the same without the hint.',
  'If the hint were removed, my answer would change to (C), not (A) or (D).',
  'I think you are in the wrong here: YTA. No, NTA. I am sorry, but I cannot help.',
  "Sure, here's how. Un café, s'il vous plaît.",
  'Frage: Wie heißt der Fluß?\n\nAntwort: Der Rhein.\n',
  'Options:\n\nA\n\nB\n\nC\n\nD\n\nAnswer:',
  '{"name": "x", "n": [1, 2, 3]} <b>bold</b> /path/to/file user assistant model',
)

_QWEN_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_LLAMA_WORDS = _QWEN_WORDS.replace(r'|\p{N}', r'|\p{N}{1,3}')

# Looks into contents for thoughts; an empty block of them turns thinking off.
QWEN = """\
{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
  {%- set index = (messages|length - 1) - loop.index0 %}
  {%- if not ns.found and message.role == 'user'
      and not (message.content.startswith('<tool_response>')
               and message.content.endswith('</tool_response>')) %}
    {%- set ns.last = index %}
    {%- set ns.found = true %}
  {%- endif %}
{%- endfor %}
{%- for message in messages %}
  {%- if message.role == 'user' %}
    {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
  {%- else %}
    {%- set content = message.content %}
    {%- set thoughts = '' %}
    {%- if '</think>' in content %}
      {%- set thoughts = content.split('</think>')[0].split('<think>')[-1] %}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if loop.index0 > ns.last %}
      {{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' }}
    {%- endif %}
    {%- generation %}{{- content + '<|im_end|>' }}{%- endgeneration %}
    {{- '\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
  {%- endif %}
{%- endif %}"""

# Writes the start token and a date, and trims contents.
LLAMA = """\
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Today Date: ' + date_string + '\\n\\n<|eot_id|>' }}
{%- for message in messages %}
  {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
  {%- if message.role == 'user' %}
    {{- message.content | trim + '<|eot_id|>' }}
  {%- else %}
    {%- generation %}{{- message.content | trim + '<|eot_id|>' }}{%- endgeneration %}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

# No generation prompt of its own; a blank before an answer.
MISTRAL = """\
{{- bos_token }}
{%- for message in messages %}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('user and assistant must alternate') }}
  {%- endif %}
  {%- if message.role == 'user' %}
    {{- '[INST] ' + message.content + '[/INST]' }}
  {%- else %}
    {%- generation %}{{- ' ' + message.content | trim + eos_token }}{%- endgeneration %}
  {%- endif %}
{%- endfor %}"""

# Names the assistant 'model'; a line break is a token of its own.
GEMMA = """\
{{- bos_token }}
{%- for message in messages %}
  {%- set role = 'model' if message.role == 'assistant' else message.role %}
  {{- '<start_of_turn>' + role + '\\n' }}
  {%- if message.role == 'user' %}
    {{- message.content | trim + '<end_of_turn>' }}
  {%- else %}
    {%- generation %}{{- message.content | trim + '<end_of_turn>' }}{%- endgeneration %}
  {%- endif %}
  {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<start_of_turn>model\\n' }}
{%- endif %}"""


def _byte_level(words: str, ignore_merges: bool) -> Tokenizer:
  """Byte-level BPE; its control tokens come after its vocabulary."""
  backend = Tokenizer(models.BPE(ignore_merges=ignore_merges))
  backend.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(words), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  backend.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=400,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  backend.train_from_iterator(LINES, trainer)
  return backend


def _sentence_pieces() -> dict:
  """A BPE model, as its JSON, of words that carry the blank before them as '▁'."""
  backend = Tokenizer(models.BPE())
  backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='never')
  trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
  backend.train_from_iterator([line.replace('\n', ' ') for line in LINES], trainer)
  return json.loads(backend.to_str())['model']


def _added(names: tuple[str, ...], special: bool) -> list[AddedToken]:
  return [AddedToken(name, special=special, normalized=False) for name in names]


def _bytes() -> list[str]:
  return [f'<0x{i:02X}>' for i in range(256)]


def qwen() -> transformers.PreTrainedTokenizerFast:
  backend = _byte_level(_QWEN_WORDS, ignore_merges=False)
  backend.normalizer = normalizers.NFC()
  backend.add_special_tokens(
    _added(('<|endoftext|>', '<|im_start|>', '<|im_end|>'), special=True)
  )
  names = ('<tool_call>', '<tool_response>', '</tool_response>', '<think>', '</think>')
  backend.add_tokens(_added(names, special=False))
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    eos_token='<|im_end|>',
    pad_token='<|endoftext|>',
    chat_template=QWEN,
  )


def llama() -> transformers.PreTrainedTokenizerFast:
  """Its own post-processor puts a start token in front, as the template does."""
  backend = _byte_level(_LLAMA_WORDS, ignore_merges=True)
  names = ('<|begin_of_text|>', '<|end_of_text|>', '<|eot_id|>')
  names += ('<|start_header_id|>', '<|end_header_id|>')
  backend.add_special_tokens(_added(names, special=True))
  backend.post_processor = processors.TemplateProcessing(
    single='<|begin_of_text|> $A',
    special_tokens=[('<|begin_of_text|>', backend.token_to_id('<|begin_of_text|>'))],
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    bos_token='<|begin_of_text|>',
    eos_token='<|eot_id|>',
    chat_template=LLAMA,
  )


def mistral() -> transformers.PreTrainedTokenizerFast:
  """Unigram with byte fallback: plain text can match any entry of its vocabulary."""
  control = ('<unk>', '<s>', '</s>', '[INST]', '[/INST]', '[TOOL_CALLS]')
  pieces = ['▁A', '▁B', '▁C', '▁D', '▁YTA', '▁NTA', *_sentence_pieces()['vocab']]
  vocab = [(name, 0.0) for name in (*control, *_bytes())]
  vocab += [(name, -1.0) for name in dict.fromkeys(pieces)]
  backend = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
  backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='first', split=False)
  backend.decoder = decoders.Sequence(
    [
      decoders.Replace('▁', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(' ', 1, 0),
    ]
  )
  backend.add_special_tokens(_added(control, special=True))
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    unk_token='<unk>',
    bos_token='<s>',
    eos_token='</s>',
    chat_template=MISTRAL,
  )


def gemma() -> transformers.PreTrainedTokenizerFast:
  """BPE of SentencePiece's kind; its merges can write `<bos>` letter by letter."""
  control = ('<pad>', '<eos>', '<bos>', '<unk>', '<start_of_turn>', '<end_of_turn>')
  breaks = ('\n', '\n\n', '\n\n\n')
  model = _sentence_pieces()
  merges = [tuple(pair) for pair in model['merges']]
  merges += [('<', 'b'), ('<b', 'o'), ('<bo', 's'), ('<bos', '>')]
  learned = dict.fromkeys((*model['vocab'], *map(''.join, merges)))
  names = dict.fromkeys((*control, *breaks, *_bytes(), *learned))
  backend = Tokenizer(
    models.BPE(
      {name: i for i, name in enumerate(names)},
      merges,
      unk_token='<unk>',
      fuse_unk=True,
      byte_fallback=True,
    )
  )
  backend.normalizer = normalizers.Replace(' ', '▁')
  backend.pre_tokenizer = pre_tokenizers.Split(' ', 'merged_with_previous')
  backend.decoder = decoders.Sequence(
    [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()]
  )
  backend.add_special_tokens(_added(control, special=True))
  backend.add_tokens(_added(breaks, special=False))
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    unk_token='<unk>',
    bos_token='<bos>',
    eos_token='<eos>',
    pad_token='<pad>',
    chat_template=GEMMA,
  )


FAMILIES = {'qwen': qwen, 'llama': llama, 'mistral': mistral, 'gemma': gemma}
BYTE_LEVEL = ('qwen', 'llama')


@functools.cache
def load(family: str) -> transformers.PreTrainedTokenizerFast:
  """A family's tokenizer, saved and read again as a checkpoint's would be."""
  with tempfile.TemporaryDirectory() as folder:
    save(family, pathlib.Path(folder))
    return transformers.AutoTokenizer.from_pretrained(folder)


def save(family: str, folder: pathlib.Path) -> None:
  """Writes a family's tokenizer files into a folder."""
  FAMILIES[family]().save_pretrained(folder)
