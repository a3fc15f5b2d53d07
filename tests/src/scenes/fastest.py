"""Opens and closes connections as fast as it can, and says how many succeed per second in the long run.

All ports are taken in a moment, and in a moment again when they are given back: so it counts whole rounds of 500, from
the first of one to the first of another."""
import errno, json, socket, threading, time

def serve(listener):
    while True:
        connection = listener.accept()[0]
        connection.recv(1)
        connection.close()

listener = socket.create_server(("127.0.0.1", 8096), backlog=512)
threading.Thread(target=serve, args=(listener,), daemon=True).start()

def opened():
    connection = socket.socket()
    try:
        connection.connect(("127.0.0.1", 8096))
    except OSError as error:
        assert error.errno == errno.EADDRNOTAVAIL, error
        connection.close()
        time.sleep(0.001)
        return False
    # Whoever closes first has the timewait socket; the server's FIN ends its FIN_WAIT2.
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""
    connection.close()
    return True

began, done = time.monotonic(), 0
while done < 2001:
    done += opened()
print(json.dumps({"per_s": 2000 / (time.monotonic() - began)}))
