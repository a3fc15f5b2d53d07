"""Opens and closes connections as fast as it can, and says how many succeed per second once all ports were taken."""
import errno, json, socket, time

def opened():
    connection = socket.socket()
    try:
        connection.connect(("127.0.0.1", 8095))
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

while opened():
    pass
began, done = time.monotonic(), 0
while time.monotonic() < began + 4:
    done += opened()
print(json.dumps({"per_s": done / (time.monotonic() - began)}))
