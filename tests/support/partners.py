"""Scripts for partners: what they do with a connection (tests/egress/servers.py runs them)."""

from tests.egress.servers import Line, Script


def answers(status: int = 200, body: bytes = b"ok", *headers: str) -> Script:
    """Answers every request on the connection alike."""
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}", *headers]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"

    def script(line: Line) -> None:
        while request := line.read_request():
            line.send(head if request.startswith(b"HEAD ") else head + body)

    return script


def answers_in_turn(*statuses: int) -> Script:
    """Answers the first request with the first status, and so on; the last one from then on."""
    left = list(statuses)

    def script(line: Line) -> None:
        while line.read_request():
            status = left.pop(0) if len(left) > 1 else left[0]
            line.send(f"HTTP/1.1 {status} Told\r\nContent-Length: 2\r\n\r\nok".encode())

    return script


def takes_and_closes(line: Line) -> None:
    """Reads the request and closes without a word: whoever sent it cannot know what was done with it."""
    line.read_request()


def closes_in_the_middle(line: Line) -> None:
    """Promises a hundred bytes and sends three."""
    line.read_request()
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")


def hangs(line: Line) -> None:
    """Reads the request and says nothing."""
    line.read_request()
    line.hang()
