"""``python -m flask_chatstop`` is ``flask chatstop``, for instance ``new-key``."""

import sys

from flask.cli import FlaskGroup

from flask_chatstop.cli import commands

flask = FlaskGroup(name="flask")
flask.add_command(commands)

if __name__ == "__main__":
    flask.main(args=["chatstop", *sys.argv[1:]], prog_name="flask")
