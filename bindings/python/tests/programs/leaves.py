"""Registers an instance, and exits without closing the client when its input ends."""

import sys

import libdiscover

URL, ADDRESS = sys.argv[1:]

lease = libdiscover.connect(URL).register("web", address=ADDRESS)
print("ready", flush=True)
sys.stdin.readline()
