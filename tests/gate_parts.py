"""Line scores made by hand, and what the gate says of them. Import it by `import gate_parts`."""

from redpencil.gate import Latency, LineScore, judge
from redpencil.measure import WER

FAST = Latency(int8=(10.0, 11.0), fp32=(20.0, 21.0), champion=(10.0, 10.5))


def line(name, champion, candidate, *, fp32=None, chars=40, group=""):
    return LineScore(name, chars, candidate, candidate if fp32 is None else fp32, champion, group)


def some(number, champion, candidate, name="line", **rest):
    """Lines that all change alike."""
    return [line(f"{name}-{n}", champion, candidate, **rest) for n in range(number)]


def golden(champion=0, candidate=0, **rest):
    return some(100, champion, candidate, "golden", **rest)


def verdict(holdout=None, trained=None, base=None, latency=FAST, **more):
    return judge(
        holdout=some(20, 4, 1, "unseen") if holdout is None else holdout,
        trained=some(80, 4, 0, "seen") if trained is None else trained,
        golden=golden() if base is None else base,
        latency=latency,
        candidate="3",
        champion="2",
        judged_at=1.5,
        **more,
    )


def image_verdict(holdout=None, trained=None, base=None, **given):
    return judge(
        holdout=some(20, 4, 1, "unseen", chars=10) if holdout is None else holdout,
        trained=some(30, 4, 0, "new", chars=10) if trained is None else trained,
        golden=some(60, 2, 2, "old", chars=10) if base is None else base,
        latency=FAST,
        measure=WER,
        **given,
    )


def reason(judged, word):
    return next(reason for reason in judged.reasons if word in reason)
