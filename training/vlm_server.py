"""`python -m training.vlm_server BASE`: Qwen2.5-VL for versions that are adapters, where there is no GPU.

It speaks what vLLM speaks and computes by transformers, one question after another. Set
REDPENCIL_VLM_URL to it, and gate and serving ask it. VLLM_API_KEY, as for vLLM, is the key
that it asks for; beyond loopback it needs one, since whoever may load adapters may name any folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from redpencil import ports
from redpencil.errors import BadInput, RedpencilError
from redpencil.settings import Settings, near

KEY = "VLLM_API_KEY"
GRACE_S = 1  # in which answers that are nearly there may still be given


def main() -> int:
    asked = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    try:
        serve(asked, os.environ.get(KEY, ""))
    except KeyboardInterrupt:
        return 0
    except RedpencilError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def serve(asked: argparse.Namespace, key: str) -> None:
    """Answer until a signal comes; what cannot be is said before the model is loaded."""
    if asked.host not in ports.HERE and not key:
        raise BadInput(f"host {asked.host} is beyond loopback: set {KEY}, which clients must send")
    ports.require_free(asked.host, asked.port, "--port")
    import torch
    import uvicorn

    from training import vlm_api
    from training.vlm_model import Vlm

    if asked.threads:
        torch.set_num_threads(asked.threads)
    model = Vlm(asked.base, asked.served_model_name, getattr(torch, asked.dtype))
    app = vlm_api.build(model, key, Settings().max_upload_bytes)
    place = f"{'KEY@' if key else ''}{near(asked.host)}:{asked.port}"
    print(f"{model.name} answers; REDPENCIL_VLM_URL=http://{place}/v1", flush=True)
    uvicorn.Server(
        uvicorn.Config(
            app,
            asked.host,
            asked.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
        )
    ).run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.vlm_server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", help="a folder as transformers saves Qwen2.5-VL, or its name on the hub")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8001)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=0, help="that compute; 0: as many as torch takes")
    parser.add_argument("--served-model-name", default="", help="the base's name, where BASE is a copy of it")
    return parser.parse_args()


def _port(text: str) -> int:
    if not 0 < int(text) < 2**16:
        raise ValueError(text)
    return int(text)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # an orderly end would wait for what torch computes in another thread, or abort
