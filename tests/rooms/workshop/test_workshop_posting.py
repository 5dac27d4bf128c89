"""One POST to an address of somebody else's choice, over sockets: TLS, answers that are none, answers that never end."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from treadle.client import posting


@contextlib.contextmanager
def answering(*pieces, pause=0.0, context=None):
    """A server that reads a request and sends these bytes."""
    got = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                line, _ = listener.accept()
                with contextlib.closing(context.wrap_socket(line, server_side=True) if context else line) as line:
                    got.append(line.recv(65536))
                    for piece in pieces:
                        line.sendall(piece)
                        time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], got
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_what_is_sent_and_read():
    with answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 ", b"202 Fine\r\n\r\nthanks") as (port, got):
        assert posting.post(f"http://127.0.0.1:{port}/a b/ü?q=ö", b"{}", {"X-A": "b"}, inside=True) == 202
    head, _, body = got[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /a%20b/%C3%BC?q=%C3%B6 HTTP/1.1"
    assert {b"X-A: b", b"Content-Length: 2", b"Connection: close", f"Host: 127.0.0.1:{port}".encode()} <= set(head.split(b"\r\n"))
    assert body == b"{}"


@pytest.mark.parametrize("pieces", [(b"SSH-2.0\r\n\r\n",), (), (b"HTTP/1.1 100 Continue\r\n\r\n",), (b"HTTP/1.1 2",)])
def test_what_is_no_answer(pieces):
    with answering(*pieces) as (port, _), pytest.raises(posting.NotSentError):
        posting.post(f"http://127.0.0.1:{port}", b"", {}, inside=True)


def test_one_deadline_for_everything():
    began = time.monotonic()
    with answering(*[b"x"] * 12, pause=0.1) as (port, _), pytest.raises(posting.NotSentError, match=r"0\.4 seconds"):
        posting.post(f"http://127.0.0.1:{port}", b"", {}, inside=True, seconds=0.4)
    assert time.monotonic() - began < 5


def test_inner_addresses_and_line_breaks():
    for host in ("127.0.0.1", "[::1]", "169.254.169.254", "10.1.2.3", "[::ffff:10.0.0.1]", "0.0.0.0", "224.0.0.1", "100.64.0.1"):
        with pytest.raises(posting.NotSentError, match="public"):
            posting.post(f"http://{host}/", b"", {})
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (port, _), pytest.raises(posting.NotSentError, match="line break"):
        posting.post(f"http://127.0.0.1:{port}", b"", {"X": "a\r\nY: b"}, inside=True)


def test_certificates_are_checked(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([*made, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", context=context) as (port, _), pytest.raises(posting.NotSentError, match="verify failed"):
        posting.post(f"https://localhost:{port}", b"", {}, inside=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", context=context) as (port, _):
        assert posting.post(f"https://localhost:{port}", b"hello", {}, inside=True) == 200
