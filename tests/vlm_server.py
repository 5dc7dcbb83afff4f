"""A server that speaks what vLLM speaks and computes with transformers and peft: a peer for our adapters.

It takes in adapters while it runs, and answers chat completions with an image by them.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

Json = dict[str, Any]


class Vlm:
    """One base model and the adapters that it was given; one question at a time."""

    def __init__(self, base: Path, key: str = "") -> None:
        self.base, self.key = base, key
        self.processor = AutoProcessor.from_pretrained(base)
        self.adapters: dict[str, str] = {}
        self._model: Any = None
        self._lock = threading.Lock()
        self.url, self.hangs_up = "", 0

    def forget(self) -> None:
        """As after a restart: the base is there, the adapters are not."""
        self._model, self.adapters = None, {}

    def models(self) -> Json:
        base = {"id": str(self.base), "root": str(self.base), "parent": None}
        added = [{"id": n, "root": f, "parent": str(self.base)} for n, f in self.adapters.items()]
        return {"object": "list", "data": [base, *added]}

    def load(self, asked: Json) -> tuple[int, Json]:
        name, folder = asked["lora_name"], asked["lora_path"]
        with self._lock:
            if name in self.adapters:
                return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}
            if self._model is None:
                whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(self.base, dtype=torch.float32)
                self._model = PeftModel.from_pretrained(whole, folder, adapter_name=name)
            else:
                self._model.load_adapter(folder, adapter_name=name)
            self.adapters[name] = folder
        return 200, {"message": "added"}

    def complete(self, asked: Json) -> tuple[int, Json]:
        name = asked["model"]
        if name not in self.adapters:
            return 404, {"error": {"message": f"The model `{name}` does not exist."}}
        system, user = asked["messages"]
        shown, said = user["content"]
        image = Image.open(io.BytesIO(base64.b64decode(shown["image_url"]["url"].partition(",")[2])))
        content = [{"type": "image", "image": image}, said]
        how = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        given = self.processor.apply_chat_template([system, {"role": "user", "content": content}], **how)
        with self._lock, torch.inference_mode():
            self._model.set_adapter(name)
            written = self._model.generate(
                **given,
                do_sample=False,
                max_new_tokens=asked["max_tokens"],
                output_logits=True,
                return_dict_in_generate=True,
            )
        tokens = written.sequences[0, given["input_ids"].shape[1] :].tolist()
        sure = torch.stack(written.logits).log_softmax(-1)[:, 0]
        return 200, self._answer(tokens, [float(sure[i, t]) for i, t in enumerate(tokens)])

    def _answer(self, tokens: list[int], sure: list[float]) -> Json:
        """As vLLM does: bytes come with the token that ends a character, and the end is a token as well."""
        spelled = [
            self.processor.tokenizer.decode(tokens[:i], skip_special_tokens=True).rstrip("\ufffd")
            for i in range(len(tokens) + 1)
        ]
        steps = zip(spelled, spelled[1:], sure, strict=False)
        told = [{"logprob": p, "bytes": list(b[len(a) :].encode())} for a, b, p in steps]
        ended = tokens[-1] == self.processor.tokenizer.eos_token_id
        told[-1] |= {"bytes": list(b"<|im_end|>")} if ended else {}
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        choice = {"message": {"role": "assistant", "content": text}, "logprobs": {"content": told}}
        choice["finish_reason"] = "stop" if ended else "length"
        return {"object": "chat.completion", "choices": [choice]}


@contextmanager
def running(base: Path, key: str = "") -> Iterator[Vlm]:
    """A server of a base that has its processor beside it; `url` says where."""
    vlm = Vlm(base, key)

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, vlm.models())

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if vlm.hangs_up:
                vlm.hangs_up, self.close_connection = vlm.hangs_up - 1, True
                return None
            if vlm.key and self.headers["authorization"] != f"Bearer {vlm.key}":
                return self.answer(401, {"error": "Unauthorized"})
            work = {"/v1/load_lora_adapter": vlm.load, "/v1/chat/completions": vlm.complete}[self.path]
            return self.answer(*work(asked))

        def answer(self, status: int, content: Json) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    vlm.url = f"http://{key + '@' if key else ''}127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield vlm
    finally:
        server.shutdown()
        server.server_close()
