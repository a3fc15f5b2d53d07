//! The exact settings of common programs, by command name and service port. They are printed and never executed. A
//! process chooses its own name, so the worst that it can get is another program's setting.

use crate::event::Comm;

/// How to keep `size` connections open and reuse them.
pub(super) fn pool(command: &Comm, port: u16, size: f64) -> String {
    let size = format!("{size:.0}");
    let program = program(command);
    let of_tool = of_tool(&program).map(str::to_owned);
    of_tool.or_else(|| of_protocol(&program, port, &size)).or_else(|| of_program(&program, &size)).unwrap_or_else(|| {
        format!(
            "one client object for all requests, with keep-alive; kept idle per host: {size} (Go: MaxIdleConnsPerHost, and read \
             each body to its end and close it)"
        )
    })
}

/// The setting of a program for a protocol, which its port stands for: an HTTP client's is none for a database.
fn of_protocol(program: &str, port: u16, size: &str) -> Option<String> {
    Some(match (program, port) {
        ("nginx", 9000) => format!("upstream {{ ... keepalive {size}; }} with fastcgi_keep_conn on;"),
        ("nginx", 11211) => format!("upstream {{ ... keepalive {size}; }}"),
        ("pgbench", _) => "pgbench without -C".to_owned(),
        ("redis-benchmark", _) => "redis-benchmark with -k 1, its default".to_owned(),
        ("pgbouncer", _) => {
            format!("default_pool_size = {size}, server_idle_timeout above the longest pause, server_lifetime = 3600")
        }
        ("php", 6379) => "$redis->pconnect(...) in place of connect(...)".to_owned(),
        ("php", 11211) => "new Memcached('name'): servers of a name are kept from request to request".to_owned(),
        ("php", 3306 | 5432) => "PDO::ATTR_PERSISTENT => true".to_owned(),
        ("php", 27017) => "one MongoDB\\Client: its driver keeps connections from request to request".to_owned(),
        ("python", 5432) => format!("psycopg_pool.ConnectionPool(..., max_size={size})"),
        ("python", 3306) => format!("sqlalchemy.create_engine(..., pool_size={size})"),
        ("python", 6379) => format!("redis.ConnectionPool(..., max_connections={size})"),
        ("python", 27017) => {
            format!("one pymongo.MongoClient(..., maxPoolSize={size}) for the process, made after fork()")
        }
        ("python", 11211) => format!("pymemcache.client.base.PooledClient(..., max_pool_size={size})"),
        ("node", 5432) => format!("new pg.Pool({{ max: {size} }})"),
        ("node", 3306) => format!("mysql.createPool({{ connectionLimit: {size} }})"),
        ("node", 6379) => "one client for the process".to_owned(),
        ("node", 27017) => format!("one MongoClient for the process, maxPoolSize: {size}"),
        (_, 5432) => format!("the driver's pool of {size}, or PgBouncer: default_pool_size = {size}"),
        (_, 3306) => format!("the driver's pool of {size}, or ProxySQL: max_connections = {size}"),
        (_, 6379 | 11211) => format!("one client object for all requests, with at most {size} idle"),
        (_, 27017) => format!("one client object for the process, maxPoolSize = {size}"),
        (_, 5672) => "one connection for the process, with a channel for each thread".to_owned(),
        (_, 9092) => "one producer or consumer object for the process".to_owned(),
        (_, port) if !is_http(port) => format!("one client object for all requests, with a pool of {size}"),
        _ => return None,
    })
}

/// The setting of a tool, whatever it speaks.
fn of_tool(program: &str) -> Option<&'static str> {
    Some(match program {
        "ab" => "ab -k",
        "wrk" | "hey" => "without `Connection: close`",
        "k" => "noConnectionReuse: false, noVUConnectionReuse: false",
        "kubelet" | "blackbox_export" => {
            "periodSeconds or scrape_interval: fewer probes; each has a connection of its own"
        }
        _ => return None,
    })
}

/// The setting of a program that speaks HTTP.
fn of_program(program: &str, size: &str) -> Option<String> {
    Some(match program {
        "nginx" | "openresty" => {
            format!(
                "upstream NAME {{ server ...; keepalive {size}; }} and proxy_pass http://NAME; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\";"
            )
        }
        "haproxy" => "http-reuse always in mode http; mode tcp opens what it accepts".to_owned(),
        "envoy" => {
            "max_requests_per_connection of the cluster unset, and no `connection: close` from the upstream".to_owned()
        }
        "varnishd" => {
            "the backend must keep connections open: no `Connection: close`, a timeout above backend_idle_timeout"
                .to_owned()
        }
        "apache" | "httpd" => "ProxyPass ... enablereuse=on, and no proxy-nokeepalive".to_owned(),
        "php" => "one curl handle for all requests, curl_reset() in between".to_owned(),
        program if PYTHON.contains(&program) => {
            // By default its adapter keeps ten for each host.
            match size.parse() {
                Ok(0..=10_u32) => "one requests.Session() for all requests".to_owned(),
                _ => mounted(&format!("pool_maxsize={size}")),
            }
        }
        "node" => "new http.Agent({ keepAlive: true })".to_owned(),
        "java" => format!("one HttpClient for all requests, or -Dhttp.maxConnections={size}; JMeter: Use KeepAlive"),
        "dotnet" => "one HttpClient for the process, or IHttpClientFactory".to_owned(),
        "beam.smp" => {
            format!(
                "httpc:set_options([{{max_sessions, {size}}}]), hackney_pool:set_max_connections(POOL, {size}); no {{\"connection\", \"close\"}}"
            )
        }
        "ruby" | "puma" => {
            "Net::HTTP::Persistent, or the block form of Net::HTTP.start for several requests".to_owned()
        }
        _ => return None,
    })
}

/// Whether a port says what is spoken there.
pub(super) fn is_known(port: u16) -> bool {
    !is_http(port) || matches!(port, 80 | 443 | 8000 | 8080 | 8443)
}

/// Whether a port is not one of databases, caches and brokers, which speak other protocols.
fn is_http(port: u16) -> bool {
    // 0: that of none, or of several.
    !matches!(port, 0 | 1433 | 1521 | 3306 | 5432 | 5672 | 6379 | 9000 | 9042 | 9092 | 11211 | 27017)
}

/// How `size` connections at a time are the most that are open.
pub(super) fn limit(command: &Comm, port: u16, size: f64) -> String {
    match program(command).as_str() {
        program if has_requests(program, port) => mounted(&format!("pool_maxsize={size:.0}, pool_block=True")),
        "node" if of_protocol("node", port, "").is_none() => {
            format!("new http.Agent({{ keepAlive: true, maxSockets: {size:.0} }})")
        }
        _ => pool(command, port, size).replace("MaxIdleConnsPerHost,", "MaxConnsPerHost and MaxIdleConnsPerHost,"),
    }
}

/// How one connection to each of so many destinations is kept.
pub(super) fn hosts(command: &Comm, port: u16, number: f64) -> String {
    match program(command).as_str() {
        program if has_requests(program, port) => mounted(&format!("pool_connections={number:.0}")),
        _ => pool(command, port, 1.0),
    }
}

/// Programs of Python.
const PYTHON: [&str; 4] = ["python", "gunicorn", "uwsgi", "celery"];

/// Whether it is a program of Python that speaks HTTP there.
fn has_requests(program: &str, port: u16) -> bool {
    PYTHON.contains(&program) && of_protocol(program, port, "").is_none()
}

/// An adapter of Python's requests, in one session.
fn mounted(settings: &str) -> String {
    format!(
        "one requests.Session() for all threads; session.mount(\"http://\", HTTPAdapter({settings})), the same for \
         \"https://\""
    )
}

/// What else a program's setting changes.
pub(super) fn risk(command: &Comm, port: u16) -> &'static str {
    match program(command).as_str() {
        "nginx" | "openresty" if is_http(port) => {
            " proxy_set_header replaces all those that are inherited (Host, X-Forwarded-For): repeat them; a location for \
             WebSocket needs `Connection: upgrade`; the number is for each worker."
        }
        "php" => " State survives from one request to the next: SELECT, AUTH, an open transaction.",
        _ => "",
    }
}

/// How a bound address leaves the port to connect(2).
pub(super) fn no_port(command: &Comm) -> &'static str {
    match program(command).as_str() {
        "python" => "s.setsockopt(socket.IPPROTO_IP, 24, 1) (IP_BIND_ADDRESS_NO_PORT), then s.bind((ADDRESS, 0))",
        _ => "setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int)), then bind(2) with port 0",
    }
}

/// What else a server's keep-alive changes.
pub(super) fn keep_alive_risk(command: &Comm) -> &'static str {
    match program(command).as_str() {
        "python" => {
            " With HTTP/1.1 each answer needs a Content-Length, or its client hangs, and a server without threads serves one \
             connection at a time."
        }
        _ => "",
    }
}

/// How a server keeps connections open for the next request.
pub(super) fn keep_alive(command: &Comm) -> &'static str {
    match program(command).as_str() {
        "nginx" => "keepalive_timeout 75s; keepalive_requests 1000;",
        "apache" | "httpd" => "KeepAlive On, KeepAliveTimeout 5",
        "python" => {
            "python3 -m http.server --protocol HTTP/1.1 (Python 3.11), or protocol_version = \"HTTP/1.1\" of the handler"
        }
        "gunicorn" => "gunicorn --worker-class gthread --keep-alive 5",
        "node" => "server.keepAliveTimeout = 65000",
        "haproxy" => "option http-keep-alive, timeout http-keep-alive 10s",
        _ => "HTTP/1.1 without `Connection: close`, with an idle timeout of some seconds",
    }
}

/// Whether a server keeps connections open unless it is configured otherwise, or asked to close them.
pub(super) fn keeps_alive(command: &Comm) -> bool {
    const SERVERS: [&str; 11] = [
        "nginx",
        "openresty",
        "apache",
        "httpd",
        "haproxy",
        "envoy",
        "caddy",
        "traefik",
        "lighttpd",
        "varnishd",
        "node",
    ];
    SERVERS.contains(&program(command).as_str())
}

/// How one process does the work of several.
pub(super) struct Batch {
    pub(super) text: &'static str,
    pub(super) command: String,
    pub(super) risk: &'static str,
}

/// The same for a program that is started for each request, and its service's port.
pub(super) fn batch(command: &Comm, port: u16) -> Batch {
    match program(command).as_str() {
        "redis-cli" => Batch {
            text: "Send all commands through one redis-cli, with the other options that it has now. Commands that depend on \
                   an earlier reply need a client library.",
            command: format!("redis-cli -p {port} < COMMANDS"),
            risk: "An error reply does not stop the commands after it, and none has an exit code of its own: read the output.",
        },
        "rpcinfo" => Batch {
            text: "rpcinfo cannot use a connection again: ask less often, or ask once and keep the answer. A program that \
                   keeps its connection may ask as often as it wants.",
            command: "rpcinfo -T udp HOST PROGRAM".to_owned(),
            risk: "UDP may be filtered on the way.",
        },
        "curl" => Batch {
            text: "Give all URLs to one curl: it uses its connection again.",
            command: "curl URL1 URL2 ...".to_owned(),
            risk: "After an error it goes on with the next URL, and its exit code is that of the last: --fail-early ends it.",
        },
        "wget" => Batch { command: "wget URL1 URL2 ...".to_owned(), ..OTHERS },
        "psql" => Batch { command: format!("psql -p {port} -f COMMANDS"), ..OTHERS },
        "mysql" => Batch { command: format!("mysql -P {port} < COMMANDS"), ..OTHERS },
        _ => Batch {
            command: "one process with one connection, with all requests on its standard input".to_owned(),
            ..OTHERS
        },
    }
}

/// For all others.
const OTHERS: Batch = Batch {
    text: "Let one long-running process do the work of all these, over one connection: with a client library, or with the \
           tool's own batch mode (a pipe, or a file of commands), and the other options that it has now.",
    command: String::new(),
    risk: "An error also stops the requests after it, unless the program handles it.",
};

/// The program of a command name, without the version at the end that interpreters and services have: `python3.11`,
/// `php-fpm8.2`.
fn program(command: &Comm) -> String {
    let name = String::from_utf8_lossy(command.bytes()).into_owned();
    let name = name.trim_end_matches(|end: char| end.is_ascii_digit() || end == '.');
    name.strip_suffix("-fpm").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(name: &[u8]) -> Comm {
        let mut comm = Comm::default();
        comm.0[..name.len()].copy_from_slice(name);
        comm
    }

    #[test]
    fn programs_are_known_by_their_names() {
        assert!(pool(&comm(b"nginx"), 8080, 12.0).contains("keepalive 12;"));
        assert!(!pool(&comm(b"nginx"), 5432, 12.0).contains("proxy_http_version"));
        assert_eq!(pool(&comm(b"python3.11"), 5432, 3.0), "psycopg_pool.ConnectionPool(..., max_size=3)");
        assert!(pool(&comm(b"php-fpm8.2"), 3306, 1.0).starts_with("PDO::"));
        // The protocol decides first.
        assert!(pool(&comm(b"php-fpm8.2"), 6379, 1.0).contains("pconnect"));
        assert!(pool(&comm(b"python3"), 27017, 4.0).contains("MongoClient(..., maxPoolSize=4)"));
        assert!(pool(&comm(b"python3"), 8080, 4.0).starts_with("one requests.Session()"));
        assert!(pool(&comm(b"python3"), 8080, 40.0).contains("HTTPAdapter(pool_maxsize=40)"));
        assert!(limit(&comm(b"python3"), 8080, 4.0).contains("pool_maxsize=4, pool_block=True"));
        assert_eq!(limit(&comm(b"python3"), 6379, 4.0), pool(&comm(b"python3"), 6379, 4.0));
        assert!(limit(&comm(b"node"), 8080, 4.0).contains("maxSockets: 4"));
        assert!(hosts(&comm(b"python3"), 8000, 100.0).contains("pool_connections=100"));
        assert!(!hosts(&comm(b"python3"), 0, 100.0).contains("Session"), "it is not known to be HTTP");
        assert!(pool(&comm(b"node"), 5432, 4.0).contains("pg.Pool"));
        assert_eq!(pool(&comm(b"ab"), 80, 4.0), "ab -k");
        assert!(pool(&comm(b"pgbouncer"), 5432, 4.0).starts_with("default_pool_size = 4"));
        assert!(pool(&comm(b"shop"), 80, 4.0).contains("read each body to its end"));
        for port in [1433, 1521, 5432, 5672, 9042, 9092, 11211, 27017] {
            assert!(!pool(&comm(b"java"), port, 4.0).contains("Http"), "{port}");
        }
        assert!(pool(&comm(b"app"), 3306, 1.0).contains("max_connections = 1"));
        assert!(keep_alive(&comm(b"apache2")).starts_with("KeepAlive On"));
        assert_eq!(batch(&comm(b"redis-cli"), 6399).command, "redis-cli -p 6399 < COMMANDS");
        // The name that a process chooses for itself is never printed.
        for hostile in [&b"\x1b[2J"[..], b"$(reboot)", b"", b"\xff\xfe"] {
            let all =
                [pool(&comm(hostile), 1, 1.0), keep_alive(&comm(hostile)).into(), batch(&comm(hostile), 1).command];
            assert!(all.iter().all(|setting: &String| setting.is_ascii() && !setting.contains("reboot")));
        }
    }
}
