"""Serving: from a bundle to answers, and every answer in a log that outlives the process. No database anywhere.

`segments` and `snapshots` are the two files formats that other rooms read: the prediction log and what a gateway is to serve.
`service` holds the verbs (load a generation, predict); the gateway speaks HTTP around it.
"""
