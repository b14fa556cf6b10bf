"""Imports the library in a subinterpreter and uses it in the main one afterwards."""

import _xxsubinterpreters as interpreters  # type: ignore[import-not-found]

import libdiscover

client = libdiscover.connect("memory://main")
other = interpreters.create()
try:
    interpreters.run_string(other, "import libdiscover")
except interpreters.RunFailedError as error:
    print(error)
interpreters.destroy(other)
with client.register("web", port=1):
    print("the main interpreter works")
