//! What does not fit is counted and reported: in the JSON report, in the text and on the screen.

use std::iter;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use twtrace_common::{ConnRecord, Tuple, tcp_state};
use twtrace_core::event::Event;
use twtrace_core::source::Source as _;
use twtrace_probe::kernel::load::{self, LoadOptions};
use twtrace_probe::kernel::sweep::Question;
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_tests::objects::Objects;
use twtrace_tests::terminal::Terminal;
use twtrace_tests::top::{Top, await_attached, churn, hidden, interrupt, load, number, own, quiet_place};
use twtrace_tests::tracer::{Place, program};
use twtrace_tests::workload::Churned;

/// A page of ring buffer and four sockets at a time: both are too small for what follows.
const TINY: [&str; 4] = ["--ring-bytes", "4096", "--max-sockets", "4"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Churns at the full rate of this machine.
fn churn_much(place: &Place) -> Churned {
    churn(place, &["--processes", "8", "--connections", &load("30000")])
}

/// The losses that a text reports, by reason.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    total: u64,
    reasons: Vec<(String, u64)>,
}

impl Lost {
    /// From `lost 12: ring buffer full 10, socket map full 2`, which ends with the line or with two blanks.
    fn said_in(line: &str) -> Option<Self> {
        let said = line.split_once("lost ")?.1.trim_end();
        let said = said.split_once("  ").map_or(said, |(said, _)| said);
        let (total, reasons) = said.split_once(": ").unwrap_or((said, ""));
        let reasons = reasons.split(", ").filter(|reason| !reason.is_empty()).map(|reason| {
            let (name, count) = reason.rsplit_once(' ')?;
            Some((name.to_owned(), figure(count)?))
        });
        Some(Self { total: figure(total)?, reasons: reasons.collect::<Option<_>>()? })
    }

    /// The reasons add up, and are the two that were provoked.
    fn is_whole(&self) {
        assert_eq!(self.reasons.iter().map(|(_, count)| count).sum::<u64>(), self.total, "{self:?}");
        for expected in ["ring buffer full", "owners refused"] {
            assert!(self.reasons.iter().any(|(name, count)| name == expected && *count > 0), "{self:?}");
        }
    }
}

/// A number with separators.
fn figure(text: &str) -> Option<u64> {
    text.replace(',', "").parse().ok()
}

/// The number after a word: `created 1,234 (` has one after `created `.
fn after(text: &str, word: &str) -> Option<u64> {
    figure(text.split_once(word)?.1.split([' ', '\n']).next()?)
}

#[test]
fn seen_plus_lost_is_what_happened() {
    let place = quiet_place();
    // An instance with room for everything shows what no tracer could see.
    let roomy = Top::start(&place, &[]);
    let top = Top::start(&place, &TINY);
    let churned = churn_much(&place);
    top.await_census(churned.connections);
    let report = top.end();
    let hidden = hidden(&roomy.end(), churned.connections);
    let counter = |name: &str| number(&report, &format!("/tracing/kernel_counters/{name}"));
    let lost = |name: &str| number(&report, &format!("/tracing/lost/{name}"));
    println!("{} of {:.0} connections/s", report["tracing"]["kernel_counters"], churned.rate_per_s);
    let both = lost("ring_full") > 0 && lost("parts_refused") > 0 && counter("map_full") > 0;
    assert!(both, "both must be too small: {:#}", report["tracing"]);
    // Each connection is traced at both of its ends. An end is followed from some point on, or the map never had room
    // for it.
    let connections = 2 * churned.connections;
    // On a kernel that preempts programs, both programs of the pair now and then miss a transition, which is counted:
    // it may have been the first or the last of its connection. And where the map had no room, the twin cannot know
    // whether the first program has counted a connection.
    let skipped = lost("recursion") + counter("recovered") + hidden;
    let accounted = |found: u64, expected: u64| assert!(found.abs_diff(expected) <= skipped, "{found} of {expected}");
    accounted(counter("connections_begun") + counter("map_full"), connections);
    // It is handed over, or the ring had no room, or its end was not seen; of some that the ring had no room for, a census
    // has shown the TIME_WAIT socket.
    let found = number(&report, "/totals/connections") + lost("ring_full") + lost("stale");
    accounted(found - counter("unseen_ends"), connections);
    assert_eq!(lost("undecodable"), 0);
    // Every TIME_WAIT socket is in one of the three. (One that was followed from its middle on counts as older.)
    let coverage = |name: &str| number(own(&report), &format!("/coverage/{name}"));
    assert_eq!(coverage("census"), churned.connections);
    assert_eq!(coverage("attributed") + coverage("unattributed") + coverage("before_start"), churned.connections);
    let rows = report["processes"].as_array().unwrap();
    for worker in &churned.workers {
        let row = rows.iter().find(|row| row["pid"] == worker.who.pid);
        let created = row.map_or(0, |row| row["time_wait_created"].as_u64().unwrap());
        assert!(created <= worker.opened, "{created} of {}: {row:?}", worker.opened);
    }
}

#[test]
fn the_text_says_what_was_lost() {
    let place = quiet_place();
    let mut command = Command::new(program("twtrace"));
    // Longer than needed: a signal ends it.
    command.args(["top", "--once", "--duration", "120s"]).args(TINY).stdout(Stdio::piped());
    let once = place.spawn(command);
    await_attached(&place, once.id());
    let churned = churn_much(&place);
    let text = String::from_utf8(interrupt(once).stdout).unwrap();
    println!("{text}");
    assert_reported(&text, "WARNING: figures are too low: ", churned.connections);
}

/// The header and the warning report the same losses, and created plus lost is at least what happened.
fn assert_reported(text: &str, warning: &str, connections: u64) {
    let said: Vec<Lost> = text.lines().filter_map(Lost::said_in).collect();
    assert!(said.len() >= 2 && said.iter().all(|lost| *lost == said[0]), "{said:?} in {text}");
    said[0].is_whole();
    assert!(text.contains(warning), "{text}");
    let created = after(text, "created ").unwrap();
    // The lost connections are of both sides: about half of them created TIME_WAIT sockets.
    assert!(created < connections && created + said[0].total >= connections, "{created} of {connections}: {said:?}");
}

#[test]
fn the_screen_says_what_was_lost() {
    let place = quiet_place();
    let mut command = Command::new(program("twtrace"));
    let netns = place.netns().to_string();
    command.arg("top").args(TINY).args(["--no-color", "--interval", "200ms", "--netns", &netns]);
    let (columns, rows) = (200, 40);
    let screen = Terminal::start(&place, command, columns, rows);
    let shown = |wanted: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = shown(&screen.written(), columns.into(), rows.into());
            if wanted(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "it did not appear; the screen:\n{text}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    // The first screen comes once it traces.
    shown(&|text| text.contains("coverage "));
    let churned = churn_much(&place);
    // The census that follows the last of them.
    let all = format!("] {} of at most ", with_separators(churned.connections));
    let text = shown(&|text| {
        let lost = text.lines().find_map(Lost::said_in);
        let known = lost
            .zip(after(text, "created "))
            .is_some_and(|(lost, created)| created + lost.total >= churned.connections);
        known && text.contains(&all) && text.contains(" more: press ?)")
    });
    println!("{text}");
    // The warning is followed by a note; the header has all reasons.
    let header: Lost = text.lines().find_map(Lost::said_in).unwrap();
    header.is_whole();
    assert!(text.contains("! figures are too low: lost "), "{text}");
    screen.press("q");
    assert_eq!(screen.end(), (true, true));
}

#[test]
fn sweep_finds_the_sockets_that_wait_for_their_end() {
    let place = quiet_place();
    let loaded = load::load(&LoadOptions::default()).unwrap();
    let sweeper = loaded.sweeper().unwrap();
    const WAIT: usize = 300;
    let (clients, servers) = place.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pairs = (0..WAIT + 100).map(|_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        });
        pairs.unzip::<_, _, Vec<TcpStream>, Vec<TcpStream>>()
    });
    for client in clients.iter().take(WAIT) {
        client.shutdown(Shutdown::Write).unwrap();
    }
    // Some enter FIN_WAIT2 later.
    let sweep = |before_ns, all| sweeper.fresh(Question { before_ns, all }, PATIENCE).unwrap().found;
    let found = sweep(u64::MAX, false);
    let ours = found.iter().filter(|one| one.closing.netns == u32::try_from(place.netns()).unwrap());
    let last_ack = ours.clone().filter(|one| one.closing.is_last_ack).count();
    assert_eq!((ours.count(), last_ack), (WAIT, 0));
    assert_eq!(sweep(0, false), [], "none is that old");
    // Both ends of each connection are followed; no FIN has been seen of most.
    let open = sweep(u64::MAX, true).iter().filter(|one| !one.is_closing && one.closing.netns == 0).count();
    assert!(open >= WAIT + 200, "{open}");
    drop((clients, servers));
}

/// A socket in the map that does not exist stands for one whose end the kernel kept from every program.
#[test]
fn what_was_not_seen_to_end_is_counted_when_the_trace_ends() {
    let place = quiet_place();
    let netns = u32::try_from(place.netns()).unwrap();
    let counters = place.run(move || {
        let mut source = KernelSource::start(&KernelSourceOptions::default()).unwrap();
        // These stay open, and are no loss.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        source.pump(&mut |_| {}).unwrap();
        let ours = Objects::of_process(std::process::id()).maps;
        let socket_map = loaded_maps()
            .filter_map(Result::ok)
            .find(|map| map.name_as_str() == Some("SOCKETS") && ours.contains(&map.id()))
            .unwrap();
        let data = MapData::from_fd(socket_map.fd().unwrap().as_fd().try_clone_to_owned().unwrap()).unwrap();
        let mut sockets = HashMap::<_, u64, [u8; size_of::<ConnRecord>()]>::try_from(Map::HashMap(data)).unwrap();
        let mut record = ConnRecord { transitions: 1, tuple: Tuple { netns, ..Tuple::NONE }, ..ConnRecord::EMPTY };
        (record.new_states[0], record.times_ns[0]) = (tcp_state::ESTABLISHED, 1);
        for number in 1..=3 {
            // Of most, the namespace is not known.
            record.tuple.netns = if number == 1 { netns } else { 0 };
            // No socket has such a cookie, or such an address.
            record.cookie = u64::MAX - number;
            let bytes: [u8; size_of::<ConnRecord>()] = zerocopy::transmute!(record);
            sockets.insert(number, bytes, 0).unwrap();
        }
        let mut counters = None;
        let mut sink = |event| {
            if let Event::Counters(last) = event {
                counters = Some(last);
            }
        };
        source.final_pump(&mut sink).unwrap();
        drop((client, server, listener));
        counters.unwrap()
    });
    assert_eq!(counters.stale, 3, "{counters:?}");
}

fn with_separators(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", with_separators(number / 1000), number % 1000) }
}

/// What a terminal shows after this output: text, and of the sequences those that place the cursor and clear.
fn shown(written: &str, columns: usize, rows: usize) -> String {
    let mut cells = vec![vec![' '; columns]; rows];
    let (mut row, mut column) = (0, 0);
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                // Only control sequences: twtrace writes no others.
                letters.next();
                let mut numbers = String::new();
                let end = iter::from_fn(|| letters.next())
                    .find(|&letter| {
                        numbers.push(letter);
                        ('@'..='~').contains(&letter)
                    })
                    .unwrap_or('m');
                let mut numbers = numbers[..numbers.len().saturating_sub(1)].split(';').map(|text| text.parse().ok());
                match end {
                    'H' => {
                        let mut place = || numbers.next().flatten().unwrap_or(1_usize).saturating_sub(1);
                        (row, column) = (place(), place());
                    }
                    'J' => cells.iter_mut().for_each(|line| line.fill(' ')),
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            letter => {
                if let Some(cell) = cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                    *cell = letter;
                }
                column += 1;
            }
        }
    }
    cells.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
}
