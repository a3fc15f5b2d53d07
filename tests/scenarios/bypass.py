"""Half of the requests use a pool of four connections. So do the others, unless BYPASS is "yes": then each opens a
connection of its own."""
import http.client, json, os, time

def fetch(connection):
    connection.request("GET", "/page", headers={"X-Trace": "x" * 200})
    assert len(connection.getresponse().read()) == 400

pool = [http.client.HTTPConnection("127.0.0.1", 8092) for _ in range(4)]
began, done = time.monotonic(), 0
while time.monotonic() < began + 7:
    fetch(pool[done % 4])
    if os.environ["BYPASS"] == "yes":
        beside = http.client.HTTPConnection("127.0.0.1", 8092)
        fetch(beside)
        beside.close()
    else:
        fetch(pool[(done + 1) % 4])
    done += 1
    time.sleep(max(0, began + done * 0.01 - time.monotonic()))
print(json.dumps({"requests": 2 * done, "seconds": 7}))
