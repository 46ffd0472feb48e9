"""The short way: what a prompt, a hook or a shell waits for, done before the rest of eventlog is loaded.

Loading msgspec, click and the recorder takes longer than all that these commands do. So this room imports the standard
library alone, and little of that: `posix`, which is built in, in place of `os`, which is made of it and takes as long
to load as all the rest. The room does nothing in a way of its own: where it is not certain to do what the full way
would, a module steps aside (it returns, and has changed nothing), and the full way does it
(docs/decisions/0040-the-short-way.md).
"""
