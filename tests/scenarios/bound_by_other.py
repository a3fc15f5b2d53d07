"""A process binds the ports of all its connections, to four destinations; another one then connects to a fifth. With NO_PORT
set to "yes", the first one leaves the choice of the port to connect(2)."""
import errno, json, os, socket, time

IP_BIND_ADDRESS_NO_PORT = 24
no_port = os.environ["NO_PORT"] == "yes"
kept = []
for number in range(200):
    client = socket.socket()
    if no_port:
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind(("127.0.0.1", 0))
    client.connect(("127.0.0.1", 8091 + number % 4))
    kept.append(client)
if os.fork() == 0:
    for client in kept:
        client.close()
    open("/proc/self/comm", "w").write("victim")
    connection, failed, began = None, 0, time.monotonic()
    while time.monotonic() < began + 7:
        try:
            connection = connection or socket.create_connection(("127.0.0.1", 8095))
        except OSError as error:
            assert error.errno == errno.EADDRNOTAVAIL, error
            failed += 1
        time.sleep(0.1)
    print(json.dumps({"failures_per_s": failed / 7, "bound": 0 if no_port else 200}), flush=True)
    os._exit(0)
os.wait()
# It is killed: what its end closes is no finding.
time.sleep(60)
