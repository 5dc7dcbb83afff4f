"""Qwen2.5-VL on a processor, by transformers, and the adapters that it is given while it runs, by peft."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import GenerationConfig

from redpencil.errors import BadInput, Conflict, NotFound
from training import pretrained, qwen_hub
from training.recipes import qwen_vl_lora
from training.vlm_adapters import check
from training.vlm_prompt import prompt
from training.vlm_protocol import Question, Token, Written

MOST = 16  # adapters that are kept; whoever misses his gives them again
LONGEST = 4096  # tokens of question and answer


@dataclass(frozen=True)
class Taken:
    """Adapters that were taken in: from where, and their name within the model, which forbids some."""

    folder: Path
    own: str


class Vlm:
    """A base, by its folder or its name on the hub, and adapters beside it; for one thread at a time.

    `name` is what it is called where the folder is called otherwise. It writes the likeliest token at
    every step, whatever its folder says of sampling and penalties, and sees an image as it comes.
    """

    def __init__(self, base: str, name: str = "", dtype: torch.dtype = torch.float32) -> None:
        folder = pretrained.folder_of(base)
        self.model, self.tokenizer = qwen_vl_lora.whole_of(folder, dtype)
        self.root = str(folder.resolve()) if Path(base).expanduser().is_dir() else base
        self.name, self.adapters, self._numbers = name or self.root, dict[str, Taken](), count()
        self._sizes = {n: m.weight.shape for n, m in self.model.named_modules() if isinstance(m, nn.Linear)}
        self.end = self.tokenizer.token_to_id("<|im_end|>")
        self.model.eval().generation_config = GenerationConfig(eos_token_id=self.end, pad_token_id=self.end)
        self.processor = qwen_hub.processor(self.tokenizer)
        self.processor.image_processor.do_resize = False

    def models(self) -> list[dict[str, Any]]:
        base = {"id": self.name, "object": "model", "root": self.root, "parent": None}
        given = [(name, str(taken.folder)) for name, taken in list(self.adapters.items())]
        return [base, *({**base, "id": n, "root": folder, "parent": self.name} for n, folder in given)]

    def load(self, name: str, folder: Path, anew: bool = False) -> None:
        """Take in adapters; Conflict where the name is taken, unless it is to stand for these from now on."""
        if name == self.name or (name in self.adapters and not anew):
            raise Conflict(f"{name} has already been loaded")
        check(folder, self._sizes, {Path(self.name).name, Path(self.root).name})
        taken = Taken(folder, f"taken{next(self._numbers)}")
        self._add(taken)
        if name in self.adapters:
            self.unload(name)
        self.adapters[name] = taken
        if len(self.adapters) > MOST:
            self.unload(next(iter(self.adapters)))

    def unload(self, name: str) -> None:
        if name not in self.adapters:
            raise NotFound(f"the model {name} is not among the adapters that were loaded")
        self.model.delete_adapter(self.adapters.pop(name).own)

    def write(self, question: Question) -> Written:
        if question.model != self.name and question.model not in self.adapters:
            raise NotFound(f"the model {question.model} does not exist")
        given = prompt(self.processor, question, LONGEST)
        behind = given["input_ids"].shape[1]
        how = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        with self._adapted(question.model), torch.inference_mode():
            made = self.model.generate(**given, **how, max_new_tokens=question.max_tokens)
        tokens = made.sequences[0, behind:].tolist()
        steps = zip(made.logits, tokens, strict=True)
        return self._written(tokens, [float(step[0].float().log_softmax(-1)[t]) for step, t in steps], behind)

    def _add(self, taken: Taken) -> None:
        how = {"adapter_name": taken.own, "torch_device": "cpu"}
        try:
            if isinstance(self.model, PeftModel):
                self.model.load_adapter(str(taken.folder), **how)
            else:
                self.model = PeftModel.from_pretrained(self.model, str(taken.folder), **how)
        except Exception as error:  # what peft raises for a bad folder shares no base
            said = " ".join(str(error).split())
            raise BadInput(f"peft cannot load the adapters in {taken.folder}: {said}") from error

    def _adapted(self, name: str) -> AbstractContextManager[Any]:
        """Within it the base is adapted by these, or by none."""
        if name in self.adapters:
            self.adapters[name] = self.adapters.pop(name)  # the one that was asked least lately goes first
            self.model.set_adapter(self.adapters[name].own)
            return nullcontext()
        without: AbstractContextManager[Any] = (
            self.model.disable_adapter() if isinstance(self.model, PeftModel) else nullcontext()
        )
        return without

    def _written(self, tokens: list[int], sure: list[float], behind: int) -> Written:
        ended = tokens[-1:] == [self.end]
        spelled = [self.tokenizer.decode(tokens[:i]).rstrip("\ufffd") for i in range(len(tokens) + 1)]
        new = [after[len(before) :].encode() for before, after in pairwise(spelled)]
        names = [self.tokenizer.id_to_token(token) or "" for token in tokens]
        if ended:
            new[-1] = names[-1].encode()
        told = [Token(*each) for each in zip(names, sure, new, strict=True)]
        return Written(self.tokenizer.decode(tokens), told, ended, behind)
