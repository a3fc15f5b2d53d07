"""Uploads of 64 KiB, 40 a second: a new connection for each, or one for all if KEEP is "yes"."""
import http.client, json, os, time

keep, connection, done = os.environ["KEEP"] == "yes", None, 0
end = time.monotonic() + 7
while time.monotonic() < end:
    connection = connection or http.client.HTTPConnection("127.0.0.1", 8092)
    connection.request("POST", "/", body=b"x" * 65536)
    connection.getresponse().read()
    if not keep:
        connection.close()
        connection = None
    done += 1
    time.sleep(0.025)
print(json.dumps({"requests": done, "seconds": 7}))
