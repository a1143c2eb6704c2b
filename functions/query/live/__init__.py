"""The WebSocket: who is told what (hub, outbox), in which words (protocol), over which wire (connection).

One thread follows the store for all sockets of a process; each socket has a thread of the server's, and takes
what it is to send from an outbox of bounded size. Imported where the first socket opens, but for `door`.
"""
