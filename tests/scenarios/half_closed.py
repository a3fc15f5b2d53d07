"""Forty clients ask through a proxy and close. Prints how many connections of the server behind it stay in CLOSE_WAIT."""
import json, socket, subprocess, time

clients = [socket.create_connection(("127.0.0.1", 8098)) for _ in range(40)]
for client in clients:
    client.sendall(b"x" * 5000)
    assert client.recv(100) == b"hello\n"
time.sleep(1)
for client in clients:
    client.close()
time.sleep(6.5)
command = ["ss", "-Htn", "state", "close-wait", "sport = :8097"]
waiting = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
print(json.dumps({"close_wait": len(waiting)}), flush=True)
# It is killed: what its end closes is no finding.
time.sleep(60)
