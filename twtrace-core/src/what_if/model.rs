//! The requests once more, one after the other.

use super::demands::{Demand, Demands, Flow, Held, Local};
use super::ports::{Ports, Space};
use super::{Change, Fullest, Outcome};
use crate::event::{CensusState, KernelFacts};
use crate::ports::{Usable, is_loopback, reuse_seconds};
use crate::table::Map;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::IpAddr;

/// Ports of a namespace of which nothing is known: the kernel's default.
const RANGE: (u16, u16) = (32_768, 60_999);

/// How clients use their connections.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    /// Idle connections that are kept, and requests that each carries; `None` without keep-alive.
    keeps: Option<(usize, u32)>,
    limit: Option<u32>,
    addresses: u16,
}

/// A namespace under the changes.
struct Place {
    kernel: KernelFacts,
    usable: Usable,
    ports: Ports,
    time_waits: u64,
}

#[derive(Default)]
struct Client {
    /// Connections that wait for the next request, the newest last.
    idle: Vec<u32>,
    /// Requests in progress.
    active: u32,
    /// Requests that wait.
    queue: VecDeque<u32>,
    /// Whose turn it is of the source addresses.
    turn: u16,
}

/// A connection that is open.
#[derive(Clone, Copy)]
struct Open {
    /// The request that opened it, or the one that it carries.
    demand: u32,
    /// Space and port, for those that were opened here.
    place: Option<(u32, u16)>,
    bound: bool,
    requests: u32,
}

/// What happens at a later time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    /// A request has been answered, on this connection.
    Answered(u32),
    /// The TIME_WAIT socket of a port expires.
    Expires { space: u32, port: u16, bound: bool },
    /// Another TIME_WAIT socket does, in this namespace.
    Gone { netns: u32, is_shown: bool },
    /// A socket that was open when the trace began is closed.
    Released { space: u32, port: u16 },
}

struct Run<'a> {
    all: &'a Demands,
    habits: Habits,
    places: Map<u32, Place>,
    ranges: Map<(u32, u16, u16), Usable>,
    /// Numbers of source addresses.
    addresses: Map<(IpAddr, u16), u32>,
    /// With its namespace and its source address.
    spaces: Vec<(Space, u32, u32)>,
    space_numbers: Map<(u32, IpAddr, IpAddr, u16, u16), u32>,
    clients: Vec<Client>,
    open: Vec<Open>,
    free: Vec<u32>,
    later: BinaryHeap<Reverse<(u64, Later)>>,
    typical: Typical,
    now_ns: u64,
    /// When the last request will have been answered.
    answered_ns: u64,
    time_waits: u64,
    outcome: Outcome,
}

/// How long requests last, for those of which it is not known, nanoseconds.
struct Typical {
    of_clients: Vec<Option<u64>>,
    of_all: u64,
}

impl Typical {
    fn new(all: &Demands) -> Self {
        let mut sums = vec![(0_u64, 0_u64); all.clients()];
        let mut sum = (0_u64, 0_u64);
        for demand in all.demands.iter().filter(|demand| !demand.failed && !demand.flow_is_accepted(all)) {
            for place in [&mut sums[demand.client as usize], &mut sum] {
                *place = (place.0.saturating_add(demand.lasts_ns), place.1 + 1);
            }
        }
        let mean = |(sum, number): (u64, u64)| sum.checked_div(number);
        Self { of_clients: sums.into_iter().map(mean).collect(), of_all: mean(sum).unwrap_or(0) }
    }
}

impl Demand {
    fn flow_is_accepted(&self, all: &Demands) -> bool {
        all.flows[self.flow as usize].is_accepted
    }
}

impl Demands {
    /// Lets it happen, with these changes.
    pub fn run(&self, changes: &[Change]) -> Outcome {
        let mut run = Run::new(self, changes);
        run.begin();
        let mut order: Vec<u32> = (0..self.demands.len() as u32).collect();
        order.sort_by_key(|at| self.demands[*at as usize].begin_ns);
        for at in order {
            let begin_ns = self.demands[at as usize].begin_ns;
            run.until(begin_ns);
            run.asked(at, begin_ns);
        }
        // One that found no port at the end of the trace would have lasted longer.
        while run.answered_ns > run.now_ns {
            run.until(run.answered_ns);
        }
        run.outcome
    }
}

impl<'a> Run<'a> {
    fn new(all: &'a Demands, changes: &[Change]) -> Self {
        let mut habits = Habits { addresses: 1, ..Habits::default() };
        for change in changes {
            let (idle, requests) = habits.keeps.unwrap_or((usize::MAX, u32::MAX));
            match change {
                Change::Pool(size) => habits.keeps = Some((*size as usize, requests)),
                Change::KeepAlive(most) => habits.keeps = Some((idle, *most)),
                Change::Limit(limit) => habits.limit = Some(*limit),
                Change::Addresses(addresses) => habits.addresses = *addresses,
                Change::Reuse(_) | Change::Range(..) | Change::Buckets(_) => {}
            }
        }
        let mut run = Self {
            all,
            habits,
            places: Map::default(),
            ranges: Map::default(),
            addresses: Map::default(),
            spaces: Vec::new(),
            space_numbers: Map::default(),
            clients: Vec::new(),
            open: Vec::new(),
            free: Vec::new(),
            later: BinaryHeap::new(),
            typical: Typical::new(all),
            now_ns: 0,
            answered_ns: 0,
            time_waits: 0,
            outcome: Outcome::default(),
        };
        run.clients.resize_with(all.clients(), Client::default);
        let of_held = all.held().map(|held| held.tuple.netns);
        for netns in all.flows.iter().map(|flow| flow.netns).chain(of_held) {
            run.places.entry(netns).or_insert_with(|| Place::new(all.kernel(netns), changes));
        }
        run
    }

    /// Sockets of before the trace, and those that outlast it.
    fn begin(&mut self) {
        let mut held: Vec<&Held> = self.all.held().collect();
        // The order of a table is not one to count on.
        held.sort_by_key(|held| (held.since_ns, held.tuple.local_port, held.tuple.remote_port));
        for held in held {
            let tuple = held.tuple;
            let is_shown = self.all.shows(&tuple);
            if held.state.is_timewait() {
                self.waits(tuple.netns, is_shown, held.since_ns);
            }
            let address = self.address(tuple.local_addr, 0);
            let Some(place) = self.places.get_mut(&tuple.netns) else { continue };
            if !place.usable.has(tuple.local_port) {
                if held.state.is_timewait() {
                    self.at(held.until_ns, Later::Gone { netns: tuple.netns, is_shown });
                }
                continue;
            }
            if matches!(held.state, CensusState::Listen | CensusState::Bound) {
                place.ports.bind(address, tuple.local_port);
                continue;
            }
            let flow = Flow {
                netns: tuple.netns,
                local: (tuple.local_addr, 0),
                remote: (tuple.remote_addr, tuple.remote_port),
                is_accepted: false,
            };
            let space = self.space(&flow, 0);
            let (ports, port) = (&mut self.spaces[space as usize].0, tuple.local_port);
            if held.state.is_timewait() {
                ports.wait(port, held.until_ns, u64::MAX, is_shown);
                self.at(held.until_ns, Later::Expires { space, port, bound: false });
            } else {
                ports.take(port);
                self.at(held.until_ns, Later::Released { space, port });
            }
        }
    }

    fn at(&mut self, at_ns: u64, what: Later) {
        self.later.push(Reverse((at_ns, what)));
    }

    /// Time passes.
    fn until(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some(Reverse((at_ns, what))) = self.later.peek().copied() {
            if at_ns > now_ns {
                return;
            }
            self.later.pop();
            match what {
                Later::Answered(number) => self.answered(number, at_ns),
                Later::Gone { netns, is_shown } => self.gone(netns, is_shown),
                Later::Released { space, port } => self.spaces[space as usize].0.free(port),
                Later::Expires { space, port, bound } => {
                    let (its, netns, _) = &mut self.spaces[space as usize];
                    let netns = *netns;
                    if let Some(is_shown) = its.expire(port, at_ns) {
                        self.release(space, port, bound);
                        self.gone(netns, is_shown);
                    }
                }
            }
        }
    }

    /// A port of a space is free again, for bind(2) as well.
    fn release(&mut self, space: u32, port: u16, bound: bool) {
        let (its, netns, address) = &mut self.spaces[space as usize];
        let Some(place) = self.places.get_mut(netns) else { return };
        if bound {
            its.unbind();
            place.ports.unbind(*address, port);
        } else {
            place.ports.release(*address, port);
        }
    }

    /// A process asks for a connection.
    fn asked(&mut self, at: u32, now_ns: u64) {
        let demand = &self.all.demands[at as usize];
        let client = &mut self.clients[demand.client as usize];
        let is_limited = demand.is_shown && self.habits.limit.is_some_and(|limit| client.active >= limit);
        if is_limited && !matches!(demand.local, Local::Given(_)) {
            client.queue.push_back(at);
        } else {
            self.serve(at, now_ns);
        }
    }

    fn serve(&mut self, at: u32, now_ns: u64) {
        let all = self.all;
        let demand = &all.demands[at as usize];
        let client = &mut self.clients[demand.client as usize];
        let number = if let Some(number) = client.idle.pop() {
            let open = &mut self.open[number as usize];
            (open.demand, open.requests) = (at, open.requests + 1);
            number
        } else {
            let Some(open) = self.open(at, demand, now_ns) else { return };
            match self.free.pop() {
                Some(number) => {
                    self.open[number as usize] = open;
                    number
                }
                None => {
                    self.open.push(open);
                    self.open.len() as u32 - 1
                }
            }
        };
        self.clients[demand.client as usize].active += 1;
        let lasts_ns = if demand.failed {
            self.typical.of_clients[demand.client as usize].unwrap_or(self.typical.of_all)
        } else {
            demand.lasts_ns
        };
        let at_ns = now_ns.saturating_add(lasts_ns);
        self.answered_ns = self.answered_ns.max(at_ns);
        self.at(at_ns, Later::Answered(number));
    }

    /// A new connection, if there is a port.
    fn open(&mut self, at: u32, demand: &Demand, now_ns: u64) -> Option<Open> {
        let flow = &self.all.flows[demand.flow as usize];
        if flow.is_accepted {
            return Some(Open { demand: at, place: None, bound: false, requests: 1 });
        }
        let client = &mut self.clients[demand.client as usize];
        let turn = if demand.is_shown { client.turn } else { 0 };
        client.turn = (client.turn + 1) % self.habits.addresses;
        let space = self.space(flow, turn);
        let range = if let Local::Chosen(Some(own)) = demand.local { own } else { (0, 0) };
        let usable = usable(&mut self.ranges, &self.places, flow.netns, range)?;
        let (its, _, address) = &mut self.spaces[space as usize];
        let ports = &mut self.places.get_mut(&flow.netns)?.ports;
        let found = match demand.local {
            Local::Chosen(_) => its.connect(now_ns, usable, *address, ports),
            Local::Bound => ports.choose(*address, usable).map(|port| {
                ports.bind(*address, port);
                its.bind(port);
                (port, None)
            }),
            Local::Given(port) => {
                its.take(port);
                Some((port, None))
            }
        };
        let bound = demand.local == Local::Bound;
        let Some((port, replaced)) = found else {
            if demand.is_shown {
                self.outcome.failed += 1;
                let since_ns = now_ns.saturating_sub(self.all.start_ns);
                self.outcome.first_failed_ns.get_or_insert(since_ns);
            }
            return None;
        };
        if demand.is_shown {
            self.outcome.opened += 1;
            let (used, total) = (its.used_with(ports), usable.total());
            let is_fuller = self.outcome.fullest.as_ref().is_none_or(|fullest| {
                u64::from(used) * u64::from(fullest.total) > u64::from(fullest.ports) * u64::from(total)
            });
            if is_fuller {
                self.outcome.fullest = Some(Fullest {
                    local_addr: flow.local.0,
                    remote_addr: flow.remote.0,
                    remote_port: flow.remote.1,
                    ports: used.min(total),
                    total,
                });
            }
        }
        if let Some(is_shown) = replaced {
            self.gone(flow.netns, is_shown);
        }
        Some(Open { demand: at, place: Some((space, port)), bound, requests: 1 })
    }

    fn answered(&mut self, number: u32, now_ns: u64) {
        let open = self.open[number as usize];
        let demand = &self.all.demands[open.demand as usize];
        let client = &mut self.clients[demand.client as usize];
        client.active = client.active.saturating_sub(1);
        let is_kept = demand.is_shown
            && demand.may_be_kept
            && self.habits.keeps.is_some_and(|(idle, requests)| client.idle.len() < idle && open.requests < requests);
        if is_kept {
            client.idle.push(number);
        } else {
            self.close(number, now_ns);
        }
        let client = &mut self.clients[demand.client as usize];
        if let Some(next) = client.queue.pop_front() {
            self.serve(next, now_ns);
        }
    }

    fn close(&mut self, number: u32, now_ns: u64) {
        let all = self.all;
        let open = self.open[number as usize];
        self.free.push(number);
        let demand = &all.demands[open.demand as usize];
        let flow = &all.flows[demand.flow as usize];
        let Some(place) = self.places.get(&flow.netns) else { return };
        let ends_ns = now_ns.saturating_add(place.kernel.time_wait_ns());
        let netns = flow.netns;
        let waits = demand.waits && self.waits(netns, demand.is_shown, now_ns);
        if demand.peer_waits && self.waits(netns, demand.is_shown, now_ns) {
            self.at(ends_ns, Later::Gone { netns, is_shown: demand.is_shown });
        }
        let Some((space, port)) = open.place else {
            if waits {
                self.at(ends_ns, Later::Gone { netns, is_shown: demand.is_shown });
            }
            return;
        };
        let its = &mut self.spaces[space as usize].0;
        if waits {
            let kernel = self.places.get(&netns).map(|place| &place.kernel);
            let delay = kernel.filter(|_| !open.bound).and_then(|kernel| {
                reuse_seconds(kernel, is_loopback(flow.local.0, flow.remote.0), demand.peer_timestamps)
            });
            // The cast saturates.
            let reusable_ns = delay.map_or(u64::MAX, |seconds| now_ns.saturating_add((seconds * 1e9) as u64));
            its.wait(port, ends_ns, reusable_ns, demand.is_shown);
            self.at(ends_ns, Later::Expires { space, port, bound: open.bound });
        } else {
            its.free(port);
            self.release(space, port, open.bound);
        }
    }

    /// A TIME_WAIT socket is due. False when there are too many.
    fn waits(&mut self, netns: u32, is_shown: bool, now_ns: u64) -> bool {
        let Some(place) = self.places.get_mut(&netns) else { return false };
        let most = place.kernel.max_tw_buckets;
        if most > 0 && place.time_waits >= most {
            self.outcome.overflowed += u64::from(is_shown);
            return false;
        }
        place.time_waits += 1;
        self.time_waits += u64::from(is_shown);
        if self.time_waits > self.outcome.time_wait_peak {
            self.outcome.time_wait_peak = self.time_waits;
            self.outcome.time_wait_peak_ns = now_ns.saturating_sub(self.all.start_ns);
        }
        true
    }

    fn gone(&mut self, netns: u32, is_shown: bool) {
        if let Some(place) = self.places.get_mut(&netns) {
            place.time_waits = place.time_waits.saturating_sub(1);
        }
        self.time_waits = self.time_waits.saturating_sub(u64::from(is_shown));
    }

    fn address(&mut self, address: IpAddr, turn: u16) -> u32 {
        let next = self.addresses.len() as u32;
        *self.addresses.entry((address, turn)).or_insert(next)
    }

    fn space(&mut self, flow: &Flow, turn: u16) -> u32 {
        let address = self.address(flow.local.0, turn);
        let key = (flow.netns, flow.local.0, flow.remote.0, flow.remote.1, turn);
        let next = self.spaces.len() as u32;
        let number = *self.space_numbers.entry(key).or_insert(next);
        if number == next {
            self.spaces.push((Space::new(next.into()), flow.netns, address));
        }
        number
    }
}

impl Place {
    fn new(mut kernel: KernelFacts, changes: &[Change]) -> Self {
        for change in changes {
            match *change {
                Change::Reuse(mode) => kernel.tw_reuse = mode,
                Change::Range(low, high) => kernel.port_range = (low, high),
                Change::Buckets(buckets) => kernel.max_tw_buckets = buckets,
                Change::Addresses(_) | Change::Pool(_) | Change::KeepAlive(_) | Change::Limit(_) => {}
            }
        }
        let usable = Usable::of(&kernel).or_else(|| Usable::new(RANGE, &kernel.reserved_ports)).unwrap_or_default();
        Self { kernel, usable, ports: Ports::default(), time_waits: 0 }
    }
}

/// The ports of a namespace for a socket whose own range that is; (0, 0) without.
fn usable<'a>(
    ranges: &'a mut Map<(u32, u16, u16), Usable>,
    places: &Map<u32, Place>,
    netns: u32,
    (low, high): (u16, u16),
) -> Option<&'a Usable> {
    let place = places.get(&netns)?;
    Some(ranges.entry((netns, low, high)).or_insert_with(|| {
        let (first, last) = place.usable.range();
        // A bound of 0 is the namespace's, and outside of its range there is nothing (`inet_sk_get_local_port_range`).
        let low = if low == 0 { first } else { low.clamp(first, last) };
        let high = if high == 0 { last } else { high.clamp(first, last) };
        Usable::new((low, high), &place.kernel.reserved_ports).unwrap_or_default()
    }))
}
