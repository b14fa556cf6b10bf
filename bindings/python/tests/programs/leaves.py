"""Registers, and leaves without a word when told to."""

import sys

import libdiscover

URL, ADDRESS = sys.argv[1:]

lease = libdiscover.connect(URL).register("web", address=ADDRESS)
print("ready", flush=True)
sys.stdin.readline()
