"""How one record of a log of answers is added, and who follows the log is rung."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Executable

from flask_chatstop.backends.database.news import News


class Added(Enum):
    """What :meth:`Adding.execute` has done."""

    NOTHING = "nothing"
    #: Who follows the log is yet to be rung.
    TO_RING = "to ring"
    AND_RUNG = "and rung"


class Adding:
    """An INSERT of one record; dialects let the ring follow it in the same flight.

    :param insertion: has the parameters ``b_log_id``, ``b_number`` and ``b_data``.
    """

    def __init__(self, insertion: Executable) -> None:
        self._insertion = insertion

    def execute(
        self, connection: Connection, values: Mapping[str, Any], news: News
    ) -> Added:
        """Add a record.

        :param news: for whoever follows its log.
        """
        is_added = connection.execute(self._insertion, values).rowcount == 1
        return Added.TO_RING if is_added else Added.NOTHING
