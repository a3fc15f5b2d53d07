"""Two hundred requests a second to a hundred addresses in any order, with a new connection for each unless KEEP is "yes"."""
import http.client, json, os, random, time

kept = {}

def fetch(address):
    connection = kept.get(address) or http.client.HTTPConnection(address, 8098)
    connection.request("GET", "/page", headers={"X-Trace": "x" * 200})
    assert len(connection.getresponse().read()) == 400
    if os.environ["KEEP"] == "yes":
        kept[address] = connection
    else:
        connection.close()

random.seed(1)
began, done = time.monotonic(), 0
while time.monotonic() < began + 7:
    fetch(f"127.0.1.{random.randint(1, 100)}")
    done += 1
    time.sleep(max(0, began + done * 0.005 - time.monotonic()))
print(json.dumps({"requests": done, "seconds": 7}))
