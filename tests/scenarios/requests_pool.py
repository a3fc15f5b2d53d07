"""Twenty threads share a session of requests, whose pool keeps KEEP connections and throws the others away after use."""
import json, logging, os, threading, time
import requests
from requests.adapters import HTTPAdapter

logging.disable(logging.CRITICAL)
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=int(os.environ["KEEP"])))
end, done, lock = time.monotonic() + 7, 0, threading.Lock()

def work():
    global done
    while time.monotonic() < end:
        answer = session.get("http://127.0.0.1:8095/page", stream=True)
        # It works on the answer before it reads it to the end.
        time.sleep(0.05)
        assert len(answer.content) == 400
        with lock:
            done += 1
        time.sleep(0.05)

threads = [threading.Thread(target=work) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"requests": done, "seconds": 7}))
