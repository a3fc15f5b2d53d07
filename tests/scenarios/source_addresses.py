"""240 connections from four addresses, 60 each, with bound ports."""
import socket, time

kept = []
for number in range(240):
    client = socket.socket()
    client.bind((f"127.0.0.{2 + number % 4}", 0))
    client.connect(("127.0.0.1", 8098))
    kept.append(client)
    time.sleep(0.01)
time.sleep(5)
