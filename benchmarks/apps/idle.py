"""The process that ``idle`` measures: it begins and ends tasks as it is told.

Between two lines of its standard input nothing of it runs but this package.
"""

import sys
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event

from flask_chatstop import ChatStop, EndReason, GenerationTask

chatstop = ChatStop()
statements: list[None] = []


def count_statements(connection: Any, record: object) -> None:
    """Count what is sent to a SQLite file, whoever sends it."""
    if hasattr(connection, "set_trace_callback"):
        connection.set_trace_callback(lambda statement: statements.append(None))


def main() -> None:
    """Obey the lines: ``begin NUMBER``, ``end``, and ``statements``."""
    app = Flask(__name__)
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "demo"}
    app.config["CHATSTOP_BACKEND"] = sys.argv[1]
    app.register_blueprint(chatstop)
    event.listen(Engine, "connect", count_statements)
    held: list[GenerationTask] = []

    @app.post("/chat")
    @chatstop.login_required
    def chat() -> str:
        held.append(chatstop.start(user="alice"))
        return "begun"

    client = app.test_client()
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "begin":
            for _ in range(int(numbers[0])):
                client.post("/chat", headers={"Authorization": "Bearer demo-key"})
        elif command == "end":
            while held:
                held.pop().end(EndReason.FINISHED)
        print(len(statements), flush=True)


if __name__ == "__main__":
    main()
