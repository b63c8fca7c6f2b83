"""Fixtures of which the whole session has one."""
from server import smol_server  # noqa: F401
