"""The composition root: configuration, start and stop, health, metrics, commands.

Here the parts are put together and nowhere else, so every other package can be
handed what it needs. Nothing imports this package.
"""
