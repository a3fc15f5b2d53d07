"""240 connections from four addresses, 60 each, with bound ports; connect(2) chooses them if NO_PORT is "yes"."""
import json, os, socket, time

IP_BIND_ADDRESS_NO_PORT = 24
no_port = os.environ["NO_PORT"] == "yes"
kept = []
for number in range(240):
    client = socket.socket()
    if no_port:
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((f"127.0.0.{2 + number % 4}", 0))
    client.connect(("127.0.0.1", 8098))
    kept.append(client)
    time.sleep(0.01)
time.sleep(5)
print(json.dumps({"bound": 0 if no_port else 60}))
