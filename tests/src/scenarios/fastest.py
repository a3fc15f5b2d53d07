"""Opens and closes connections as fast as it can, and says how many succeed per second in the long run.

All 500 ports are taken in a moment, and in a moment again when they are given back. So it counts whole rounds, from the
middle of one to the middle of another: at their edges, one port more or less would be a second more or less. (A late RST
of the other end does that to one connection of some thousands: it ends the timewait socket at once, RFC 1337.)"""
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

ROUND, ROUNDS = 500, 4
began, done = None, 0
while done < ROUND // 2 + ROUNDS * ROUND:
    done += opened()
    if began is None and done == ROUND // 2:
        began = time.monotonic()
print(json.dumps({"per_s": ROUNDS * ROUND / (time.monotonic() - began)}))
