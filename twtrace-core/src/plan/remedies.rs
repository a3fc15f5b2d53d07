//! What each remedy gains.

use super::{Change, Outcome, Plan, connections_needed};

/// Requests per connection in the table of remedies: a common server setting, well below the limits of most servers.
pub const KEEP_ALIVE_REQUESTS: u32 = 100;

/// The widest range that leaves the well-known ports alone.
pub const WIDE_RANGE: (u16, u16) = (1024, 65_535);

/// A change, and its result.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Remedy {
    /// Stable name: `pool-connections`, `keep-alive`, `let-peer-close`, `bind-address-no-port`, `tcp-tw-reuse`,
    /// `wider-port-range`, `more-source-addresses`, `more-destinations`, `bucket-limit`.
    pub id: &'static str,
    /// What to change, a few words.
    pub text: String,
    /// The exact command or setting.
    pub command: String,
    /// What it costs or may break, one sentence.
    pub risk: &'static str,
    /// Why it changes nothing here; `None` if it does.
    pub without_effect: Option<&'static str>,
    /// The result of the changed plan.
    pub outcome: Outcome,
}

/// All remedies; those that remove the cause come first. Not among them: `tcp_tw_recycle` (removed in Linux 4.12),
/// `tcp_fin_timeout` (does not affect TIME_WAIT) and `SO_LINGER` 0 (loses data).
pub fn remedies(plan: &Plan) -> Vec<Remedy> {
    vec![
        pool(plan),
        keep_alive(plan),
        peer_closes(plan),
        no_port_at_bind(plan),
        reuse(plan),
        range(plan),
        sources(plan),
        destinations(plan),
        buckets(plan),
    ]
}

fn pool(plan: &Plan) -> Remedy {
    let size = connections_needed(plan.rate_per_s, plan.lifetime_s);
    // Without a lifetime the size is unknown, and "1" would be a promise.
    let (text, command) = if plan.lifetime_s > 0.0 && size > 0 {
        let connections = if size == 1 { "connection" } else { "connections" };
        let command = format!("in the client: a pool of at least {size}, and as many idle ones kept open");
        (format!("reuse {size} pooled {connections}"), command)
    } else {
        let command = "in the client: a pool of rate x lifetime connections, and as many idle ones kept open";
        ("reuse pooled connections".to_owned(), command.to_owned())
    };
    Remedy {
        id: "pool-connections",
        text,
        command,
        risk: "Requests wait if the pool is too small. The server must keep idle connections open.",
        without_effect: plan.pooled.then_some("connections are pooled already"),
        outcome: plan.after(Change::Pool).outcome(),
    }
}

fn keep_alive(plan: &Plan) -> Remedy {
    let already = plan.pooled || plan.requests_per_connection >= f64::from(KEEP_ALIVE_REQUESTS);
    // A plan that already has more requests per connection keeps them.
    let after = if already { plan.clone() } else { plan.after(Change::KeepAlive(KEEP_ALIVE_REQUESTS)) };
    Remedy {
        id: "keep-alive",
        text: format!("keep-alive, {KEEP_ALIVE_REQUESTS} requests each"),
        command: "nginx as a proxy: upstream { keepalive 32; } with proxy_http_version 1.1 and proxy_set_header \
                  Connection \"\""
            .to_owned(),
        risk: "The server may close an idle connection just as a request is sent: such requests must be safe to retry.",
        without_effect: already.then_some("connections carry as many requests already"),
        outcome: after.outcome(),
    }
}

fn peer_closes(plan: &Plan) -> Remedy {
    Remedy {
        id: "let-peer-close",
        text: "let the peer close first".to_owned(),
        command: "HTTP: send `Connection: close` and read to the end before close()".to_owned(),
        risk: "The peer then has the TIME_WAIT sockets, which cost it memory, and the client waits for its close.",
        without_effect: (!plan.closes_first).then_some("the peer closes first already"),
        outcome: plan.after(Change::PeerCloses).outcome(),
    }
}

fn no_port_at_bind(plan: &Plan) -> Remedy {
    Remedy {
        id: "bind-address-no-port",
        text: "bind without a port".to_owned(),
        command: "setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) before bind()".to_owned(),
        risk: "getsockname() has no port before connect(), so code that reads it earlier breaks.",
        without_effect: (plan.bound_share <= 0.0).then_some("no socket is bound before it connects"),
        outcome: plan.after(Change::NoPortAtBind).outcome(),
    }
}

fn reuse(plan: &Plan) -> Remedy {
    let after = plan.after(Change::Reuse);
    let without_effect = if plan.bound_share >= 1.0 {
        Some("sockets that are bound first do not reuse")
    } else if plan.reuse_seconds().is_some() {
        Some("TIME_WAIT sockets are reused already")
    } else if after.reuse_seconds().is_none() {
        Some("tcp_tw_reuse_delay is as long as TIME_WAIT")
    } else if !plan.closes_first || plan.pooled {
        Some("this host keeps no TIME_WAIT sockets")
    } else {
        None
    };
    let command = if plan.timestamps {
        "sysctl -w net.ipv4.tcp_tw_reuse=1"
    } else {
        "sysctl -w net.ipv4.tcp_timestamps=1 net.ipv4.tcp_tw_reuse=1"
    };
    Remedy {
        id: "tcp-tw-reuse",
        text: "tcp_tw_reuse=1".to_owned(),
        command: command.to_owned(),
        risk: "Safe only with TCP timestamps on both sides. It helps connect() only, and not while the socket is in \
               FIN_WAIT2.",
        without_effect,
        // If the remedy has no effect, timestamps and the mode stay unchanged.
        outcome: if without_effect.is_some() { plan.outcome() } else { after.outcome() },
    }
}

fn range(plan: &Plan) -> Remedy {
    // A range that starts lower is not narrowed.
    let (low, high) = (plan.range.0.min(WIDE_RANGE.0), WIDE_RANGE.1);
    let (low, high) = if plan.range.0 == 0 { WIDE_RANGE } else { (low, high) };
    let after = plan.after(Change::Range(low, high));
    let gains = after.outcome().ports_available > plan.outcome().ports_available;
    Remedy {
        id: "wider-port-range",
        text: format!("port range {low}-{high}"),
        command: format!("sysctl -w net.ipv4.ip_local_port_range=\"{low} {high}\""),
        risk: "Connections may take a port that a service wants to listen on: put those into ip_local_reserved_ports \
               first.",
        without_effect: (!gains).then_some("the range is as wide already"),
        outcome: after.outcome(),
    }
}

fn sources(plan: &Plan) -> Remedy {
    let addresses = plan.source_addresses.max(1).saturating_add(1);
    Remedy {
        id: "more-source-addresses",
        text: if addresses == 2 {
            "a second source address".to_owned()
        } else {
            format!("{addresses} source addresses")
        },
        command: "ip address add ADDRESS/32 dev DEVICE, and in the client IP_BIND_ADDRESS_NO_PORT with bind(ADDRESS, \
                  port 0), in turn"
            .to_owned(),
        risk: "Firewalls, allow lists and logs of the peer must know the new address; without IP_BIND_ADDRESS_NO_PORT \
               bind() takes ports for all destinations.",
        without_effect: None,
        outcome: plan.after(Change::Sources(addresses)).outcome(),
    }
}

fn destinations(plan: &Plan) -> Remedy {
    let destinations = plan.destinations.max(1).saturating_add(1);
    Remedy {
        id: "more-destinations",
        text: if destinations == 2 {
            "a second destination".to_owned()
        } else {
            format!("{destinations} destinations")
        },
        command: "let the service listen on one more port or address, and the client use them in turn".to_owned(),
        risk: "Helps only when the traffic is spread evenly, and load balancers and health checks must know of it.",
        without_effect: (plan.bound_share >= 1.0)
            .then_some("ports that are bound first are taken for all destinations"),
        outcome: plan.after(Change::Destinations(destinations)).outcome(),
    }
}

fn buckets(plan: &Plan) -> Remedy {
    let outcome = plan.outcome();
    // There cannot be more sockets than ports, but a limit should have headroom.
    let wanted = plan.after(Change::Buckets(u64::MAX)).outcome().time_wait.ceil() as u64;
    let limit = plan.max_tw_buckets.unwrap_or(0);
    let raised = wanted.saturating_add(wanted / 4).max(limit);
    let after = if outcome.overflows { plan.after(Change::Buckets(raised)) } else { plan.clone() };
    Remedy {
        id: "bucket-limit",
        text: if outcome.overflows { format!("tcp_max_tw_buckets={raised}") } else { "tcp_max_tw_buckets".to_owned() },
        command: format!("sysctl -w net.ipv4.tcp_max_tw_buckets={raised}"),
        risk: "Costs memory, and each port stays in use for the whole minute. In return, no old segment reaches a new \
               connection.",
        without_effect: (!outcome.overflows).then_some("the limit is not reached"),
        outcome: after.outcome(),
    }
}
