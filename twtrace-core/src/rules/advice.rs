//! What to change, and its effect in numbers. Nothing here is ever executed.

use super::context::{RuleContext, is_of};
use super::{lasting, settings};
use crate::asked::Asked;
use crate::event::{Comm, KernelFacts, SocketOwner};
use crate::finding::{Advice, Effect, Subject};
use crate::pattern::Burst;
use crate::ports::{Budget, REUSE_SECONDS, Usable};
use crate::snapshot::DestKey;

/// The port range that the advice to widen it names: all unprivileged ports.
const WIDEST: (u16, u16) = (1024, 65_535);

/// So many connections at a time may be those of a pool that is too small.
pub(super) const SEVERAL: u64 = 4;

/// Advice that prevents a smaller share of the failures than this is none.
const LEAST_GAIN: f64 = 0.1;

pub(super) fn effect(figure: &'static str, from: f64, to: f64) -> Effect {
    Effect { figure, from, to }
}

/// Number of connections that carry this many requests per second, each taking this many seconds.
pub(super) fn pool_size(rate_per_s: f64, lifetime_s: f64) -> f64 {
    // A rounding error must not add a connection.
    (rate_per_s * lifetime_s - 1e-9).ceil().max(1.0)
}

/// The connections that a habit creates.
pub(super) struct ConnectionHabit {
    /// The command with the habit; for a server's habit, the server's.
    pub(super) command: Comm,
    /// The service's port.
    pub(super) port: u16,
    /// Connections per second.
    pub(super) rate_per_s: f64,
    /// TIME_WAIT sockets created per second.
    pub(super) created_per_s: f64,
    /// Mean lifetime of a connection, seconds.
    pub(super) lifetime_s: f64,
    /// Most connections at a time.
    pub(super) at_a_time: u64,
    /// How many processes have it: each needs connections of its own.
    pub(super) processes: u64,
}

/// Keep connections open and reuse them.
pub(super) fn pool(habit: &ConnectionHabit) -> Advice {
    let ConnectionHabit { command, port, rate_per_s, created_per_s, lifetime_s, at_a_time, processes } = *habit;
    // The mean is too few at the peak: the rest would be opened for one request again.
    let size = pool_size(rate_per_s, lifetime_s).max(at_a_time as f64);
    let (each, whose) = match processes {
        0 | 1 => (size, String::new()),
        several => ((size / several as f64).ceil(), format!(" in each of the {several} processes")),
    };
    let needed = each * processes.max(1) as f64;
    let milliseconds = lifetime_s * 1e3;
    let open = if at_a_time > 1 { at_a_time as f64 } else { rate_per_s * lifetime_s };
    let most = if at_a_time > 1 { format!(", up to {at_a_time} at a time") } else { String::new() };
    // Its connections look the same as those of no pool.
    let smaller = if at_a_time >= SEVERAL { " A pool that keeps fewer closes the others after use." } else { "" };
    Advice {
        id: "pool-connections",
        text: format!(
            "Keep connections open and use them again: a pool of {each:.0}{whose} carries this traffic \
             ({rate_per_s:.1}/s, {milliseconds:.1} ms each{most}).{smaller}"
        ),
        command: Some(settings::pool(&command, port, each)),
        effect: vec![effect("time_wait_created_per_s", created_per_s, 0.0), effect("connections_needed", open, needed)],
        risk: format!(
            "The peer may have closed an idle connection by the time it is used again: retry once. A larger burst than \
             any so far needs a larger pool.{}",
            settings::risk(&command, port)
        ),
    }
}

/// Fewer connections at a time, which are used again: the work of a burst is spread over the time until the next one.
pub(super) fn at_a_time(habit: &ConnectionHabit, burst: Burst) -> Advice {
    let ConnectionHabit { command, port, created_per_s, lifetime_s, at_a_time, .. } = *habit;
    let connections = burst.connections as f64;
    let within_s = (burst.period_s / 2.0).max(burst.seconds);
    let size = pool_size(connections / within_s, lifetime_s).min(connections);
    Advice {
        id: "limit-connects",
        text: format!(
            "Limit how many connections are open at a time, and use them again: {size:.0} do the work of {connections:.0} at \
             once within {within_s:.1} s, and nothing else comes for {:.1} s.",
            burst.quiet_s
        ),
        command: Some(settings::limit(&command, port, size)),
        effect: vec![
            effect("time_wait_created_per_s", created_per_s, 0.0),
            effect("connections_needed", at_a_time.max(1) as f64, size),
        ],
        risk: "The last request of a burst is answered later than now.".to_owned(),
    }
}

/// The server keeps connections open for its clients.
pub(super) fn keep_alive(server: &Comm, created_per_s: f64) -> Advice {
    Advice {
        id: "keep-alive",
        text: "Let the server keep connections open for the next request (for HTTP: version 1.1 without `Connection: \
               close`, a keep-alive timeout of some seconds), and make sure that clients do not ask it to close."
            .to_owned(),
        command: Some(settings::keep_alive(server).to_owned()),
        effect: vec![effect("time_wait_created_per_s", created_per_s, 0.0)],
        risk: format!(
            "Each idle connection keeps a descriptor and some memory: bound their number and their idle time.{}",
            settings::keep_alive_risk(server)
        ),
    }
}

/// The same for a server that keeps them open by default.
pub(super) fn if_nobody_asks(keep_alive: Advice) -> Advice {
    Advice {
        text: "If no client asks for it, keep-alive is switched off in the configuration of the server.".to_owned(),
        effect: Vec::new(),
        ..keep_alive
    }
}

/// The clients of a server keep their connections open.
pub(super) fn keep_alive_clients(created_per_s: f64) -> Advice {
    Advice {
        id: "keep-alive-clients",
        text: "Let the clients keep their connections open: no `Connection: close`, no HTTP/1.0, one client object for all \
               requests (`ab -k`, in node an Agent with keepAlive)."
            .to_owned(),
        command: None,
        effect: vec![effect("time_wait_created_per_s", created_per_s, 0.0)],
        risk: "The server may close an idle connection just as a request is sent: such requests must be safe to retry."
            .to_owned(),
    }
}

/// A program that runs once per request hands its work to a long-running process.
pub(super) fn one_process(habit: &ConnectionHabit) -> Advice {
    let settings::Batch { text, command, risk } = settings::batch(&habit.command, habit.port);
    let mut advice = Advice { text: text.to_owned(), command: Some(command), risk: risk.to_owned(), ..pool(habit) };
    // It has one.
    advice.effect.retain(|effect| effect.figure != "connections_needed");
    advice
}

/// bind(2) leaves the port to connect(2).
pub(super) fn bind_address_no_port(ports_bound: u64, command: Option<Comm>) -> Advice {
    Advice {
        id: "bind-address-no-port",
        text:
            "Bind the address alone: set IP_BIND_ADDRESS_NO_PORT before bind(2), and connect(2) chooses a port for its \
               destination. Most proxies have an option for it, or do so when no source port is configured."
                .to_owned(),
        command: Some(settings::no_port(&command.unwrap_or_default()).to_owned()),
        effect: vec![effect("ports_bound", ports_bound as f64, 0.0)],
        risk: "Linux 4.2 or newer. getsockname(2) returns port 0 before the connect. Until the program is changed, a \
               restart frees the ports of its open connections."
            .to_owned(),
    }
}

/// Prefixes a command so that it runs in the network namespace that it is about: through a process of that namespace if
/// one is known, or through any that `lsns` finds. (A namespace's name may be a container's, which `ip netns` does not
/// know.)
pub(super) fn there(context: &RuleContext<'_>, netns: u32, subject: Option<&Subject>, command: &str) -> String {
    if netns == context.snapshot.summary().host.netns || netns == 0 {
        return command.to_owned();
    }
    let process = subject.and_then(|subject| subject.process);
    // A process with sockets there is alive; a process that ran for one request may have exited.
    let socket_owners = context.socket_owners(|owner| owner.netns == netns);
    let is_it = |owner: &SocketOwner| process.is_some_and(|process| is_of(owner, process));
    let owner = socket_owners.min_by_key(|owner| (!is_it(owner), owner.start_ns, owner.tgid));
    match owner.map(|owner| owner.tgid).or(process.map(|process| process.tgid)) {
        Some(tgid) => format!("nsenter -t {tgid} -n {command}"),
        None => {
            let inode = context.snapshot.summary().inode(netns);
            format!("nsenter -t \"$(lsns -t net -n -o NS,PID | awk '$1 == {inode} {{ print $2 }}')\" -n {command}")
        }
    }
}

/// connect(2) reuses TIME_WAIT sockets. `None` where it already does, or cannot.
pub(super) fn tw_reuse(
    context: &RuleContext<'_>,
    key: DestKey,
    budget: &Budget,
    subject: Option<&Subject>,
) -> Option<Advice> {
    let kernel = context.kernel(key)?;
    let is_useless = has_no_timestamps(kernel) || budget.lacks_timestamps();
    if is_reuse_on(kernel, key) || is_useless || budget.hold_seconds <= REUSE_SECONDS {
        return None;
    }
    let delay = kernel.tw_reuse_delay_ms.map_or(REUSE_SECONDS, |ms| f64::from(ms) / 1e3).max(1e-3);
    let sustained = f64::from(standing_free(budget)) / delay;
    let (value, middle) = if key.is_loopback() {
        ("2", "")
    } else {
        (
            "1",
            " Behind a source NAT, a firewall that tracks connections or a load balancer, a connect may meet an entry that \
             still waits, and lose a second.",
        )
    };
    Some(Advice {
        id: "tcp-tw-reuse",
        text: format!(
            "Let connects take over TIME_WAIT sockets that are older than {} ms: the range then lasts for \
             {sustained:.0} connections/s.",
            (delay * 1e3).round()
        ),
        command: Some(there(context, key.netns, subject, &format!("sysctl -w net.ipv4.tcp_tw_reuse={value}"))),
        effect: with_fewer_failures(
            asked(context, key, budget).map(|asked| (asked, asked.refused_with(budget.total, delay))),
            vec![effect("max_rate_per_s", budget.max_rate_per_s, sustained)],
        )?,
        risk: format!(
            "Only for outgoing connections with TCP timestamps on both ends. Sockets that still wait for the FIN of their \
             peer are never taken over. It frees ports, but each request still costs a handshake.{middle} {}",
            lasting::note(context, key.netns, subject, "net.ipv4.tcp_tw_reuse", value)
        ),
    })
}

/// Whether connections of that namespace have no TCP timestamps, whatever their peers do.
pub(super) fn has_no_timestamps(kernel: &KernelFacts) -> bool {
    kernel.timestamps == Some(0)
}

/// Whether tcp_tw_reuse applies to a destination: 2 is for loopback alone.
fn is_reuse_on(kernel: &KernelFacts, key: DestKey) -> bool {
    kernel.tw_reuse == 1 || kernel.tw_reuse == 2 && key.is_loopback()
}

/// tcp_tw_reuse works as soon as there are timestamps. `None` where this host is not the reason that there are none.
pub(super) fn timestamps(context: &RuleContext<'_>, key: DestKey, subject: Option<&Subject>) -> Option<Advice> {
    context.kernel(key).filter(|kernel| has_no_timestamps(kernel) && is_reuse_on(kernel, key))?;
    Some(Advice {
        command: Some(there(context, key.netns, subject, "sysctl -w net.ipv4.tcp_timestamps=1")),
        ..plain(
            "tcp-timestamps",
            "Switch TCP timestamps on: without them no connect takes over a TIME_WAIT socket, whatever tcp_tw_reuse is.",
            "It helps connections that begin afterwards; the sockets of the present ones keep their ports for a minute.",
        )
    })
}

/// Ports that are neither bound nor used by open connections.
fn standing_free(budget: &Budget) -> u32 {
    [budget.bound, budget.established, budget.other].into_iter().fold(budget.total, u32::saturating_sub)
}

/// More ports. `None` where the gain is small.
pub(super) fn wider_range(
    context: &RuleContext<'_>,
    key: DestKey,
    budget: &Budget,
    subject: Option<&Subject>,
) -> Option<Advice> {
    let kernel: &KernelFacts = context.kernel(key)?;
    let total = Usable::new(WIDEST, &kernel.reserved_ports)?.total();
    if f64::from(total) < 1.2 * f64::from(budget.total) {
        return None;
    }
    let (low, high) = WIDEST;
    let more = f64::from(total) - f64::from(budget.total);
    Some(Advice {
        id: "wider-port-range",
        text: format!("Widen the range of local ports to {low}-{high}: {total} instead of {}.", budget.total),
        command: Some(there(
            context,
            key.netns,
            subject,
            &format!("sysctl -w net.ipv4.ip_local_port_range=\"{low} {high}\""),
        )),
        effect: with_fewer_failures(
            asked(context, key, budget).map(|asked| (asked, asked.refused_with(total, budget.hold_seconds))),
            vec![
                effect("ports_total", budget.total.into(), total.into()),
                effect(
                    "max_rate_per_s",
                    budget.max_rate_per_s,
                    budget.max_rate_per_s + more / budget.hold_seconds.max(1e-3),
                ),
            ],
        )?,
        risk: format!(
            "A service that starts later may find its port taken by a connection: list the ports of services in \
             net.ipv4.ip_local_reserved_ports first. {}",
            lasting::note(context, key.netns, subject, "net.ipv4.ip_local_port_range", &format!("{low} {high}"))
        ),
    })
}

/// More addresses or ports on either side.
pub(super) fn more_addresses(
    context: &RuleContext<'_>,
    key: DestKey,
    budget: &Budget,
    subject: Option<&Subject>,
) -> Option<Advice> {
    let length = if key.local_addr.is_ipv6() { 128 } else { 32 };
    let command = format!("ip address add ADDRESS/{length} dev DEVICE");
    let asked = asked(context, key, budget);
    let addresses = asked.map_or(Some(2), |asked| asked.addresses(budget.hold_seconds))?.max(2);
    let enough = asked.map_or(String::new(), |_| format!(" {addresses} carry this traffic."));
    // All of 127.0.0.0/8 is there already.
    let is_there = key.local_addr.is_loopback() && key.local_addr.is_ipv4();
    let rate = budget.max_rate_per_s;
    Some(Advice {
        id: "more-addresses",
        text: format!(
            "Spread over more source addresses, destination addresses or destination ports: each combination has the \
             whole range for itself.{enough} The program has to bind or to be given each of them."
        ),
        command: (!is_there).then(|| there(context, key.netns, subject, &command)),
        effect: with_fewer_failures(
            asked.map(|asked| (asked, 0.0)),
            vec![effect("max_rate_per_s", rate, f64::from(addresses) * rate)],
        )?,
        risk: format!(
            "The figure is for {addresses} of them. A source address that is bound needs IP_BIND_ADDRESS_NO_PORT."
        ),
    })
}

/// What was asked of the ports, where connects fail and TIME_WAIT sockets have most of them.
fn asked<'a>(context: &RuleContext<'a>, key: DestKey, budget: &Budget) -> Option<&'a Asked> {
    let asked = context.row(key)?.asked.as_deref()?;
    (2 * budget.time_wait >= budget.used && asked.refused_per_s() > 0.0).then_some(asked)
}

/// The effects, and first that on the connects that fail. `None` where hardly fewer would fail: that is no advice.
fn with_fewer_failures(failures: Option<(&Asked, f64)>, others: Vec<Effect>) -> Option<Vec<Effect>> {
    let Some((asked, with)) = failures else { return Some(others) };
    let now = asked.refused_per_s();
    let is_better = with <= (1.0 - LEAST_GAIN) * now;
    is_better.then(|| [vec![effect("connect_failures_per_s", now, with)], others].concat())
}

/// The other end closes first. `None` where that end is also on this host: the sockets would only move.
fn let_peer_close(context: &RuleContext<'_>, key: DestKey, budget: &Budget) -> Option<Advice> {
    if context.is_local(key) || budget.time_wait == 0 {
        return None;
    }
    Some(Advice {
        id: "let-peer-close",
        text: "Let the other end close first: the end that closes first gets the TIME_WAIT socket. At a server it \
               takes no ephemeral port. With HTTP, the client sends `Connection: close` and the server closes."
            .to_owned(),
        command: Some("send `Connection: close`, and read to the end before close(2)".to_owned()),
        effect: vec![effect("time_wait_created_per_s", (budget.rate_per_s - budget.growth_per_s).max(0.0), 0.0)],
        risk:
            "It moves the sockets to the other host, where they take memory. Each request still costs a handshake. A \
               client that waits for the close needs a timeout."
                .to_owned(),
    })
}

/// The advice that gains ports and applies here.
/// `bound`: most connections bind their port first.
pub(super) fn room(
    context: &RuleContext<'_>,
    key: DestKey,
    budget: &Budget,
    subject: Option<&Subject>,
    bound: bool,
) -> Vec<Advice> {
    let reuse = if bound { None } else { tw_reuse(context, key, budget, subject) };
    let mut room: Vec<Advice> = reuse.into_iter().collect();
    room.extend(if bound { None } else { timestamps(context, key, subject) });
    room.extend(wider_range(context, key, budget, subject));
    room.extend(more_addresses(context, key, budget, subject));
    room.extend(let_peer_close(context, key, budget));
    room
}

/// Advice without figures.
pub(super) fn plain(id: &'static str, text: &str, risk: &str) -> Advice {
    Advice { id, text: text.to_owned(), command: None, effect: Vec::new(), risk: risk.to_owned() }
}
