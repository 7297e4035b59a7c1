"""gunicorn for the reference host: greenlets carry the streams."""

worker_class = "gevent"
workers = 1
graceful_timeout = 3  # an open stream would hold the stop for the default 30 s

control_socket_disable = True  # its default place is one for all of a user's servers
