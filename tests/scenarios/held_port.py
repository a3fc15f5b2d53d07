"""A client gets the port of a server that is not running, and closes first. Then the server tries to bind it, with
SO_REUSEADDR. With RESERVED set to "yes", the port is reserved."""
import json, os, socket, time

PORT = 40000

def sysctl(name, value):
    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)

if os.environ["RESERVED"] == "yes":
    sysctl("ip_local_reserved_ports", str(PORT))
# Connects have no other choice, for now.
sysctl("ip_local_port_range", f"{PORT} {PORT + 1}")
if os.fork() == 0:
    open("/proc/self/comm", "w").write("client")
    for _ in range(1 if os.environ["RESERVED"] == "yes" else 2):
        socket.create_connection(("127.0.0.1", 8099)).close()
    os._exit(0)
os.wait()
sysctl("ip_local_port_range", "32768 60999")
time.sleep(1.5)
began, failed = time.monotonic(), 0
while time.monotonic() < began + 5:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("0.0.0.0", PORT))
    except OSError as error:
        assert error.errno == 98, error
        failed += 1
    server.close()
    time.sleep(0.2)
print(json.dumps({"failures_per_s": failed / 5}))
