"""A server sends an answer and closes. Its forty clients read it only if READ is "yes"."""
import json, os, socket, time

def fin_wait1():
    with open("/proc/net/tcp") as table:
        return sum(line.split()[3] == "04" for line in table)

listener = socket.create_server(("127.0.0.1", 9001), backlog=64)
if os.fork() == 0:
    listener.close()
    clients = []
    for _ in range(40):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", 9001))
        clients.append(client)
    if os.environ["READ"] == "yes":
        for client in clients:
            while client.recv(1 << 20):
                pass
        os._exit(0)
    # Longer than the load: its end would reset them.
    os.close(1)
    time.sleep(20)
    os._exit(0)
for _ in range(40):
    accepted = listener.accept()[0]
    accepted.setblocking(False)
    try:
        while True:
            accepted.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    accepted.close()
time.sleep(7)
print(json.dumps({"fin_wait1": fin_wait1()}))
