"""Binds to its address before it connects, keeps a hundred connections to each of two places, and uses them."""
import json, os, socket, time

REQUEST = b"GET /page HTTP/1.1\r\nHost: there\r\nX-Trace: " + b"x" * 200 + b"\r\n\r\n"

def fetch(connection):
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"x" * 400):
        answer += connection.recv(4096)

def connected(port):
    connection = socket.socket()
    if os.environ["NO_PORT"] == "yes":
        connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    connection.bind(("127.0.0.1", 0))
    global bound
    bound += connection.getsockname()[1] != 0
    connection.connect(("127.0.0.1", port))
    return connection

began, connections, done, bound = time.monotonic(), [], 0, 0
while time.monotonic() < began + 7:
    if len(connections) < 200:
        connections.append(connected((8093, 8094)[len(connections) % 2]))
    for _ in range(5):
        fetch(connections[done % len(connections)])
        done += 1
    time.sleep(max(0, began + done * 0.002 - time.monotonic()))
print(json.dumps({"requests": done, "bound": bound}))
