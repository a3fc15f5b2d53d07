"""Eight thousand connections from four addresses that idle; a process beside them asks for a page 150 times a second."""
import http.client, json, os, resource, time

limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
ready, report = os.pipe()
idler = os.fork()
if idler == 0:
    import socket
    open("/proc/self/comm", "w").write("idler")
    kept = [socket.create_connection((f"127.0.1.{1 + number % 4}", 8094)) for number in range(8000)]
    os.write(report, b"1")
    time.sleep(60)
os.read(ready, 1)
if os.fork() == 0:
    open("/proc/self/comm", "w").write("churner")
    keep, connection, done = os.environ["KEEP"] == "yes", None, 0
    began = time.monotonic()
    while time.monotonic() < began + 7:
        connection = connection or http.client.HTTPConnection("127.0.0.1", 8093)
        connection.request("GET", "/page")
        connection.getresponse().read()
        if not keep:
            connection.close()
            connection = None
        done += 1
        time.sleep(max(0, began + done / 150 - time.monotonic()))
    print(json.dumps({"requests": done, "seconds": 7}))
    os._exit(0)
os.wait()
os.kill(idler, 9)
os.wait()
