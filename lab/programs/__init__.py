"""The real programs of the lab: PostgreSQL, the functions' handlers, AWS's APIs, a name server and third parties.

Each runs in the namespace of the interface or host that it belongs to; servers written in Python run as threads of the
lab's process, on sockets that were made in their namespace. Control goes over pipes and Unix sockets, never by packets.
"""
