"""Reads an image by a server of vision-language models, where a model is too large for an ONNX file.

The bundle holds low-rank adapters. The server runs the model that they adapt, takes them in while it
runs, and keeps those of several versions side by side, so that a new version restarts nothing. What is
spoken is what vLLM speaks: OpenAI's chat completions, and its own call that loads adapters. Without a
GPU `python -m training.vlm_server` speaks the same.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from redpencil.bundle import Adapters, Manifest, bundle_id
from redpencil.errors import Damaged, NotReady, RedpencilError
from redpencil.pixels import Pixels, on_canvas
from redpencil.text import one_line
from redpencil.types import LineText, Precision

TIMEOUT = httpx.Timeout(600.0, connect=10.0)  # without a GPU a long text takes minutes, and others wait
IDLE_S = 3.0  # vLLM closes a connection after five
START = (
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve {base} --port 8001 --enable-lora --max-lora-rank {rank}"
    ", or without a GPU python -m training.vlm_server {base} (docs/families/qwen_vl_lora.md)"
)
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes
GREEDY = {"temperature": 0, "repetition_penalty": 1.0, "top_p": 1.0, "top_k": -1}
"""Said in full: what a question leaves out vLLM takes from the model's generation_config.json."""


class VlmReader:
    """Writes the text of images by a server at `url` (http://[KEY@]host:port/v1); thread-safe.

    The server reads the adapters from this bundle's folder, so it must see the folder under the same
    path. NotReady, with what to do, where it does not answer or runs another model.
    """

    device = "vlm"

    def __init__(self, folder: Path, url: str, manifest: Manifest | None = None) -> None:
        self.manifest = manifest or Manifest.load(folder)
        assert self.manifest.adapters is not None  # as Manifest.load has checked
        self.adapters: Adapters = self.manifest.adapters
        self.precision: Precision = self.manifest.precision
        self.name = f"redpencil-{bundle_id(folder)[:16]}"
        self._folder, self._start = folder.resolve(), start_of(self.adapters.base, self.adapters.rank)
        if not url:
            raise NotReady(
                "this version is run by a server of vision-language models, and REDPENCIL_VLM_URL names "
                f"none; start one, {self._start}, and set it to http://HOST:8001/v1"
            )
        self._http = client(url)

    def read(self, line: Pixels) -> LineText:
        """Write the text of one image (H x W x 3, uint8 RGB)."""
        asked = self._question(line)
        answer = self._post("chat/completions", asked)
        if answer.status_code == httpx.codes.NOT_FOUND:  # the server was started anew
            self._load()
            answer = self._post("chat/completions", asked)
        return text_of(_content(answer))

    def warm(self) -> None:
        """Have the server take in the adapters and read once with them."""
        p = self.manifest.preprocessing
        self._check_base()
        self.read(np.full((p.height, p.width or p.height, 3), 127, np.uint8))

    def _check_base(self) -> None:
        """NotReady where the server runs another model than the one that is adapted."""
        listed = _content(self._call("GET", "models"))["data"]
        bases = {str(m.get(k) or "") for m in listed if not m.get("parent") for k in ("id", "root")}
        if Path(self.adapters.base).name not in {Path(base).name for base in bases}:
            raise NotReady(
                f"{self._http.base_url} runs {', '.join(sorted(bases - {''})) or 'no model'}, and these "
                f"adapters belong to {self.adapters.base}: start {self._start}, or give your copy of that "
                f"model its name with --served-model-name {Path(self.adapters.base).name}"
            )

    def _load(self) -> None:
        answer = self._post("load_lora_adapter", {"lora_name": self.name, "lora_path": str(self._folder)})
        if answer.status_code == httpx.codes.NOT_FOUND and "model" not in answer.text:
            raise NotReady(f"{self._http.base_url} does not take in adapters: start {self._start}")
        if answer.is_error and "already" not in answer.text:  # another thread or replica was quicker
            raise NotReady(
                f"{self._http.base_url} does not take in the adapters in {self._folder}: {_words(answer)}"
            )

    def _question(self, line: Pixels) -> dict[str, Any]:
        sheet = on_canvas(line, self.manifest.preprocessing)
        png = cv2.imencode(".png", sheet[:, :, ::-1])[1].tobytes()
        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": self.adapters.prompt},
        ]
        said = [{"role": "system", "content": self.adapters.system}, {"role": "user", "content": content}]
        most = {"max_tokens": self.adapters.longest, "logprobs": True}
        return {"model": self.name, "messages": said, **most, **GREEDY}

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return self._call("POST", path, json=body)

    def _call(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            try:
                return self._http.request(method, path, **how)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):  # it let go of an idle one
                return self._http.request(method, path, **how)
        except httpx.TransportError as error:
            raise NotReady(
                f"the server of vision-language models at {self._http.base_url} does not answer ({error}); "
                f"is it running? {self._start}"
            ) from error


def client(url: str) -> httpx.Client:
    """Keeps connections to a server; the key before the @ of its URL is sent as Bearer."""
    place = httpx.URL(url.rstrip("/") + "/")
    headers = {"Authorization": f"Bearer {place.username}"} if place.username else {}
    place, limits = place.copy_with(userinfo=b""), httpx.Limits(keepalive_expiry=IDLE_S)
    return httpx.Client(base_url=place, headers=headers, timeout=TIMEOUT, limits=limits, trust_env=False)


def start_of(base: str, rank: int) -> str:
    """The commands that start a server for adapters of such a model, with a GPU and without."""
    return START.format(base=base, rank=next((r for r in RANKS if r >= rank), rank))


def text_of(answer: Mapping[str, Any]) -> LineText:
    """A chat completion as a reading; every character is as sure as the token that ended it."""
    choice = answer["choices"][0]
    text = one_line(str(choice["message"]["content"] or ""))
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if choice.get("finish_reason") == "stop":
        tokens = tokens[:-1]  # which ended the text and is not in it
    sure = [float(np.exp(token["logprob"])) for token in tokens]
    mean = round(float(np.mean(sure)), 5) if sure else 0.0
    each = (_each(tokens, sure) + [mean] * len(text))[: len(text)]
    clean, lead = text.strip(), len(text) - len(text.lstrip())
    return LineText(clean, mean if clean else 0.0, tuple(each[lead : lead + len(clean)]))


def _each(tokens: Sequence[Mapping[str, Any]], sure: Sequence[float]) -> list[float]:
    """The probability of each character; a character of several tokens has that of the last."""
    written, each = b"", list[float]()
    for token, probability in zip(tokens, sure, strict=True):
        written += bytes(token["bytes"] or b"")
        each += [round(probability, 5)] * (len(written.decode("utf-8", "ignore")) - len(each))
    return each


def _content(answer: httpx.Response) -> dict[str, Any]:
    """What a server said; an error of its own as NotReady where it may pass, else as it is."""
    if answer.is_server_error or answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.UNAUTHORIZED):
        raise NotReady(f"{answer.url} answers {answer.status_code}: {_words(answer)}")
    if answer.is_error:
        raise RedpencilError(f"{answer.url} answers {answer.status_code}: {_words(answer)}")
    try:
        content: dict[str, Any] = answer.json()
    except ValueError as error:
        raise Damaged(f"{answer.url} answers no JSON: {answer.text[:200]!r}") from error
    return content


def _words(answer: httpx.Response) -> str:
    return answer.text[:300].strip() or answer.reason_phrase
