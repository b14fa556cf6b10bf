"""Prints what the library logs when a store cannot be reached; nothing if logging is not configured."""

import logging
import sys

import libdiscover

(WANTED,) = sys.argv[1:]

if WANTED == "shown":
    logging.basicConfig(format="%(name)s %(levelname)s %(message)s", stream=sys.stdout)

with libdiscover.connect("etcd://127.0.0.1:1?lazy=true") as client:
    for event in client.services("web").watch():
        if event.kind == "stale":
            break
