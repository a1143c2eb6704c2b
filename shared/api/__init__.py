"""The HTTP API, declared once: every route of every function, its parameters, its answer, what it is for.

From these declarations come the routing and the validation (shared/http/), the OpenAPI document and the
documentation. A function binds handlers to its declarations; nothing here answers anything.
"""
