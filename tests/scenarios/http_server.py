"""A hundred requests a second. With HTTP/1.0, an answer ends when the server closes.

If the server answers with HTTP/1.1 and keeps the connection open, this client uses it again."""
import json, socket, time

REQUEST = b"GET /page HTTP/1.1\r\nHost: there\r\nX-Trace: " + b"x" * 200 + b"\r\n\r\n"
BODY = b"\r\n\r\n" + b"x" * 400

connection, began, done, opened = None, time.monotonic(), 0, 0
while time.monotonic() < began + 5:
    if connection is None:
        connection = socket.create_connection(("127.0.0.1", 8097))
        opened += 1
    connection.sendall(REQUEST)
    answer = b""
    while not (answer.startswith(b"HTTP/1.1") and answer.endswith(BODY)):
        part = connection.recv(4096)
        if not part:
            break
        answer += part
    assert answer.endswith(BODY), answer
    if answer.startswith(b"HTTP/1.0"):
        connection.close()
        connection = None
    done += 1
    time.sleep(max(0, began + done * 0.01 - time.monotonic()))
print(json.dumps({"requests": done, "opened": opened, "seconds": 5}))
