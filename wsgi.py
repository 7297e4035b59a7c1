"""Serves the reference host: ``flask --app wsgi run``, or ``gunicorn -c examples/nursecare/gunicorn.conf.py wsgi:app``."""

from examples.nursecare import create_app

app = create_app()
