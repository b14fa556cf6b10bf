"""Registers an instance, prints `ready`, and runs until it is killed."""

import sys
import threading

import libdiscover

URL, SERVICE, ADDRESS = sys.argv[1:]

with libdiscover.connect(URL) as client, client.register(SERVICE, address=ADDRESS):
    print("ready", flush=True)
    threading.Event().wait()
