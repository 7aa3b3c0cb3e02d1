"""The keys, messages and signatures of RFC 9421 that a client makes: appendix B.2 but for B.2.4, which is a response's,
and the requests of B.3 and B.4. The keys are published: they protect nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from domain.outcomes import Headers
from domain.signing import DigestAlgorithm, MessageAlgorithm, MessageSignatures

CREATED_AT = datetime.fromtimestamp(1618884473, tz=UTC)

TEST_KEY_RSA_PSS = """\
-----BEGIN PRIVATE KEY-----
MIIEvgIBADALBgkqhkiG9w0BAQoEggSqMIIEpgIBAAKCAQEAr4tmm3r20Wd/Pbqv
P1s2+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry5
3mm+oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7Oyr
FAHqgDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUA
AN5WUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw
9lq4aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oy
c6XI2wIDAQABAoIBAQCUB8ip+kJiiZVKF8AqfB/aUP0jTAqOQewK1kKJ/iQCXBCq
pbo360gvdt05H5VZ/RDVkEgO2k73VSsbulqezKs8RFs2tEmU+JgTI9MeQJPWcP6X
aKy6LIYs0E2cWgp8GADgoBs8llBq0UhX0KffglIeek3n7Z6Gt4YFge2TAcW2WbN4
XfK7lupFyo6HHyWRiYHMMARQXLJeOSdTn5aMBP0PO4bQyk5ORxTUSeOciPJUFktQ
HkvGbym7KryEfwH8Tks0L7WhzyP60PL3xS9FNOJi9m+zztwYIXGDQuKM2GDsITeD
2mI2oHoPMyAD0wdI7BwSVW18p1h+jgfc4dlexKYRAoGBAOVfuiEiOchGghV5vn5N
RDNscAFnpHj1QgMr6/UG05RTgmcLfVsI1I4bSkbrIuVKviGGf7atlkROALOG/xRx
DLadgBEeNyHL5lz6ihQaFJLVQ0u3U4SB67J0YtVO3R6lXcIjBDHuY8SjYJ7Ci6Z6
vuDcoaEujnlrtUhaMxvSfcUJAoGBAMPsCHXte1uWNAqYad2WdLjPDlKtQJK1diCm
rqmB2g8QE99hDOHItjDBEdpyFBKOIP+NpVtM2KLhRajjcL9Ph8jrID6XUqikQuVi
4J9FV2m42jXMuioTT13idAILanYg8D3idvy/3isDVkON0X3UAVKrgMEne0hJpkPL
FYqgetvDAoGBAKLQ6JZMbSe0pPIJkSamQhsehgL5Rs51iX4m1z7+sYFAJfhvN3Q/
OGIHDRp6HjMUcxHpHw7U+S1TETxePwKLnLKj6hw8jnX2/nZRgWHzgVcY+sPsReRx
NJVf+Cfh6yOtznfX00p+JWOXdSY8glSSHJwRAMog+hFGW1AYdt7w80XBAoGBAImR
NUugqapgaEA8TrFxkJmngXYaAqpA0iYRA7kv3S4QavPBUGtFJHBNULzitydkNtVZ
3w6hgce0h9YThTo/nKc+OZDZbgfN9s7cQ75x0PQCAO4fx2P91Q+mDzDUVTeG30mE
t2m3S0dGe47JiJxifV9P3wNBNrZGSIF3mrORBVNDAoGBAI0QKn2Iv7Sgo4T/XjND
dl2kZTXqGAk8dOhpUiw/HdM3OGWbhHj2NdCzBliOmPyQtAr770GITWvbAI+IRYyF
S7Fnk6ZVVVHsxjtaHy1uJGFlaZzKR4AGNaUTOJMs6NadzCmGPAxNQQOCqoUjn4XR
rOjr9w349JooGXhOxbu8nOxX
-----END PRIVATE KEY-----
"""

TEST_KEY_ECC_P256 = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIFKbhfNZfpDsW43+0+JjUr9K+bTeuxopu653+hBaXGA7oAoGCCqGSM49
AwEHoUQDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM
4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END EC PRIVATE KEY-----
"""

TEST_KEY_ED25519 = """\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""

TEST_SHARED_SECRET = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="

CLIENT_CERT = (
    ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgN"
    "VBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAM"
    "MAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3"
    "YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEY"
    "CuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmR"
    "jQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiE"
    "Ax/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:"
)

TEST_REQUEST: Headers = (
    ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
    ("Content-Type", "application/json"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A request, how it is signed, and what the RFC says the two headers must be. `repeats`: signing it again gives the
    same signature."""

    section: str
    url: str
    form: MessageSignatures
    key_id: str
    signature_input: str
    signature: str
    method: str = "POST"
    headers: Headers = TEST_REQUEST
    body: bytes = b'{"hello": "world"}'
    nonce: str | None = None
    repeats: bool = False


VECTORS = (
    Vector(
        section="B.2.1",
        url="https://example.com/foo?param=Value&Pet=dog",
        form=MessageSignatures(algorithm=MessageAlgorithm.RSA_PSS_SHA512, components=(), nonce=True, label="sig-b21"),
        key_id="test-key-rsa-pss",
        signature_input=('();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"'),
        signature=(
            "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it+"
            "+wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2"
            "cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvt"
            "l6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bL"
            "hdxO5Nyt8C8ssinQ98Xw9Q=="
        ),
        nonce="b3k2pp5k7z-50gnwp.yemd",
    ),
    Vector(
        section="B.2.2",
        url="https://example.com/foo?param=Value&Pet=dog",
        form=MessageSignatures(
            algorithm=MessageAlgorithm.RSA_PSS_SHA512,
            components=(
                "@authority",
                "content-digest",
                '@query-param;name="Pet"',
            ),
            tag="header-example",
            digest=DigestAlgorithm.SHA512,
            label="sig-b22",
        ),
        key_id="test-key-rsa-pss",
        signature_input=(
            '("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;key'
            'id="test-key-rsa-pss";tag="header-example"'
        ),
        signature=(
            "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDf"
            "KtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TR"
            "JQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiK"
            "Yd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUE"
            "b0rQl3/XaVe4bXTugEjHSw=="
        ),
    ),
    Vector(
        section="B.2.3",
        url="https://example.com/foo?param=Value&Pet=dog",
        form=MessageSignatures(
            algorithm=MessageAlgorithm.RSA_PSS_SHA512,
            components=(
                "date",
                "@method",
                "@path",
                "@query",
                "@authority",
                "content-type",
                "content-digest",
                "content-length",
            ),
            digest=DigestAlgorithm.SHA512,
            label="sig-b23",
        ),
        key_id="test-key-rsa-pss",
        signature_input=(
            '("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" '
            '"content-length");created=1618884473;keyid="test-key-rsa-pss"'
        ),
        signature=(
            "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeG"
            "t683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/y"
            "PViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldml"
            "u9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAF"
            "L2FUo5fTIztsDZKEgM4cUA=="
        ),
    ),
    Vector(
        section="B.2.5",
        url="https://example.com/foo?param=Value&Pet=dog",
        form=MessageSignatures(
            algorithm=MessageAlgorithm.HMAC_SHA256,
            components=(
                "date",
                "@authority",
                "content-type",
            ),
            label="sig-b25",
        ),
        key_id="test-shared-secret",
        signature_input=('("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'),
        signature=("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="),
        repeats=True,
    ),
    Vector(
        section="B.2.6",
        url="https://example.com/foo?param=Value&Pet=dog",
        form=MessageSignatures(
            algorithm=MessageAlgorithm.ED25519,
            components=(
                "date",
                "@method",
                "@path",
                "@authority",
                "content-type",
                "content-length",
            ),
            label="sig-b26",
        ),
        key_id="test-key-ed25519",
        signature_input=(
            '("date" "@method" "@path" "@authority" "content-type" "content-length");created='
            '1618884473;keyid="test-key-ed25519"'
        ),
        signature=("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="),
        repeats=True,
    ),
    Vector(
        section="B.3",
        url="https://service.internal.example/foo?param=Value&Pet=dog",
        form=MessageSignatures(
            algorithm=MessageAlgorithm.ECDSA_P256_SHA256,
            components=(
                "@path",
                "@query",
                "@method",
                "@authority",
                "client-cert",
            ),
            label="ttrp",
        ),
        key_id="test-key-ecc-p256",
        signature_input=(
            '("@path" "@query" "@method" "@authority" "client-cert");created=1618884473;keyid="test-key-ecc-p256"'
        ),
        signature=("xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw=="),
        headers=(*TEST_REQUEST, ("Client-Cert", CLIENT_CERT)),
    ),
    Vector(
        section="B.4",
        url="https://example.org/demo?name1=Value1&Name2=value2",
        form=MessageSignatures(
            algorithm=MessageAlgorithm.ED25519,
            components=(
                "@method",
                "@path",
                "@authority",
                "accept",
            ),
            label="transform",
        ),
        key_id="test-key-ed25519",
        signature_input=('("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519"'),
        signature=("ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA=="),
        method="GET",
        body=b"",
        repeats=True,
        headers=(("Date", "Fri, 15 Jul 2022 14:24:55 GMT"), ("Accept", "application/json"), ("Accept", "*/*")),
    ),
)
