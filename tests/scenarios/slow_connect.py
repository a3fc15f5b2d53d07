"""Takes 17,000 ports of one destination, and then opens 100 connections a second. Prints how long their connects take:
at least the processor time of connect(2), at most the time that passes meanwhile. Beside other work the thread also waits
for a processor, during the search for a port or before and after it."""
import json, socket, time

def opened():
    client = socket.socket()
    began = time.thread_time(), time.perf_counter()
    client.connect(("127.0.0.1", 8096))
    took = time.thread_time() - began[0], time.perf_counter() - began[1]
    client.sendall(b"x")
    client.recv(1)
    client.close()
    return took

times = [opened() for _ in range(17_000)]
began = time.monotonic()
while time.monotonic() < began + 8:
    times.append(opened())
    time.sleep(0.01)
at_least, at_most = (sorted(took)[len(times) * 9 // 10] * 1e3 for took in zip(*times))
print(json.dumps({"connect_ms": at_least, "connect_ms_at_most": at_most}))
