"""A server that answers and reads to the end of its clients. With CLOSE set to "yes", it then closes."""
import os, socket, sys, threading

kept = []

def serve(client):
    client.sendall(b"hello\n")
    while client.recv(4096):
        pass
    if os.environ["CLOSE"] == "yes":
        client.close()
    else:
        kept.append(client)

server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
