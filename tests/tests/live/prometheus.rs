//! A real Prometheus reads the agent: its answers are what the generator did, and the alert fires that is made for the scene.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use twtrace_tests::agent::{Agent, PATIENCE};
use twtrace_tests::require::skip;
use twtrace_tests::software::{installed, listening};
use twtrace_tests::top::{churn, quiet_place};
use twtrace_tests::tracer::{Place, program};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");
const PORT: u16 = 9091;

/// Prometheus with the rules of this project, in a place. It ends with this.
struct Prometheus<'a> {
    place: &'a Place,
    child: Child,
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Prometheus<'a> {
    fn start(place: &'a Place, file: &Path, folder: &Path, agent: SocketAddr) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{RULES}/twtrace.rules.yml]\n\
             scrape_configs: [{{job_name: twtrace, static_configs: [{{targets: ['{agent}']}}]}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let mut command = Command::new(file);
        command.arg(format!("--config.file={}/prometheus.yml", folder.display()));
        command.arg(format!("--storage.tsdb.path={}/data", folder.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{PORT}"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let prometheus = Self { place, child: place.spawn(command) };
        listening(place, PORT);
        prometheus
    }

    /// The value of an expression now; `None` without a result.
    fn ask(&self, expression: &str) -> Option<f64> {
        let path: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut stream = self.place.run(|| TcpStream::connect(("127.0.0.1", PORT))).unwrap();
        write!(stream, "GET /api/v1/query?query={path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let json: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        json["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Waits until an expression has a value.
    fn wait(&self, expression: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.ask(expression);
            if found == Some(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{expression} is {found:?}, not {value}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn prometheus_has_what_happened_and_the_alert_fires() {
    let Some(file) = installed("prometheus") else { return skip("prometheus", "it is not installed") };
    let folder = tempfile::tempdir().unwrap();
    let (home, place) = (Place::new(), quiet_place());
    let agent = Agent::start(&home, &["--metrics-by", "command"]);
    let prometheus = Prometheus::start(&home, &file, folder.path(), agent.address());
    prometheus.wait("up", 1.0);
    let churned = churn(&place, &["--processes", "3", "--connections", "3000"]);
    for worker in &churned.workers {
        let expression = format!("twtrace_time_wait_created_total{{command=\"{}\"}}", worker.who.comm);
        prometheus.wait(&expression, worker.opened as f64);
    }
    prometheus.wait("sum(twtrace_lost_total)", 0.0);
    // No alert of the worst kind while nothing is wrong.
    assert_eq!(prometheus.ask("ALERTS{alertname=\"TwtracePortsExhausted\"}"), None);
    let mut drill = Command::new(program("twtrace"))
        .args(["drill", "exhaustion", "--duration", "60s"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    prometheus.wait("ALERTS{alertname=\"TwtracePortsExhausted\",alertstate=\"firing\"}", 1.0);
    drill.kill().unwrap();
    drill.wait().unwrap();
    agent.end();
}

#[test]
fn alert_rules_pass_their_own_tests() {
    let Some(file) = installed("promtool") else { return skip("promtool", "it is not installed") };
    let output =
        Command::new(file).args(["test", "rules", "twtrace.rules.test.yml"]).current_dir(RULES).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn metrics_pass_promtool() {
    let Some(file) = installed("promtool") else { return skip("promtool", "it is not installed") };
    let home = Place::new();
    let agent = Agent::start(&home, &[]);
    let page = agent.get("/metrics").body;
    agent.end();
    let mut child = Command::new(file)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}
