"""Twenty threads share a pool of connections, which keeps the KEEP oldest of them and closes the others after use."""
import http.client, json, os, threading, time

keep, pool, ages, lock, done = int(os.environ["KEEP"]), [], {}, threading.Lock(), 0
end = time.monotonic() + 7

def work():
    global done
    while time.monotonic() < end:
        with lock:
            connection = pool.pop(0) if pool else None
        connection = connection or http.client.HTTPConnection("127.0.0.1", 8094)
        with lock:
            ages.setdefault(connection, len(ages))
        connection.request("GET", "/page")
        assert len(connection.getresponse().read()) == 400
        # It works on the answer before it gives the connection back.
        time.sleep(0.03)
        with lock:
            done += 1
            pool.append(connection)
            pool.sort(key=ages.__getitem__)
            spare = pool.pop() if len(pool) > keep else None
        if spare:
            spare.close()
        time.sleep(0.02)

threads = [threading.Thread(target=work) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"requests": done, "seconds": 7}))
