"""A client of a server that closes after each answer. If CLOSE is "no", the client never closes its own end."""
import errno, json, os, random, socket, time

kept, failed, began = [], 0, time.monotonic()
while time.monotonic() < began + 7:
    try:
        client = socket.create_connection(("127.0.0.1", 8096))
        client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        while client.recv(4096):
            pass
        if os.environ["CLOSE"] == "yes":
            client.close()
            # A client that closes has nothing to hurry for.
            time.sleep(random.uniform(0.3, 1.7))
        else:
            kept.append(client)
    except OSError as error:
        assert error.errno == errno.EADDRNOTAVAIL, error
        failed += 1
        time.sleep(0.2)
    time.sleep(0.01)
print(json.dumps({"close_wait": len(kept), "failures_per_s": failed / 7}), flush=True)
# It is killed: at its end all its connections are closed.
time.sleep(60)
