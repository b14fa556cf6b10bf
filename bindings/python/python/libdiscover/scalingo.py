"""The view of services that Scalingo's etcd-discovery has: hosts with URLs, ports by scheme, and credentials.

    from libdiscover import scalingo

    api = scalingo.Service.from_set(client.services("api"))
    print(api.url("https", "/status"))

It works with instances in any layout; with `layout=scalingo` in the URL, the instances are shared with programs that
use etcd-discovery itself.
"""

from libdiscover._native import Host, Service

__all__ = ["Host", "Service"]
