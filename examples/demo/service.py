"""Service of the demo in Python: `service.py PORT`.

The line "update" on standard input changes an attribute. The end of standard input ends the service.
"""

import sys

import libdiscover

with libdiscover.connect() as client:
    port = int(sys.argv[1])
    with client.register("shop", port=port, attributes={"language": "Python"}) as lease:
        for line in sys.stdin:
            if line == "update\n":
                lease.update({"language": "Python", "version": "2"})
