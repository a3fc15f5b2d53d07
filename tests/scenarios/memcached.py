"""A page asks ten servers at once, ten times a second: over new connections, or over some that are kept."""
import json, os, socket, time

PORTS = range(11221, 11231)
KEEP = os.environ["KEEP"] == "yes"

def connect():
    return [socket.create_connection(("127.0.0.1", port)) for port in PORTS]

kept, began, pages = connect() if KEEP else [], time.monotonic(), 0
while time.monotonic() < began + 7:
    servers = kept or connect()
    for server in servers:
        server.sendall(b"get key\r\n")
    for server in servers:
        assert server.recv(100) == b"END\r\n"
    if not KEEP:
        for server in servers:
            server.close()
    pages += 1
    time.sleep(0.1)
print(json.dumps({"requests": pages * len(PORTS), "seconds": 7}))
