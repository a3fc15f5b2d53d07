"""Two hundred requests a second, with a new connection for each unless POOL is "yes". Continues when connects fail."""
import errno, http.client, json, os, time

def fetch(connection):
    connection.request("GET", "/page", headers={"X-Trace": "x" * 200})
    assert len(connection.getresponse().read()) == 400

kept = http.client.HTTPConnection("127.0.0.1", 8095)
began, done, failed, first = time.monotonic(), 0, 0, 0
while time.monotonic() < began + 5:
    connection = kept if os.environ["POOL"] == "yes" else http.client.HTTPConnection("127.0.0.1", 8095)
    try:
        fetch(connection)
    except OSError as error:
        assert error.errno == errno.EADDRNOTAVAIL, error
        failed += 1
        first = first or time.monotonic()
    if connection is not kept:
        connection.close()
    done += 1
    time.sleep(max(0, began + done * 0.005 - time.monotonic()))
print(json.dumps({"requests": done - failed, "failures_per_s": failed / (time.monotonic() - first)}))
