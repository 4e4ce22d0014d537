"""A small model that `transformers.Trainer` trains and keeps checkpoints of."""

import pathlib

import torch
import transformers

from data import tokens

TEXTS = tuple(f'What is {i} and {i}? It is {2 * i}.' for i in range(16))


class _Texts(torch.utils.data.Dataset):
  def __init__(self, tokenizer, length: int = 16):
    encoded = tokenizer(
      list(TEXTS), padding='max_length', truncation=True, max_length=length
    )
    self._rows = torch.tensor(encoded['input_ids'])

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
    return {'input_ids': self._rows[i], 'labels': self._rows[i]}


def train(
  base: pathlib.Path,
  folder: pathlib.Path,
  steps: int = 4,
  lora: bool = False,
  rate: float = 0.003,
  **arguments,
) -> pathlib.Path:
  """Fine-tunes the model in a folder; a checkpoint after each step, with its tokenizer.

  Args:
    base: as `save_pretrained` writes it.
    folder: output_dir.
    steps: max_steps.
    lora: train adapters of `peft`.
    rate: learning rate; moves answers in a step or two.
    **arguments: more of transformers.TrainingArguments.
  """
  transformers.set_seed(0)
  tokenizer = tokens.load_tokenizer(base)
  model = transformers.AutoModelForCausalLM.from_pretrained(base)
  if lora:
    import peft

    config = peft.LoraConfig(r=4, target_modules=['q_proj', 'v_proj'])
    model = peft.get_peft_model(model, config)
  trainer = transformers.Trainer(
    model=model,
    args=transformers.TrainingArguments(
      **dict(
        output_dir=str(folder), max_steps=steps, save_steps=1, save_strategy='steps'
      )
      | dict(per_device_train_batch_size=4, learning_rate=rate, report_to=[])
      | dict(use_cpu=True, disable_tqdm=True, logging_strategy='no')
      | arguments
    ),
    train_dataset=_Texts(tokenizer),
    processing_class=tokenizer,
  )
  trainer.train()
  return folder
