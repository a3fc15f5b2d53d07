"""A destination on a network of its own does not answer. Without LIMIT, each connect waits in SYN_SENT for good, until no
port is left. With it, so many wait at a time."""
import errno, json, os, socket, subprocess, time

for command in [
    "ip link add v0 type veth peer name v1", "ip addr add 10.9.9.1/24 dev v0", "ip link set v0 up", "ip link set v1 up",
    "ip neigh add 10.9.9.9 lladdr 02:00:00:00:00:01 dev v0",
]:
    subprocess.run(command.split(), check=True)
limit, waiting, failed, first = int(os.environ["LIMIT"]), [], 0, 0
began = time.monotonic()
while time.monotonic() < began + 8:
    client = socket.socket()
    client.setblocking(False)
    error = client.connect_ex(("10.9.9.9", 8099))
    if error == errno.EINPROGRESS:
        waiting.append(client)
        if len(waiting) > limit:
            waiting.pop(0).close()
            time.sleep(0.2)
    else:
        assert error == errno.EADDRNOTAVAIL, error
        failed += 1
        first = first or time.monotonic()
        time.sleep(0.2)
    time.sleep(0.005)
print(json.dumps({"failures_per_s": failed / (time.monotonic() - first)}))
