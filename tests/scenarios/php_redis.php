<?php
// Reads a key again and again, over a connection for each read or, if KEEP is "yes", over a persistent one.
$end = microtime(true) + 7;
$requests = 0;
while (microtime(true) < $end) {
    $redis = new Redis();
    if (getenv("KEEP") === "yes") {
        $redis->pconnect("127.0.0.1", 6379);
    } else {
        $redis->connect("127.0.0.1", 6379);
    }
    $redis->get("key");
    if (getenv("KEEP") !== "yes") {
        $redis->close();
    }
    $requests += 1;
    usleep(5000);
}
echo json_encode(["requests" => $requests, "seconds" => 7]), "\n";
