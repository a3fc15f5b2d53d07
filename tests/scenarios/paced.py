"""Requests that come when they come: so many at once, so often. Each takes HOLD seconds. Prints what came of them."""
import errno, json, os, socket, threading, time

AT_ONCE, EVERY, TIMES = int(os.environ["AT_ONCE"]), float(os.environ["EVERY"]), int(os.environ["TIMES"])
HOLD = float(os.environ.get("HOLD", "0"))
# How many idle connections are kept, how many requests each carries, how many are open at a time.
POOL, REQUESTS, LIMIT = (int(os.environ.get(name, "0")) for name in ("POOL", "REQUESTS", "LIMIT"))
ADDRESSES = int(os.environ.get("ADDRESSES", "1"))
ALL = AT_ONCE * TIMES
SERVER = ("127.0.0.1", 9100)

lock = threading.Lock()
idle, carried = [], {}
opened, failed, first_failed = 0, 0, None
gate = threading.Semaphore(LIMIT or ALL)

def serve(connection):
    while connection.recv(16):
        time.sleep(HOLD)
        connection.sendall(b"answer")
    connection.close()

def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

def connect():
    global opened
    connection = socket.socket()
    if ADDRESSES > 1:
        connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        with lock:
            number = opened % ADDRESSES
        connection.bind((f"127.0.0.{number + 1}", 0))
    connection.connect(SERVER)
    with lock:
        opened += 1
        carried[connection] = 0
    return connection

def ask():
    global failed, first_failed
    with gate:
        with lock:
            connection = idle.pop() if idle else None
        try:
            connection = connection or connect()
        except OSError as error:
            assert error.errno == errno.EADDRNOTAVAIL, error
            with lock:
                failed += 1
                first_failed = first_failed or time.monotonic() - began
            return
        connection.sendall(b"ask")
        assert connection.recv(16)
        with lock:
            carried[connection] += 1
            keeps = POOL or REQUESTS
            if keeps and len(idle) < (POOL or ALL) and carried[connection] < (REQUESTS or ALL + 1):
                idle.append(connection)
                return
        connection.close()

def time_waits():
    with open("/proc/thread-self/net/sockstat") as sockstat:
        return next(int(line.split()[6]) for line in sockstat if line.startswith("TCP:"))

listener = socket.create_server(("0.0.0.0", 9100), backlog=1024)
threading.Thread(target=accept, daemon=True).start()
began, peak = time.monotonic(), 0
for number in range(TIMES):
    time.sleep(max(0, began + number * EVERY - time.monotonic()))
    threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peak = max(peak, time_waits())
time.sleep(0.1)
print(json.dumps({
    "opened": opened, "failed": failed, "first_failed": first_failed, "time_wait_peak": max(peak, time_waits()),
}), flush=True)
os._exit(0)
