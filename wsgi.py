"""Serves the reference host, for example with ``flask --app wsgi run``; `script/demo` does it with gunicorn."""

from examples.nursecare import create_app

app = create_app()
