"""A hundred requests a second. Unless CLOSE is "no", each asks the server to close the connection."""
import http.client, json, os, time

close = os.environ["CLOSE"] == "yes"
connection = http.client.HTTPConnection("127.0.0.1", 8093)
began, done = time.monotonic(), 0
while time.monotonic() < began + 7:
    connection.request("GET", "/page", headers={"Connection": "close"} if close else {})
    assert len(connection.getresponse().read()) == 400
    done += 1
    time.sleep(max(0, began + done * 0.01 - time.monotonic()))
print(json.dumps({"requests": done, "seconds": 7}))
