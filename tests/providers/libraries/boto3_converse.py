from collections.abc import Iterator

import boto3


def source(url: str) -> Iterator[str]:
    client = boto3.client("bedrock-runtime", endpoint_url=url)
    response = client.converse_stream(
        modelId="loopback", messages=[{"role": "user", "content": [{"text": "hello"}]}]
    )
    for event in response["stream"]:
        if "contentBlockDelta" in event:
            yield event["contentBlockDelta"]["delta"]["text"]
