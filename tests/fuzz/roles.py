"""The people and tasks of a fuzzed app, and the words that stand for its tasks."""

import re
from dataclasses import dataclass

PREFIX = "/v1/chat-messages/"
#: Keys and the names of the apps behind them.
KEYS = {"demo-key": "demo", "0ther.key~1=": "other"}
USERS = ("alice", "Alice", "b\u00f6b")


@dataclass(frozen=True, slots=True)
class Role:
    """A place that a task has, and that another one takes when it was stopped."""

    number: int
    app: str
    user: str
    is_over: bool = False

    @property
    def word(self) -> bytes:
        """What stands for its task's id in a request, and is as long."""
        return self.task_id(0).encode()

    def task_id(self, generation: int) -> str:
        return f"task-{self.number:02}-{generation:08x}"

    def generation_of(self, task_id: str) -> int:
        """Give the generation that an id of this role names, 0 if it is none."""
        match = re.fullmatch(rf"task-{self.number:02}-([0-9a-f]{{8}})", task_id)
        return int(match[1], 16) if match else 0


def roles() -> list[Role]:
    """Give a running task to each user of each app, and to each app one that is over.

    Generation 0 of a role is a word only, and never the id of a task.
    """
    owners = [(app, user) for app in KEYS.values() for user in USERS]
    running = [Role(number, *owner) for number, owner in enumerate(owners)]
    over = [
        Role(len(running) + n, app, USERS[0], True)
        for n, app in enumerate(KEYS.values())
    ]
    return running + over
