"""Ten connects a second, given up after a second and a half: to a host that is gone, or to one that answers."""
import json, os, socket, subprocess, threading, time

def run(command):
    subprocess.run(command.split(), check=True)

def connect():
    global failed
    try:
        socket.create_connection(address, timeout=1.5).close()
    except OSError:
        failed += 1

run("ip link add v0 type veth peer name v1")
run("ip address add 10.9.9.1/24 dev v0")
for device in ("v0", "v1"):
    run(f"ip link set {device} up")
run("ip neighbour add 10.9.9.9 lladdr 02:00:00:00:00:01 dev v0")
# The other is on a port that nothing else uses, and closes first.
listener = socket.create_server(("10.9.9.1", 5432))

def serve():
    while True:
        accepted = listener.accept()[0]
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.recv(1)
        accepted.close()

threading.Thread(target=serve, daemon=True).start()
address = ("10.9.9.9" if os.environ["GONE"] == "yes" else "10.9.9.1", 5432)
failed, asked, began = 0, 0, time.monotonic()
every = 0.1 if os.environ["GONE"] == "yes" else 2
while time.monotonic() < began + 7:
    threading.Thread(target=connect).start()
    asked += 1
    time.sleep(every)
time.sleep(1.6)
print(json.dumps({"failures_per_s": failed / (asked * every)}))
