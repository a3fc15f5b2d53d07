//! A shop with an incident of several minutes: a service stopped pooling its connections, until it was rolled back.

use crate::chance::Noise;
use crate::{
    BuildConnection as _, BuildOwner as _, BuildTuple as _, HOSTILE, MILLISECOND_NS, SECOND_NS, answered,
    connect_failed, hook, kernel, owner, process, process_facts, start, tick, timewait_end, tuple, user,
};
use std::collections::VecDeque;
use twtrace_core::event::{Connection, Event, KernelCounters, KernelFacts, Owner, Role, Tier, TimewaitCause};

const BEGIN_NS: u64 = 5000 * SECOND_NS;
/// The uid of all processes; their cgroup has the same number.
const UID: u32 = 1000;
/// No port was left.
const EADDRNOTAVAIL: u16 = 99;

/// One process of the incident.
struct Worker {
    name: &'static [u8],
    parent: (u32, &'static str),
    /// Number of processes that share the work: they take turns, one connection each.
    processes: u32,
    role: Role,
    address: [u8; 4],
    port: u16,
    /// Connections per second in a quiet minute and at the peak of the incident.
    rate: (f64, f64),
    /// Median lifetime, microseconds.
    lifetime_us: f64,
    cmdline: &'static str,
}

const fn actor(
    name: &'static [u8],
    processes: u32,
    role: Role,
    address: ([u8; 4], u16),
    rate: (f64, f64),
    lifetime_us: f64,
    cmdline: &'static str,
) -> Worker {
    let (address, port) = address;
    Worker { name, parent: (1, "systemd"), processes, role, address, port, rate, lifetime_us, cmdline }
}

/// Ten kinds of processes: more than a plot can distinguish.
fn cast() -> Vec<Worker> {
    use Role::{Active, Passive};
    vec![
        actor(b"checkout", 4, Active, ([10, 0, 1, 7], 5432), (1.0, 60.0), 3e3, "/srv/checkout/bin/checkout --pool 0"),
        actor(b"nginx", 2, Passive, ([10, 0, 0, 1], 443), (4.0, 7.0), 80e3, "nginx: worker process"),
        Worker {
            parent: (812, "healthcheck.sh"),
            ..actor(
                b"curl",
                300,
                Active,
                ([10, 0, 1, 20], 8080),
                (3.0, 3.0),
                12e3,
                "curl -fsS http://10.0.1.20:8080/health",
            )
        },
        actor(b"prometheus", 1, Active, ([10, 0, 2, 3], 9100), (1.0, 1.0), 40e3, "/bin/prometheus"),
        actor(b"redis-cli", 1, Active, ([10, 0, 1, 8], 6379), (0.5, 4.0), 900.0, "redis-cli --scan"),
        actor(b"node", 3, Active, ([10, 0, 3, 1], 443), (0.8, 6.0), 250e3, "node /srv/shop/index.js"),
        actor(b"python3", 1, Active, ([10, 0, 1, 9], 3306), (0.7, 0.7), 7e3, "python3 -m billing.sync"),
        actor(b"java", 1, Active, ([10, 0, 4, 2], 9092), (0.4, 1.5), 4e6, "java -jar events.jar"),
        actor(b"ntp_exporter", 1, Active, ([10, 0, 5, 5], 123), (0.2, 0.2), 2e3, "ntp_exporter"),
        actor(HOSTILE, 1, Active, ([10, 0, 6, 6], 25), (0.1, 0.3), 1e6, "=cmd|' /C calc'!A0 <script>alert(1)</script>"),
    ]
}

/// Intensity of the incident at a given second: 0 when quiet, 1 at its peak.
fn height(second: u64, seconds: u64) -> f64 {
    let at = second as f64 / seconds as f64;
    ((at - 0.4) / 0.1).clamp(0.0, 1.0) * ((0.75 - at) / 0.05).clamp(0.0, 1.0)
}

/// What happened in this many seconds; `worst` is how severe the incident becomes, from 0 to 1.
pub fn events(seconds: u64, worst: f64) -> Vec<Event> {
    let begin = start(BEGIN_NS)
        .host("shop-3", "6.12.48+deb13-amd64", "00000000-0000-4000-8000-000000000001")
        .tier(Tier::Exact)
        .hooks([hook("inet_sock_set_state", "tp_btf"), hook("inet_twsk_alloc", "fexit")]);
    let mut events = vec![begin.event()];
    let cast = cast();
    let mut noise = Noise(1);
    let mut numbers = vec![0_u32; cast.len()];
    let mut cookie = 0;
    let mut alive: VecDeque<(u64, Event)> = VecDeque::new();
    for second in 0..seconds {
        let at_ns = BEGIN_NS + second * SECOND_NS;
        let height = worst * height(second, seconds);
        for (index, actor) in cast.iter().enumerate() {
            let (low, high) = actor.rate;
            let rate = (low + (high - low) * height) * (0.7 + 0.6 * noise.next());
            let many = (rate + noise.next()) as u64;
            for _ in 0..many {
                cookie += 1;
                let number = numbers[index];
                numbers[index] += 1;
                let who = process_of(actor, index as u32, number % actor.processes);
                let end_ns = at_ns + (noise.next() * 0.99 * SECOND_NS as f64) as u64;
                // A wide spread around the median.
                let lifetime_us = actor.lifetime_us * (noise.next() * 4.0 - 2.0).exp();
                let connection = lived(actor, who, cookie, end_ns, lifetime_us as u64);
                let over_ns = at_ns + 60 * SECOND_NS;
                alive.push_back((over_ns, timewait_end(cookie, connection.tuple, TimewaitCause::Expired, over_ns)));
                events.push(connection.event());
            }
            if actor.port == 5432 && height > 0.9 && second % 3 == 0 {
                let opener = process_of(actor, index as u32, 0);
                let to = tuple(0, actor.address, actor.port);
                events.push(connect_failed(opener, to, EADDRNOTAVAIL, at_ns + SECOND_NS / 2));
            }
        }
        while let Some((_, end)) = alive.pop_front_if(|(over_ns, _)| *over_ns <= at_ns) {
            events.push(end);
        }
        events.push(kernel(figures(alive.len() as u64)));
        events.push(tick(at_ns + SECOND_NS - 1));
    }
    for (index, actor) in cast.iter().enumerate() {
        for number in 0..actor.processes.min(5) {
            events.push(process(&process_of(actor, index as u32, number), process_facts(actor.cmdline)));
        }
    }
    events.push(user(1000, "shop"));
    events.push(Event::Counters(KernelCounters { records: cookie, ..KernelCounters::default() }));
    events
}

fn process_of(actor: &Worker, index: u32, number: u32) -> Owner {
    let (parent, name) = actor.parent;
    owner(1000 + index * 1000 + number, actor.name).user(UID).in_cgroup(UID.into()).parent(parent, name)
}

fn lived(actor: &Worker, who: Owner, cookie: u64, end_ns: u64, lifetime_us: u64) -> Connection {
    let port = 32_768 + (cookie % 4000) as u16;
    let tuple = if actor.role == Role::Active {
        tuple(port, actor.address, actor.port)
    } else {
        tuple(actor.port, [192, 0, 2, 9], port).local_addr(actor.address)
    };
    answered(cookie, who, tuple, end_ns).usual(actor.role, true, 2 * MILLISECOND_NS).with(|connection| {
        if let Some(first) = connection.transitions.first_mut() {
            first.at_ns = end_ns.saturating_sub(lifetime_us * 1000).min(first.at_ns + 7_900_000);
        }
    })
}

fn figures(time_wait: u64) -> KernelFacts {
    KernelFacts {
        time_wait,
        max_tw_buckets: 16_384,
        tw_reuse: 2,
        port_range: (32_768, 36_767),
        ..KernelFacts::default()
    }
}
