"""Finds the public root certificates: libcurl's own default is the path on the machine that built its wheel."""

import sys
from pathlib import Path

from runtime.settings import SettingsError

# The first that exists is taken. pycurl's Linux wheels are built on a Red Hat descendant and look only at its path.
CA_BUNDLES = (
    "/etc/pki/tls/certs/ca-bundle.crt",  # Amazon Linux 2023 (and so Lambda), Fedora, Red Hat
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, FreeBSD, Alpine
)


def ca_bundle(configured: str = "") -> str:
    """The path of a PEM file of trusted roots: `configured`, or else the system's.

    Raises SettingsError that names CA_BUNDLE when `configured` is not a file, or when the system has none in the usual
    places.
    """
    if configured:
        if not Path(configured).is_file():
            raise SettingsError(f"CA_BUNDLE must be a file of PEM certificates, '{configured}' is not")
        return configured
    for path in CA_BUNDLES:
        if Path(path).is_file():
            return path
    raise SettingsError(f"CA_BUNDLE must be set: {sys.platform} has no root certificates at {', '.join(CA_BUNDLES)}")
