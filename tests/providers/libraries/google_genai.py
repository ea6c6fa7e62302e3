from collections.abc import Iterator

from google import genai


def source(url: str) -> Iterator[str | None]:
    client = genai.Client(api_key="any", http_options={"base_url": url})
    for chunk in client.models.generate_content_stream(
        model="loopback", contents="hello"
    ):
        yield chunk.text
