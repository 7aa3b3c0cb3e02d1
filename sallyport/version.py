"""The version of this package, which is the server's: they are released together."""

VERSION = "0.1.0"
