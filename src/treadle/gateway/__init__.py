"""The gateway: the face of the data plane. One raw ASGI app around `serving`, started in under a second, without a database.

`app` routes and answers, `native` and `oip` translate their bodies to columns and back, `run` holds the process: sockets, workers,
the port file, signals.
"""
