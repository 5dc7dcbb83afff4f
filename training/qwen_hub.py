"""A Qwen2.5-VL that has learned, as a folder for the Hugging Face hub: its adapters, or one whole model.

peft opens the one on top of the model that was adapted; transformers and engines such as vLLM open the other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from redpencil.bundle import Adapters, Graph, Manifest
from redpencil.types import Precision
from training import lora

if TYPE_CHECKING:
    from training.recipes.qwen_vl_lora import QwenVl

SYSTEM = "You are a helpful assistant."
TEMPLATE = """\
{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\n' + SYSTEM + '<|im_end|>\\n' }}{% endif -%}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.text is defined %}{{ part.text }}{% endif %}
{%- endfor %}{% endif %}{{ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


USE = """\
```python
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
{opening}
processor = AutoProcessor.from_pretrained(folder)

def canvas(image, height={height}, width={width}):  # it has only seen lines on paper of this size
    share = min(height / image.height, width / image.width)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    sheet = Image.new("RGB", (width, height), "white")
    sheet.paste(image.convert("RGB").resize(size))
    return sheet

content = [{{"type": "image", "image": canvas(Image.open("line.png"))}}, {{"type": "text", "text": {prompt}}}]
asked = {{"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}}
given = processor.apply_chat_template([{{"role": "user", "content": content}}], **asked)
how = {{"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": {longest}}}  # as it was judged
written = model.generate(**given, **how)
print(processor.decode(written[0, given["input_ids"].shape[1] :], skip_special_tokens=True))
```
"""
WHOLE = """
folder = "."  # where this card lies
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)"""
ABOVE = """from peft import PeftModel

folder = "."  # where this card lies
base = Qwen2_5_VLForConditionalGeneration.from_pretrained({base})
model = PeftModel.from_pretrained(base, folder)"""


def write(model: QwenVl, folder: Path, merged: bool, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """Write adapters in peft's format, or the whole model with its adapters merged into it in `dtype`.

    Returns the header of a model card, and how to read with the folder.
    """
    if merged:
        whole(model).to(dtype).save_pretrained(folder)
    else:
        lora.to_peft(layers(model), model.shape["base"], folder)
    processor(model.tokenizer).save_pretrained(folder)
    return header(model, merged)


def layers(model: QwenVl) -> dict[str, lora.Lora]:
    """The adapted layers, by the names that transformers gives them."""
    return {f"model.language_model.{name}": layer for name, layer in lora.adapters(model.language)}


def to_bundle(model: QwenVl, folder: Path, lineage: dict[str, Any]) -> Manifest:
    """Write the adapters as a bundle, which a server that runs their base reads with."""
    weights, config = lora.to_peft(layers(model), model.shape["base"], folder)
    kept = {name: value for name, value in model.shape.items() if name != "config"}  # the base has its own
    manifest = Manifest(
        model.preprocessing,
        (),
        {Precision.FP32: Graph.of(weights)},
        Precision.FP32,
        lineage | {"shape": kept},
        decoder="vlm",
        adapters=adapters(model, Graph.of(config)),
    )
    manifest.save(folder)
    return manifest


def adapters(model: QwenVl, config: Graph) -> Adapters:
    """How a server is to be asked that has the adapters."""
    shape = model.shape
    said = {"system": SYSTEM, "prompt": shape["prompt"], "longest": shape["longest"]}
    return Adapters(shape["base"], shape["rank"], config=config, **said)


def header(model: QwenVl, merged: bool) -> dict[str, Any]:
    """What the hub wants to know of the folder, and under "use" a program that reads a line with it."""
    shape = {**model.shape, **{name: repr(model.shape[name]) for name in ("base", "prompt")}}
    opening = (WHOLE if merged else ABOVE).format(**shape)
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", model.shape["base"])  # on the hub, not a folder of ours
    return {
        **({"base_model": named[0]} if named else {}),
        "library_name": "transformers" if merged else "peft",
        "pipeline_tag": "image-text-to-text",
        "tags": ["ocr", "redpencil"] + ([] if merged else ["lora"]),
        "use": USE.format(opening=opening, **shape),
    }


def whole(model: QwenVl) -> Any:
    """The model of transformers that reads as ours does."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    with torch.device("meta"):
        made = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**model.shape["config"]))
    told = made.load_state_dict(weights(model), strict=False, assign=True)
    if told.unexpected_keys or set(told.missing_keys) - set(made.all_tied_weights_keys):
        raise RuntimeError(f"transformers has other weights than ours: {told}")
    made.tie_weights()
    made.generation_config.eos_token_id = model.generation.end
    return made


def weights(model: QwenVl) -> dict[str, Tensor]:
    """Ours by the names that transformers gives them, adapters merged."""
    merged = {f"{name}.weight": layer.merged() for name, layer in lora.adapters(model.language)}
    found = {f"model.visual.{name}": value for name, value in model.vision.tower.state_dict().items()}
    for name, value in model.language.state_dict().items():
        part, _, rest = name.partition(".")
        place = {"head": "lm_head", "words": "model.language_model.embed_tokens"}
        if not name.endswith((".up", ".down")):
            found[f"{place.get(part, f'model.language_model.{part}')}.{rest}"] = merged.get(name, value)
    return {name: value.detach() for name, value in found.items()}


def processor(tokenizer: Tokenizer) -> Any:
    """What turns messages with images into what the model takes, by Qwen's own names and chat format."""
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor, Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    template = TEMPLATE.replace("SYSTEM", repr(SYSTEM))
    return Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), fast, Qwen2VLVideoProcessor(), chat_template=template)
