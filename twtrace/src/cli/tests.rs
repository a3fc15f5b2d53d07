#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use twtrace_core::state::Filter;
use twtrace_probe::kernel::log::LogFilter;
use twtrace_view::explain::Topic;

fn top(arguments: &[&str]) -> Result<TopArgs, clap::Error> {
    match Cli::try_parse_from(["twtrace", "top"].iter().chain(arguments))?.command {
        Command::Top(args) => Ok(*args),
        _ => unreachable!("top was asked for"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn nothing_asked_gives_the_help_and_a_usage_error() {
    let error = Cli::try_parse_from(["twtrace"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    assert_eq!(error.exit_code(), 2);
    assert_eq!(Cli::try_parse_from(["twtrace", "--help"]).unwrap_err().exit_code(), 0);
}

#[test]
fn defaults_are_as_documented() {
    let args = top(&[]).unwrap();
    assert!(!args.once && !args.view.json && !args.view.csv && !args.view.no_color);
    assert_eq!(args.kernel.debug_kernel, None);
    assert_eq!((args.duration, args.interval, args.view.limit), (None, None, None));
    assert_eq!((args.view.by, args.view.sort, args.view.theme), (None, None, None));
    assert_eq!(args.view.filter.filter(), Filter::default());
    assert_eq!(args.kernel.max_sockets, None);
    assert_eq!(args.kernel.ring_bytes, None);
}

#[test]
fn times() {
    for (text, milliseconds) in
        [("500ms", 500), ("5s", 5000), ("5", 5000), ("0.5", 500), ("2m", 120_000), ("1h", 3_600_000), ("1.5s", 1500)]
    {
        assert_eq!(top(&["--duration", text]).unwrap().duration, Some(Duration::from_millis(milliseconds)), "{text}");
    }
    for text in ["", "s", "5x", "-1s", "1e3", "inf", "nan", "0", "0ms", "5s5", "999999999h", "1..5", ".", "5 s", "５s"]
    {
        assert_usage(&[&format!("--duration={text}")], "expected a time");
    }
    assert_usage(&["--interval", "99ms"], "at least 100ms");
    assert_eq!(top(&["--interval", "100ms"]).unwrap().interval, Some(Duration::from_millis(100)));
}

#[test]
fn moments_of_a_recording() {
    const SECOND: i128 = 1_000_000_000;
    // From 2026-09-21T14:13:20Z for 12 hours.
    let (start, end) = (1_790_000_000 * SECOND, (1_790_000_000 + 12 * 3600) * SECOND);
    for (text, after_ms) in [
        ("2026-09-21T14:13:20Z", 0),
        ("2026-09-21T16:13:20.250+02:00", 250),
        ("2026-09-21t14:13:19z", -1000),
        ("14:13:20", 0),
        ("14:14", 40_000),
        ("14:13:20.5", 500),
        // Before the start, but not after midnight.
        ("14:13:19", -1000),
        ("00:00", 35_200_000),
        ("02:13:20", 43_200_000),
        ("02:13:21", -43_199_000),
        // Unix time has no leap seconds: one is the second before it.
        ("23:59:60", 35_199_000),
        ("+0", 0),
        ("+90s", 90_000),
        ("+1.5m", 90_000),
        ("+99h", 99 * 3_600_000),
        ("-5m", 43_200_000 - 300_000),
        ("-0s", 43_200_000),
    ] {
        let moment: TimeSpec = text.parse().unwrap();
        assert_eq!(moment.unix_ns(start, end) - start, after_ms * (SECOND / 1000), "{text}");
    }
    for text in [
        "",
        "+",
        "-",
        "now",
        "5s",
        "+5x",
        "--5s",
        "+-5s",
        "24:00",
        "14:60",
        "14",
        "2026-09-21",
        "2026-09-21T14:13:20",
        "2026-02-30T00:00:00Z",
        "１４:13:20",
        "14:13:20Z",
    ] {
        let error = text.parse::<TimeSpec>().unwrap_err();
        assert!(error.contains("+90s from the start"), "{text}: {error}");
    }
    // Whatever length a damaged recording claims.
    for text in ["+99h", "-99h", "12:00"] {
        let moment: TimeSpec = text.parse().unwrap();
        let _ = (moment.unix_ns(i128::MAX, i128::MIN), moment.unix_ns(i128::MIN, i128::MAX));
    }
}

#[test]
fn destinations() {
    for (text, net, port) in [
        ("10.0.0.1", "10.0.0.1/32", None),
        ("10.0.0.1:443", "10.0.0.1/32", Some(443)),
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("10.0.0.0/8:443", "10.0.0.0/8", Some(443)),
        ("::1", "::1/128", None),
        ("[::1]", "::1/128", None),
        ("[::1]:443", "::1/128", Some(443)),
        ("fd00::/8", "fd00::/8", None),
        ("[fd00::/8]:443", "fd00::/8", Some(443)),
        ("fd00::/8:443", "fd00::/8", Some(443)),
        ("::ffff:10.0.0.1", "10.0.0.1/32", None),
        ("[::ffff:10.0.0.0/104]:80", "10.0.0.0/8", Some(80)),
    ] {
        let parsed = top(&["--dest", text]).unwrap().view.filter.dest;
        assert_eq!(parsed, [(net.parse().unwrap(), port)], "{text}");
    }
    for text in [
        "",
        ":",
        "/",
        "[",
        "[]",
        "[]:1",
        "[::1",
        "::1]",
        "[::1]443",
        "[::1]:",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.0/33",
        "fd00::/129",
        "10.0.0.0/8:",
        "10.0.0.0/8:x",
        "host",
        "host:80",
        "10.0.0",
        "fe80::1%eth0",
        "/8:é",
    ] {
        assert_usage(&["--dest", text], "[fd00::/8]:443");
    }
}

#[test]
fn filters_are_repeatable_and_lists() {
    let args = top(&[
        "--pid",
        "1,2",
        "--pid",
        "3",
        "--comm",
        "curl",
        "--comm",
        "a-very-long-command",
        "--user",
        "root",
        "--user",
        "65534",
        "--port",
        "80,443",
    ]);
    let filter = args.unwrap().view.filter.filter();
    assert_eq!(filter.pids, [1, 2, 3]);
    assert_eq!(filter.comms, [b"curl".to_vec(), b"a-very-long-com".to_vec()]);
    assert_eq!(filter.uids, [0, 65534]);
    assert_eq!(filter.ports, [80, 443]);
    for (flag, text, valid) in [
        ("--pid", "x", "such as 1234"),
        ("--pid", "0", "such as 1234"),
        ("--pid", "-1", "such as 1234"),
        ("--pid", "1,,2", "such as 1234"),
        ("--comm", "", "such as nginx"),
        ("--user", "no such user", "user name or uid"),
        ("--user", "", "user name or uid"),
        ("--port", "0", "1 to 65535"),
        ("--port", "65536", "1 to 65535"),
        ("--limit", "0", "from 1 on"),
        ("--max-sockets", "0", "1 to 16777216"),
        ("--by", "thread", "possible values"),
        ("--sort", "luck", "possible values"),
        ("--debug-kernel", "", "such as port=8080"),
        ("--debug-kernel", "8080", "such as port=8080"),
        ("--debug-kernel", "port=0", "such as port=8080"),
        ("--debug-kernel", "port=1,port=2", "such as port=8080"),
        ("--debug-kernel", "addr=10.0.0.0/8", "such as port=8080"),
        ("--debug-kernel", "pid=1,", "such as port=8080"),
    ] {
        assert_usage(&[&format!("{flag}={text}")], valid);
    }
}

#[test]
fn kernel_log_filters_have_one_to_three_parts() {
    let filter = |text: &str| top(&["--debug-kernel", text]).unwrap().kernel.debug_kernel.unwrap();
    assert_eq!(filter("port=8080"), LogFilter { port: Some(8080), ..LogFilter::default() });
    let all = LogFilter { port: Some(80), addr: Some([10, 0, 0, 1].into()), pid: Some(9) };
    assert_eq!(filter("pid=9,addr=::ffff:10.0.0.1,port=80"), all, "an address matches as connections show it");
}

#[test]
fn ring_sizes_are_powers_of_two() {
    for (text, bytes) in [("524288", 524_288), ("512K", 524_288), ("8M", 8 << 20), ("8MiB", 8 << 20), ("1g", 1 << 30)] {
        assert_eq!(top(&["--ring-bytes", text]).unwrap().kernel.ring_bytes, Some(bytes), "{text}");
    }
    for text in ["", "0", "1000", "2048", "3M", "K", "8T", "-8M", "4G", "99999999999", "8é"] {
        assert_usage(&[&format!("--ring-bytes={text}")], "power of two");
    }
}

#[test]
fn json_and_csv_exclude_each_other() {
    assert_eq!(top(&["--json", "--csv"]).unwrap_err().kind(), ErrorKind::ArgumentConflict);
}

fn assert_usage(arguments: &[&str], valid_form: &str) {
    let error = top(arguments).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{arguments:?}");
    assert!(error.to_string().contains(valid_form), "{arguments:?}: {error}");
}

fn budget(arguments: &[&str]) -> Result<BudgetArgs, clap::Error> {
    match Cli::try_parse_from(["twtrace", "budget"].iter().chain(arguments))?.command {
        Command::Budget(args) => Ok(args),
        _ => unreachable!("budget was asked for"),
    }
}

#[test]
fn budgets_take_what_sysctls_look_like() {
    let args = budget(&["--rate", "0.5", "--range", "1024\t65535", "--reserved", "8080,9000-9100", "--tw-reuse", "2"]);
    let args = args.unwrap();
    assert_eq!((args.rate, args.range, args.tw_reuse), (Some(0.5), Some((1024, 65_535)), Some(2)));
    assert_eq!(args.reserved.as_deref(), Some("8080,9000-9100"));
    assert_eq!(budget(&["--reserved", " "]).unwrap().reserved.as_deref(), Some(""));
    assert_eq!(budget(&["--lifetime", "5ms"]).unwrap().lifetime, Some(Duration::from_millis(5)));
    assert_eq!(budget(&["--lifetime", "0"]).unwrap().lifetime, Some(Duration::ZERO));
    let none = budget(&[]).unwrap();
    assert_eq!((none.rate, none.destinations, none.range, none.max_tw_buckets), (None, None, None, None));
}

#[test]
fn budgets_of_nonsense_are_usage_errors() {
    for (flag, text, valid) in [
        ("--rate", "0", "a rate above 0"),
        ("--rate", "-1", "a rate above 0"),
        ("--rate", "inf", "a rate above 0"),
        ("--rate", "NaN", "a rate above 0"),
        ("--rate", "1e3", "a rate above 0"),
        ("--rate", "1000/s", "a rate above 0"),
        ("--destinations", "0", "from 1 to 1000000"),
        ("--source-ips", "0", "from 1 to 1000000"),
        ("--source-ips", "10.0.0.1", "from 1 to 1000000"),
        ("--range", "60999-32768", "such as 32768-60999"),
        ("--range", "0-100", "such as 32768-60999"),
        ("--range", "1024-65536", "such as 32768-60999"),
        ("--range", "1024", "such as 32768-60999"),
        ("--range", "", "such as 32768-60999"),
        ("--reserved", "8080,", "such as 8080,9000-9100"),
        ("--reserved", "http", "such as 8080,9000-9100"),
        ("--reserved", "9100-9000", "such as 8080,9000-9100"),
        ("--tw-reuse", "3", "0, 1, or 2"),
        ("--lifetime", "soon", "such as 500ms"),
        ("--max-tw-buckets", "0", "from 1 to 2147483647"),
    ] {
        let error = budget(&[&format!("{flag}={text}")]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{flag}={text}");
        assert!(error.to_string().contains(valid), "{flag}={text}: {error}");
    }
}

#[test]
fn unknown_topics_have_a_nearest_name() {
    let explain = |words: &[&str]| match Cli::try_parse_from([&["twtrace", "explain"], words].concat()).unwrap().command
    {
        Command::Explain(args) => args.topic().map(|topic| topic.map(Topic::name)),
        _ => unreachable!(),
    };
    let error = explain(&["tcp_tw_resue"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("did you mean tcp_tw_reuse?"), "{error}");
    assert_eq!(explain(&["TIME_WAIT"]).unwrap(), Some("time-wait"));
    assert_eq!(explain(&["time", "wait"]).unwrap(), Some("time-wait"));
    assert_eq!(explain(&["Cannot", "assign", "requested", "address"]).unwrap(), Some("eaddrnotavail"));
    assert_eq!(explain(&[]).unwrap(), None);
}

#[test]
fn what_to_fail_on() {
    use twtrace_core::finding::{Rule, Severity};
    let fail_on = |text: &str| top(&["--once", "--fail-on", text]).unwrap().fail_on.unwrap();
    let of = |rules: &[Rule], least| FailOn { rules: rules.to_vec(), least };
    assert_eq!(fail_on("exhaustion-near"), of(&[Rule::ExhaustionNear], None));
    for &rule in Rule::ALL {
        assert_eq!(fail_on(rule.name()), of(&[rule], None));
    }
    let both = of(&[Rule::IncompleteTrace, Rule::CloseWaitLeak], Some(Severity::Warning));
    assert_eq!(fail_on("incomplete-trace, critical,close-wait-leak,warning"), both);
    assert_eq!(fail_on("any").least, Some(Severity::Info));
    assert_eq!(top(&["--once"]).unwrap().fail_on, None);
    for text in ["", "exhaustion", "any,", "EXHAUSTION-NEAR", "any;critical"] {
        assert_usage(&["--once", &format!("--fail-on={text}")], "no-connection-reuse, ");
    }
    let replay = |arguments: &[&str]| Cli::try_parse_from(["twtrace", "replay", "a.twt"].iter().chain(arguments));
    assert!(replay(&["--once", "--fail-on", "any"]).is_ok());
    assert_eq!(replay(&["--fail-on", "any"]).unwrap_err().exit_code(), 2);
    assert!(Cli::try_parse_from(["twtrace", "report", "a.twt", "--fail-on", "critical"]).is_ok());
}

#[test]
fn changes_of_a_replay() {
    let parse = |arguments: &[&str]| Cli::try_parse_from([&["twtrace", "replay", "a.twt"], arguments].concat());
    let cli = parse(&["--what-if", "pool=20", "--what-if", "range=1024-65535", "--json"]).unwrap();
    let Command::Replay(args) = cli.command else { panic!("it is a replay") };
    assert_eq!(args.what_if, [Change::Pool(20), Change::Range(1024, 65_535)]);
    for (arguments, says) in [
        (&["--what-if", "pool=0"][..], "pool needs a number of connections, at least 1"),
        (&["--what-if", "fin_timeout=5"][..], "no setting fin_timeout to change: tcp_tw_reuse=1, range="),
        (&["--what-if", "pool=1", "--csv"][..], "cannot be used with"),
    ] {
        let error = parse(arguments).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
