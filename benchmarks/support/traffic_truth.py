"""Whether what clients and the app were told of each stream of ``traffic`` agrees."""

import statistics
from collections import Counter
from collections.abc import Sequence

from benchmarks.support.report import Figure, at_most
from benchmarks.support.traffic_load import Stream

#: Seconds by which a natural end and a stop may cross each other on their ways.
CROSSING = 0.05
#: By task, the reasons that its ``on_end`` was called with.
Noted = dict[str, list[str]]


def truth(streams: Sequence[Stream], noted: Noted) -> list[Figure]:
    """Count what became of the streams and their stops, and what contradicts it."""
    broken = [stream for stream in streams if _is_broken(stream)]
    untold = [stream for stream in streams if not _is_told(stream, noted)]
    false = [stream for stream in streams if _is_contradiction(stream)]
    return [
        Figure(what="streams finished, stopped, left", ours=_ends(streams)),
        Figure(
            what="streams cut, failed or refused",
            ours=f"{len(broken)}",
            **at_most(len(broken), 0),
        ),
        Figure(
            what="ends told never, twice, or otherwise than to `on_end`",
            ours=f"{len(untold)}",
            **at_most(len(untold), 0),
        ),
        Figure(what="stops by their answer", ours=_answers(streams)),
        Figure(
            what="stops answered with success whose stream went on",
            ours=f"{len(false)}",
            **at_most(len(false), 0),
        ),
        Figure(
            what="stops answered `stopping` that crossed the natural end",
            ours=f"{sum(_is_crossed(stream) for stream in streams)}",
        ),
        _until_the_end(streams),
    ]


def while_full(streams: Sequence[Stream], full: Sequence[float]) -> list[Figure]:
    """Count what became of the streams that began while the store was full.

    :param full: when it became full, and when it had room again.
    """
    began, ended = full
    inside = [x for x in streams if began < x.begun_at and x.ended_at < ended]
    stops = [stream for stream in inside if stream.fate == "stop"]
    missing = sum(stream.stop[0] == 404 for stream in stops)
    return [
        Figure(
            what="streams while Redis was full",
            ours=f"{len(inside):,}",
            beside=f"stops {_answers(stops)}",
        ),
        Figure(
            what="their stops answered 404",
            ours=f"{missing}",
            **at_most(missing, 0),
        ),
    ]


def _is_broken(stream: Stream) -> bool:
    is_left = stream.fate == "leave" and stream.task_id
    return bool(stream.problem) or not (is_left or stream.is_whole)


def _is_told(stream: Stream, noted: Noted) -> bool:
    reasons = noted.get(stream.task_id, [])
    if not stream.is_whole:
        return len(reasons) == (1 if stream.task_id else 0)
    wanted = {"finished", "stopped"} if stream.fate == "stop" else {"finished"}
    return reasons == stream.ends and len(reasons) == 1 and reasons[0] in wanted


def _is_contradiction(stream: Stream) -> bool:
    went_on = stream.ends == ["finished"]
    status, outcome = stream.stop
    return status == 200 and (
        (outcome in ("stopped", "stopping") and went_on and not _is_crossed(stream))
        or (outcome == "ended" and not went_on)
    )


def _is_crossed(stream: Stream) -> bool:
    return (
        stream.stop == (200, "stopping")
        and stream.ends == ["finished"]
        and stream.ended_at <= stream.stopped_at + CROSSING
    )


def _ends(streams: Sequence[Stream]) -> str:
    found = Counter(reason for stream in streams for reason in stream.ends)
    left = sum(stream.fate == "leave" for stream in streams)
    return f"{found['finished']:,}, {found['stopped']:,}, {left:,}"


def _answers(streams: Sequence[Stream]) -> str:
    found = Counter(stream.stop for stream in streams if stream.fate == "stop")
    return ", ".join(
        f"{number:,} {outcome}" if status == 200 else f"{number:,} {status}"
        for (status, outcome), number in sorted(found.items())
    )


def _until_the_end(streams: Sequence[Stream]) -> Figure:
    times = sorted(
        1000 * (stream.ended_at - stream.stop_sent_at)
        for stream in streams
        if stream.stop == (200, "stopping") and stream.ends == ["stopped"]
    )
    if not times:
        return Figure(what="from a stop to its stream's end", ours="none was stopped")
    p99 = times[int(0.99 * len(times))]
    return Figure(
        what="from a stop to its stream's end",
        ours=f"{statistics.median(times):.1f} ms",
        beside=f"p99 {p99:.0f} ms, longest {times[-1]:.0f} ms",
    )
