"""Twenty-five clients connect to a listener, and five of them hang up. It accepts them only if ACCEPT is "yes"."""
import json, os, select, socket, time

listener = socket.create_server(("127.0.0.1", 8088), backlog=64)
if os.fork() == 0:
    listener.close()
    clients = [socket.create_connection(("127.0.0.1", 8088)) for _ in range(25)]
    time.sleep(0.5)
    for client in clients[20:]:
        client.close()
    time.sleep(8)
    os._exit(0)
began, waiting, accepted = time.monotonic(), 25, []
while time.monotonic() < began + 8:
    if os.environ["ACCEPT"] != "yes":
        time.sleep(0.1)
        continue
    for ready in select.select([listener, *accepted], [], [], 0.1)[0]:
        if ready is listener:
            accepted.append(listener.accept()[0])
            waiting -= 1
        elif not ready.recv(100):
            accepted.remove(ready)
            ready.close()
print(json.dumps({"accept_queue": waiting}))
