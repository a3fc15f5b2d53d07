"""Eight forked workers send twelve requests a second each, with a new connection for each request unless POOL is
"yes"."""
import http.client, json, os, time

WORKERS, EACH = 8, 60

def fetch(connection):
    connection.request("GET", "/page", headers={"X-Trace": "x" * 200})
    assert len(connection.getresponse().read()) == 400

def work(number):
    kept = http.client.HTTPConnection("127.0.0.1", 8097)
    # The workers do not send at the same moment.
    began = time.monotonic() + number * 0.01
    for done in range(EACH):
        time.sleep(max(0, began + done / 12 - time.monotonic()))
        connection = kept if os.environ["POOL"] == "yes" else http.client.HTTPConnection("127.0.0.1", 8097)
        fetch(connection)
        if connection is not kept:
            connection.close()

children = []
for number in range(WORKERS):
    child = os.fork()
    if child == 0:
        work(number)
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
print(json.dumps({"requests": WORKERS * EACH}))
