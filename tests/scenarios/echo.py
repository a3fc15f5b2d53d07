"""A server that answers each client with a byte and waits for its end."""
import socket, sys

server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=500)
while True:
    client = server.accept()[0]
    client.recv(1)
    client.sendall(b"x")
    client.recv(1)
    client.close()
