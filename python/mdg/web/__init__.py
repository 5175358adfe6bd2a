"""The HTTP doors: parse, call a story of `exchange`, render. The only room that knows ASGI.

`edge` wraps every request of a listener, `authentication` every route that is not public, `bulk` sends envelopes. A
door holds no policy: an `if` about who may see what belongs in `access`.
"""
