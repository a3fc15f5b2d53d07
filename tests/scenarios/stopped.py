"""Thirty clients connect and wait for an answer. If STOP is "yes", the processes of the server are stopped meanwhile."""
import json, os, signal, socket, subprocess, time

def processes():
    """Those that listen on the port."""
    lines = subprocess.run(["ss", "-Hltnp", "sport = :8098"], capture_output=True, text=True, check=True).stdout
    return {int(part.split(",")[0]) for part in lines.split("pid=")[1:]}

def waiting():
    line = subprocess.run(["ss", "-Hltn", "sport = :8098"], capture_output=True, text=True, check=True).stdout
    return int(line.split()[1])

stopped = processes() if os.environ["STOP"] == "yes" else set()
for pid in stopped:
    os.kill(pid, signal.SIGSTOP)
clients = [socket.create_connection(("127.0.0.1", 8098)) for _ in range(30)]
for client in clients:
    client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
time.sleep(8)
print(json.dumps({"accept_queue": waiting()}))
for client in clients:
    # Unread data would make it a reset.
    client.recv(0 if stopped else 10000)
    client.close()
for pid in stopped:
    os.kill(pid, signal.SIGCONT)
