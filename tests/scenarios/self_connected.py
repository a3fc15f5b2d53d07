"""A client waits for a server that has not started, and in time connects to itself. Then the server cannot bind its port.
With RESERVED set to "yes", no connect gets that port."""
import errno, json, os, socket, time

PORT = 40000

def sysctl(name, value):
    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)

if os.environ["RESERVED"] == "yes":
    sysctl("ip_local_reserved_ports", str(PORT))
# Connects have no other choice, for now.
sysctl("ip_local_port_range", f"{PORT} {PORT + 1}")
kept = None
for _ in range(3):
    client = socket.socket()
    try:
        client.connect(("127.0.0.1", PORT))
        assert client.getsockname() == client.getpeername()
        kept = client
        break
    except OSError as error:
        assert error.errno == errno.ECONNREFUSED, error
        client.close()
sysctl("ip_local_port_range", "32768 60999")
failed, began = 0, time.monotonic()
if os.fork() == 0:
    open("/proc/self/comm", "w").write("server")
    if kept:
        kept.close()
    while time.monotonic() < began + 8:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("0.0.0.0", PORT))
        except OSError as error:
            assert error.errno == errno.EADDRINUSE, error
            failed += 1
        server.close()
        time.sleep(0.2)
    print(json.dumps({"failures_per_s": failed / 8}), flush=True)
    os._exit(0)
os.wait()
# It is killed: what its end closes is no finding.
time.sleep(60)
