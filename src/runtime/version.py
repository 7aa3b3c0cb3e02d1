"""The version of what is running."""

VERSION = "0.1.0"
