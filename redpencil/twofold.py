"""Two readers in one bundle: one that learned from corrections, for images like these, and the one before.

So a team that changes its words for some things loses nothing elsewhere.
"""

from __future__ import annotations

from redpencil.generate import TextReader
from redpencil.pixels import Pixels
from redpencil.session import OnnxReader
from redpencil.types import LineText, Precision


class TwofoldReader(OnnxReader):
    """Writes the text of images; thread-safe. `manifest` and `precision` are of what corrections taught.

    The graph "familiar" maps what it names of the "memory.*" of the reader before to "like" bool [B].
    """

    def open(self) -> None:
        before, familiar = self.manifest.before, self.manifest.familiar
        assert before is not None  # as Manifest.load has checked
        assert familiar is not None
        how = self.device, self.threads
        self.taught = TextReader(self.folder, self.precision, *how, self.manifest, self.cores)
        same = self.precision if self.precision in before.graphs else Precision.FP32
        self.before = TextReader(self.folder, same, *how, before, self.cores)
        self._familiar = self.session(familiar)
        self._compared = [i.name for i in self._familiar.get_inputs()]

    def read(self, line: Pixels) -> LineText:
        """The text of one image (H x W x 3, uint8 RGB)."""
        memory = self.before.look(self.before.tensor(line)[None])
        (like,) = self._familiar.run(["like"], {name: memory[name] for name in self._compared})
        if like[0]:
            return self.taught.read(line)
        return self.before.text(*self.before.go_on(memory))

    def warm(self) -> None:
        self.before.warm()
        self.taught.warm()
