"""Waits in one of the ways there are, and says how long Ctrl-C took to end it."""

import signal
import sys
import time

import libdiscover

# A shell starts what it starts in the background with Ctrl-C ignored, and Python heeds that.
signal.signal(signal.SIGINT, signal.default_int_handler)

WAY, NOBODY = sys.argv[1:]

client = libdiscover.connect("memory://interrupted")
web = client.services("web")
# The current state has been told already, so that nothing more comes.
watch = web.watch()
next(watch)

print("waiting", flush=True)
try:
    if WAY == "connect":
        libdiscover.connect(NOBODY)
    elif WAY == "wait":
        web.wait(9, timeout=60)
    else:
        next(watch)
except KeyboardInterrupt:
    print(time.time(), flush=True)
client.close()
