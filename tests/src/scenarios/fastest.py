"""Opens and closes connections as fast as it can, and prints how many succeed per second in the long run.

A round takes all 500 ports within a moment, and the next round begins when they are free again. So the time is taken
from the middle of one round to the middle of another: at the edge of a round, one port more or less would change it by
a second. (One of some thousands of ports is free early: a late RST of the other end ends its TIME_WAIT socket at once,
RFC 1337.)"""
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
    # This side closes first, so it has the TIME_WAIT socket; the server's FIN ends the substate FIN_WAIT2.
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
