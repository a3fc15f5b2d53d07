"""Forty workers keep a connection each, through a gateway that masquerades them with PORTS ports."""
import ctypes, json, os, socket, subprocess, threading, time

TIMEOUT = 1.5

def run(command, within=None):
    enter = ["nsenter", "-t", str(within), "-n"] if within else []
    subprocess.run(enter + command.split(), check=True)

def namespace(main):
    """A process in a network namespace of its own, which does `main` once it is told to."""
    (told, tell), (ready, is_ready) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).unshare(0x40000000)  # CLONE_NEWNET
        os.write(is_ready, b"x")
        os.read(told, 1)
        main()
    os.read(ready, 1)
    return pid, tell

def serve():
    listener = socket.create_server(("0.0.0.0", 8080), backlog=128)
    kept = []
    while True:
        kept.append(listener.accept()[0])

def keep():
    """A worker, which needs one connection."""
    global failed, first
    while True:
        try:
            kept.append(socket.create_connection(("10.2.0.2", 8080), timeout=TIMEOUT))
            return
        except OSError:
            failed += 1
            first = first or time.monotonic()

gateway, _ = namespace(lambda: time.sleep(60))
server, tell = namespace(serve)
run(f"ip link add c0 type veth peer name g0 netns {gateway}")
run("ip address add 10.1.0.2/24 dev c0")
run("ip link set c0 up")
run("ip route add default via 10.1.0.1")
run(f"ip link add g1 type veth peer name s0 netns {server}", gateway)
for address, device, of in (("10.1.0.1", "g0", gateway), ("10.2.0.1", "g1", gateway), ("10.2.0.2", "s0", server)):
    run(f"ip address add {address}/24 dev {device}", of)
    run(f"ip link set {device} up", of)
run("sysctl -qw net.ipv4.ip_forward=1", gateway)
last = 30000 + int(os.environ["PORTS"]) - 1
run(f"iptables -t nat -A POSTROUTING -o g1 -p tcp -j MASQUERADE --to-ports 30000-{last}", gateway)
os.write(tell, b"x")
time.sleep(0.5)

failed, kept, first = 0, [], 0
for _ in range(40):
    threading.Thread(target=keep, daemon=True).start()
    time.sleep(TIMEOUT / 40)
time.sleep(7)
print(json.dumps({"failures_per_s": failed / (time.monotonic() - first)}), flush=True)
for pid in (gateway, server):
    os.kill(pid, 9)
os._exit(0)
