"""A process opens a connection for each message and gives it to another one, which closes it. If KEEP is "yes", it opens
one and keeps it."""
import os, socket, time

receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
closer = os.fork()
if closer == 0:
    open("/proc/self/comm", "w").write("journal")
    os.setuid(65534)
    while True:
        _, descriptors, _, _ = socket.recv_fds(receiver, 10, 4)
        for descriptor in descriptors:
            os.close(descriptor)
if os.fork() == 0:
    open("/proc/self/comm", "w").write("culprit")
    kept, began = None, time.monotonic()
    while time.monotonic() < began + 7:
        client = kept or socket.create_connection(("127.0.0.1", 8097))
        client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"x" * 400):
            answer += client.recv(4096)
        if os.environ["KEEP"] == "yes":
            kept = client
        else:
            socket.send_fds(sender, [b"x"], [client.fileno()])
            client.close()
        time.sleep(0.02)
    os._exit(0)
os.wait()
os.kill(closer, 9)
os.wait()
