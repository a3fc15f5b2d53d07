"""Connects ten times a second; with FIXED set to "yes", always from one port. Prints how many connects fail."""
import errno, json, os, random, socket, time

failed, began = 0, time.monotonic()
while time.monotonic() < began + 7:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if os.environ["FIXED"] == "yes":
        client.bind(("127.0.0.1", 5555))
    try:
        client.connect(("127.0.0.1", 8091))
        client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"x" * 400):
            answer += client.recv(4096)
    except OSError as error:
        assert error.errno == errno.EADDRNOTAVAIL, error
        failed += 1
    client.close()
    # A client that is served has nothing to hurry for.
    time.sleep(0.1 if os.environ["FIXED"] == "yes" else random.uniform(0.5, 2))
print(json.dumps({"failures_per_s": failed / 7}))
