"""How much memory a long answer takes: at most three times its text."""

import sys
import tracemalloc
from collections.abc import Iterator

import pytest

from flask_chatstop import GenerationTask
from flask_chatstop.generation.text import AnswerText
from tests.support.chat import AUTH, Chat

SIZE = 2_000_000

ALPHABETS = {
    "ascii": "abcdefgh",
    "latin": "äöüßéèçñ",
    "chinese": "你好世界再见朋友",
    "emoji": "abc😀defg",
    "halves": "ab\ud83d\ude00cd\ud83d\ude00",
}


@pytest.mark.slow
@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("size", [4, 1_000, 100_000, SIZE])
def test_an_answer_takes_at_most_three_times_the_memory_of_its_text(
    size: int, alphabet: str
) -> None:
    def pieces(task: GenerationTask) -> Iterator[str]:
        letters = ALPHABETS[alphabet]
        for start in range(0, SIZE, size):
            # A new string each time, as a provider's client makes it.
            part = letters[start % 8 :] + letters[: start % 8]
            yield (part * (size // 8 + 1))[:size]

    chat = Chat(pieces)
    Chat().ask().rest()  # what is imported and hooked into with the first source
    tracemalloc.start()
    try:
        response = chat.client.post(
            "/v1/chat-messages", json={"user": "alice"}, headers=AUTH, buffered=False
        )
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in response.response:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [end] = chat.ends
    assert end.reason == "finished"
    factor = (peak - before) / sys.getsizeof(end.text)
    assert factor <= 3


@pytest.mark.parametrize("size", [1, 2, 3, 1_500, 70_001])
def test_a_text_is_what_its_pieces_are_together(size: int) -> None:
    whole = "One \ud83d\ude00 \ud83d 😀 \ude00\ud83d\ude00" * 5_000
    text = AnswerText()
    for start in range(0, len(whole), size):
        text.add(whole[start : start + size])
    expected = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert str(text) == str(text) == expected


def test_half_a_pair_waits_for_the_other_half() -> None:
    text = AnswerText()
    for _ in range(3_000):
        text.add("\ud83d")
        assert str(text).endswith("\ufffd")
        text.add("\ude00")
    assert str(text) == "😀" * 3_000
