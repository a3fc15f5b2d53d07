#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use std::collections::HashSet;
use twtrace_core::finding::Rule;

fn all() -> impl Iterator<Item = &'static Topic> {
    GENERAL.iter().chain(FINDINGS)
}

#[test]
fn each_finding_has_a_text_under_its_name() {
    for rule in Rule::ALL {
        assert!(FINDINGS.iter().any(|topic| topic.name() == rule.name()), "{}", rule.name());
        assert!(topic(rule.name()).unwrap().text.contains(rule.name()), "{}", rule.name());
    }
    assert_eq!(FINDINGS.len(), Rule::ALL.len());
}

#[test]
fn texts_fit_and_name_their_sources() {
    for topic in all() {
        let lines: Vec<&str> = topic.text.lines().collect();
        assert!(lines.len() <= 25, "{}: {} lines", topic.name(), lines.len());
        for line in &lines {
            assert!(text::width(line) <= 80 && line.trim_end() == *line && text::clean(line) == *line, "{line}");
        }
        assert!(lines.iter().any(|line| line.starts_with("Sources: ")), "{}", topic.name());
        assert!(topic.text.ends_with('\n') && !topic.text.ends_with("\n\n"), "{}", topic.name());
    }
}

#[test]
fn findings_say_what_helps_and_how_to_check() {
    for topic in FINDINGS {
        assert!(topic.text.contains("To check:"), "{}", topic.name());
        let helps = topic.text.contains("What helps") || ["not-time-wait", "incomplete-trace"].contains(&topic.name());
        assert!(helps, "{}", topic.name());
    }
}

#[test]
fn folklore_is_never_advised() {
    for topic in all() {
        let said = topic.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let has = |word: &str| said.contains(word);
        // None of the commands shown sets either of them.
        for command in said.split("sysctl -w").skip(1) {
            let set = command.split_whitespace().next().unwrap_or_default();
            assert!(!set.contains("tw_recycle") && !set.contains("fin_timeout"), "{}: {set}", topic.name());
        }
        assert!(!has("tw_recycle") || has("not in Linux since 4.12"), "{}", topic.name());
        if has("fin_timeout") {
            let limits =
                ["bounds this waiting and nothing else", "does not shorten TIME_WAIT", "does nothing for TIME_WAIT"];
            assert!(limits.into_iter().any(has), "{}", topic.name());
        }
        assert!(!has("SO_LINGER") || has("thrown away"), "{}", topic.name());
    }
    assert!(topic("tcp_fin_timeout").unwrap().text.contains("The best known wrong advice"));
}

#[test]
fn names_are_one_topic_each() {
    let mut seen = HashSet::new();
    for name in all().flat_map(|topic| topic.names) {
        assert!(seen.insert(plain(name)), "{name}");
        assert!(topic(name).unwrap().names.contains(name));
    }
}

#[test]
fn topics_are_found_as_people_write_them() {
    for (asked, name) in [
        ("TIME_WAIT", "time-wait"),
        ("time wait", "time-wait"),
        ("net.ipv4.tcp_tw_reuse", "tcp_tw_reuse"),
        ("tcp-tw-reuse", "tcp_tw_reuse"),
        ("EADDRNOTAVAIL", "eaddrnotavail"),
        ("SO_LINGER", "so_linger"),
        ("exhaustion", "exhaustion-near"),
    ] {
        assert_eq!(topic(asked).unwrap().name(), name, "{asked}");
    }
    for (asked, nearest) in [
        ("tcp_tw_resue", "tcp_tw_reuse"),
        ("time_wiat", "time-wait"),
        ("no-conection-reuse", "no-connection-reuse"),
        ("close_wait_leek", "close-wait-leak"),
    ] {
        assert_eq!(topic(asked).unwrap_err(), nearest, "{asked}");
    }
    for asked in ["", "\u{1b}[2J", "ü", &"x".repeat(1 << 20)] {
        assert!(!topic(asked).unwrap_err().is_empty());
    }
}

#[test]
fn topics_are_found_by_the_errors_that_people_see() {
    for (message, name) in [
        ("Cannot assign requested address", "eaddrnotavail"),
        ("dial tcp 10.0.0.9:443: connect: cannot assign requested address", "eaddrnotavail"),
        ("java.net.NoRouteToHostException: Cannot assign requested address (Address not available)", "eaddrnotavail"),
        ("OSError: [Errno 99] Cannot assign requested address", "eaddrnotavail"),
        ("errno 99", "eaddrnotavail"),
        ("System.Net.Sockets.SocketException (99): Cannot assign requested address", "eaddrnotavail"),
        ("SocketException (99)", "eaddrnotavail"),
        ("dial tcp 10.0.0.9:443: bind: address already in use", "eaddrinuse"),
        ("Error: listen EADDRINUSE: address already in use :::3000", "eaddrinuse"),
        ("java.net.BindException: Address already in use", "eaddrinuse"),
        ("TCP: time wait bucket table overflow", "tcp_max_tw_buckets"),
        ("nf_conntrack: nf_conntrack: table full, dropping packet", "conntrack"),
        ("nf_conntrack: table full", "conntrack"),
        ("TCP: too many orphaned sockets", "fin-wait1-pile-up"),
        ("TCP: request_sock_TCP: Possible SYN flooding on port 8080. Dropping request.", "not-accepting"),
        ("dial tcp 10.0.0.9:443: i/o timeout", "connects-fail"),
        ("ECONNREFUSED 127.0.0.1:5432", "connects-fail"),
        ("accept4: too many open files", "close-wait-leak"),
        ("mount.nfs: Address already in use", "privileged-ports"),
        ("socket: Address family not supported by protocol", "ipv6-off"),
        ("read: connection reset by peer", "reset-instead-of-close"),
    ] {
        assert_eq!(topic(message).map(Topic::name), Ok(name), "{message}");
    }
    assert!(topic("errno 990").is_err() && topic("assign").is_err());
    for topic in all() {
        for error in topic.errors {
            assert_eq!(words(error).trim(), *error, "{}", topic.name());
        }
    }
}

#[test]
fn the_list_has_a_line_for_each() {
    let mut out = Vec::new();
    write_list(&mut out).unwrap();
    let list = String::from_utf8(out).unwrap();
    for topic in all() {
        let lines = list.lines().filter(|line| line.split_whitespace().next() == Some(topic.name()));
        assert_eq!(lines.count(), 1, "{}: {list}", topic.name());
    }
    assert!(list.lines().all(|line| text::width(line) <= 80), "{list}");
}
