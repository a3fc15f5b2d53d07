"""A server tries to bind a port that another one listens on; with OTHER set to "yes", a port of its own."""
import errno, json, os, socket, time

failed, began = 0, time.monotonic()
while time.monotonic() < began + 7:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("0.0.0.0", 8094 if os.environ["OTHER"] == "yes" else 8093))
    except OSError as error:
        assert error.errno == errno.EADDRINUSE, error
        failed += 1
    time.sleep(0.2)
    server.close()
print(json.dumps({"failures_per_s": failed / 7}))
