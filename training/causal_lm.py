"""A language model of Hugging Face's transformers that decodes with keys and values kept by us.

Its layers are walked here, with the modules and weights that transformers made: so that one graph
serves rows of different length, a prefix of vectors may stand before the words, and every weight
keeps its name. The answers are those of transformers (see tests/integration/test_causal_lm.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from redpencil.errors import BadInput
from training import pretrained, tokens
from training.image_to_text import Named, attend, merge_heads, split_heads, visible
from training.transformer import joined, pair, shapes

FAMILIES = ("qwen3", "qwen2", "llama", "mistral", "qwen2_5_vl_text")
ROTATIONS = ("default", "linear", "llama3", "yarn")  # those that do not change with the length

Kept = tuple[Tensor, Tensor]


class CausalLM(nn.Module):
    """The body of a transformers model (words, layers, norm, rotary positions) under its head.

    Where head and words share their weights so they do here, and in the graph.
    """

    def __init__(self, body: Any, head: nn.Linear) -> None:
        super().__init__()
        self.config = body.config
        _check(self.config)
        self.words, self.layers, self.norm = body.embed_tokens, body.layers, body.norm
        self.rotary = body.rotary_emb
        self.head = None if head.weight is self.words.weight else head
        self.hidden: int = self.config.hidden_size
        self.vocabulary: int = self.words.num_embeddings
        self.heads: int = self.config.num_key_value_heads
        size = getattr(self.config, "head_dim", None) or self.hidden // self.config.num_attention_heads
        self.past_shapes = shapes(len(self.layers), self.heads, size)
        self.checkpointing = False
        """Whether training keeps no layer's activations and computes them again: slower, but smaller."""

    def embed(self, tokens: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Tokens [B,S] -> vectors [B,S,hidden]; -k-1 is the k-th row of `prefix` [B,P,hidden]."""
        vectors = F.embedding(tokens.clamp(min=0), self.words.weight).to(self.norm.weight.dtype)
        if prefix is None:
            return vectors
        place = (-tokens - 1).clamp(min=0)[..., None].expand(-1, -1, self.hidden)
        return torch.where(tokens[..., None] < 0, prefix.to(vectors.dtype).gather(1, place), vectors)

    def forward(
        self, vectors: Tensor, length: Tensor, past: Named, positions: Tensor | None = None
    ) -> tuple[Tensor, Named]:
        """[B,S,hidden] behind `length` [B] valid past positions -> logits [B,S,V], keys and values [B,h,S,d].

        `positions` [B,S] (or [3,B,S], where the model turns by time, row and column) are those of
        the new vectors; without them they follow one another from `length` on.
        """
        steps = vectors.shape[1]
        if positions is None:
            positions = length[:, None] + torch.arange(steps, device=vectors.device)
        seen = visible(length, past["0.key"].shape[2], steps)
        turn = self.turn(vectors, positions)
        new: Named = {}
        for i, layer in enumerate(self.layers):
            walk: Callable[..., Any] = self._walk
            if self.checkpointing and self.training:
                walk = _checkpointed(self._walk)
            vectors, (key, value) = walk(layer, vectors, seen, turn, pair(past, str(i)))
            new |= {f"{i}.key": key, f"{i}.value": value}
        return self.logits(self.norm(vectors)), new

    def turn(self, vectors: Tensor, positions: Tensor) -> Kept:
        """Cosine and sine [B,1,S,d] by which queries and keys are turned at these positions."""
        if "mrope_section" in self.config.rope_parameters and positions.ndim == 2:
            positions = positions[None].expand(3, -1, -1)
        cos, sin = self.rotary(vectors, positions)
        return cos[:, None], sin[:, None]

    def logits(self, vectors: Tensor) -> Tensor:
        """[B,S,hidden] behind the last norm -> [B,S,V]."""
        if self.head is None:
            return F.linear(vectors, self.words.weight.to(vectors.dtype))
        answer: Tensor = self.head(vectors)
        return answer

    def _walk(
        self, layer: Any, x: Tensor, seen: Tensor, turn: Kept, past: Kept
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        at, read = layer.self_attn, layer.input_layernorm(x)
        query, key = (turned(split_heads(p(read), n), norm, turn) for p, n, norm in self._compared(at))
        new = key, split_heads(at.v_proj(read), self.heads)
        x = x + at.o_proj(merge_heads(self._attend(query, *joined(past, new), seen)))
        return x + layer.mlp(layer.post_attention_layernorm(x)), new

    def _compared(self, at: Any) -> tuple[tuple[Any, int, Any], ...]:
        """What makes queries and keys, how many heads of them, and their norm, if they have one."""
        query, key = getattr(at, "q_norm", None), getattr(at, "k_norm", None)
        return (at.q_proj, self.config.num_attention_heads, query), (at.k_proj, self.heads, key)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        """Several heads of queries [B,g*h,S,d] share each head of keys and values [B,h,T,d]."""
        shared = query.unflatten(1, (self.heads, -1))
        return attend(shared, key[:, :, None], value[:, :, None], seen[:, None]).flatten(1, 2)


def turned(x: Tensor, norm: Any, turn: Kept) -> Tensor:
    """[B,h,S,d] with its norm, turned by its position."""
    x = x if norm is None else norm(x)
    (cos, sin), half = turn, x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def _checkpointed(walk: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: checkpoint(walk, *given, use_reentrant=False)


def load(folder_or_name: str | Path) -> tuple[CausalLM, Tokenizer]:
    """A language model and its tokenizer, from a folder or by its name on the Hugging Face hub."""
    from transformers import AutoModelForCausalLM

    folder = pretrained.folder_of(folder_or_name)
    config = pretrained.config_of(folder)
    if config["model_type"] not in FAMILIES:
        raise BadInput(f"{folder} holds a {config['model_type']} model; known are {', '.join(FAMILIES)}")
    whole = pretrained.weights(AutoModelForCausalLM, folder)
    model, tokenizer = CausalLM(whole.model, whole.lm_head), tokens.of_file(folder)
    check_tokenizer(model, tokenizer, folder)
    return model, tokenizer


def of_config(config: dict[str, Any]) -> CausalLM:
    """A language model of that shape, with weights that are still to be filled in."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = dict(config)
    whole = AutoModelForCausalLM.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
    return CausalLM(whole.model, whole.lm_head).float()


def plain(config: Any) -> dict[str, Any]:
    """A transformers configuration as JSON holds it, for `of_config`."""
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return found


def check_tokenizer(model: CausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """BadInput where the tokenizer has ids that the model has no word for, or has other words for."""
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= model.vocabulary:
        raise BadInput(
            f"the tokenizer in {folder} does not belong to its language model: it has a token {token!r} of "
            f"id {last}, the model has ids up to {model.vocabulary - 1}"
        )
    pretrained.check_ids(folder, tokenizer)


def _check(config: Any) -> None:
    if config.model_type not in FAMILIES:
        raise BadInput(f"a {config.model_type} cannot be the decoder; known are {', '.join(FAMILIES)}")
    rotation = config.rope_parameters["rope_type"]
    if rotation not in ROTATIONS:
        raise BadInput(
            f"positions of the kind {rotation!r} change with the length; known: {', '.join(ROTATIONS)}"
        )
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise BadInput(f"this {config.model_type} looks back over a sliding window, which is unknown here")
