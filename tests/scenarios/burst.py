"""Each two seconds, sixty requests: all at once, or four at a time over connections that are kept."""
import http.client, json, os, threading, time

def fetch(connection):
    connection.request("GET", "/page")
    assert len(connection.getresponse().read()) == 400

def once():
    connection = http.client.HTTPConnection("127.0.0.1", 8095)
    connection.connect()
    ready.wait()
    fetch(connection)
    connection.close()

def several(connection, number):
    for _ in range(number):
        fetch(connection)

kept = [http.client.HTTPConnection("127.0.0.1", 8095) for _ in range(4)]
began, done = time.monotonic(), 0
for burst in range(6):
    time.sleep(max(0, began + burst * 2 - time.monotonic()))
    if os.environ["AT_ONCE"] == "yes":
        ready = threading.Barrier(60)
        threads = [threading.Thread(target=once) for _ in range(60)]
    else:
        threads = [threading.Thread(target=several, args=(connection, 15)) for connection in kept]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done += 60
print(json.dumps({"requests": done}))
