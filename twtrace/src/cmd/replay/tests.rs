#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser as _;
use std::cell::Cell;
use std::rc::Rc;
use twtrace_core::event::Event;
use twtrace_core::recording::Info;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::Filter;
use twtrace_recording::writer::{Recorder, WriteOptions};
use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, MILLISECOND_NS, SECOND_NS, START_NS, answered, owner, tick, tuple, user, web,
};

/// Events of a segment.
const SEGMENT: usize = 100;

/// A list of events, and how many of them were passed on.
struct List {
    events: Rc<Vec<Event>>,
    handed: Rc<Cell<usize>>,
}

struct ListRun {
    events: Rc<Vec<Event>>,
    next: usize,
    handed: Rc<Cell<usize>>,
}

impl List {
    fn of(events: Vec<Event>) -> Self {
        Self { events: Rc::new(events), handed: Rc::default() }
    }
}

impl Playable for List {
    type Run = ListRun;

    fn run(&self, segment: u32) -> anyhow::Result<ListRun> {
        let next = segment as usize * SEGMENT;
        Ok(ListRun { events: Rc::clone(&self.events), next, handed: Rc::clone(&self.handed) })
    }
}

impl Run for ListRun {
    fn advance(&mut self, until_ns: u64, sink: &mut dyn FnMut(Event)) -> anyhow::Result<bool> {
        while let Some(event) = self.events.get(self.next) {
            self.next += 1;
            self.handed.set(self.handed.get() + 1);
            sink(event.clone());
            if matches!(event, Event::Tick { at_ns } if *at_ns >= until_ns) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn segment(&self) -> u32 {
        (self.next.saturating_sub(1) / SEGMENT) as u32
    }

    fn info(&self, at_opening: Info) -> Info {
        at_opening
    }
}

/// A minute with a tick each quarter of a second, and ten times as many connections in its thirtieth second.
fn minute() -> Vec<Event> {
    let mut events = web::events();
    let last = events.pop();
    for quarter in 22..240_u64 {
        let number = if (120..124).contains(&quarter) { 40 } else { 4 };
        for index in 0..number {
            let cookie = 100_000 + quarter * 100 + index;
            let who = owner(3000 + (quarter % 50) as u32, "worker").user(1001).in_cgroup(1001);
            let to = tuple(1024 + (cookie % 60_000) as u16, [10, 0, 1, 1], 80);
            let end_ns = START_NS + quarter * SECOND_NS / 4 + index * MILLISECOND_NS;
            events.push(answered(cookie, who, to, end_ns).event());
        }
        events.push(web::tick_after(quarter * 250 + 250));
    }
    // What comes after the last tick is known only at the end.
    events.extend(last.into_iter().chain([user(1, "daemon")]));
    events
}

/// State of a fresh pass at a moment.
fn straight_to(list: &[Event], target_ns: u64, config: Config) -> State {
    let mut state = State::new(config);
    for event in list {
        state.apply(event.clone());
        if matches!(event, Event::Tick { at_ns } if *at_ns >= target_ns) {
            break;
        }
    }
    state
}

/// Field by field, without a page of output when it fails.
fn assert_same<T: Playable>(player: &Player<T>, straight: &State, what: impl std::fmt::Display) {
    assert!(player.has_arrived());
    assert!(player.knows_the_same(straight), "another state {what}");
}

fn player(events: Vec<Event>) -> Player<List> {
    Player::new(List::of(events), Config::default(), 60 * SECOND_NS).unwrap()
}

fn go<T: Playable>(player: &mut Player<T>, target_ns: u64) {
    player.go_to(target_ns).unwrap();
    player.go_on(&mut || false).unwrap();
}

#[test]
fn any_way_leads_to_the_same_model() {
    let list = minute();
    let mut player = player(list.clone());
    let at = |seconds: f64| START_NS + (seconds * 1e9) as u64;
    // Forward, back, to and fro around a tick, beyond both ends, and exactly to the last tick.
    for seconds in
        [0.0, 7.0, 6.9, 7.0, 30.1, 59.0, 12.25, 12.26, 12.24, 12.25, 60.0, 59.99, 1e6, 60.0, 1e6, 1.0, 45.5, 44.5, 45.0]
    {
        go(&mut player, at(seconds));
        assert_same(&player, &straight_to(&list, at(seconds), Config::default()), seconds);
    }
    for target_ns in [0, u64::MAX] {
        go(&mut player, target_ns);
        assert_same(&player, &straight_to(&list, target_ns, Config::default()), target_ns);
    }
    assert_eq!(player.snapshot(false).user_name(1), Some("daemon"), "the very end has the events after the last tick");
}

#[test]
fn a_way_can_be_left_half_way() {
    let list = minute();
    let mut player = player(list.clone());
    let mut targets = [50, 10, 40, 41, 9, 60, 30, 5, 55].into_iter().cycle();
    for steps in (1..400).step_by(7) {
        player.go_to(START_NS + targets.next().unwrap() * SECOND_NS).unwrap();
        let mut left = steps;
        let mut enough = || {
            left -= 1;
            left == 0
        };
        player.go_on(&mut enough).unwrap();
    }
    go(&mut player, START_NS + 33 * SECOND_NS);
    assert_same(&player, &straight_to(&list, START_NS + 33 * SECOND_NS, Config::default()), 33);
}

#[test]
fn what_is_already_there_costs_nothing_and_going_back_not_all() {
    let list = List::of(minute());
    let (handed, number) = (Rc::clone(&list.handed), list.events.len());
    let mut player = Player::new(list, Config::default(), 60 * SECOND_NS).unwrap();
    go(&mut player, u64::MAX);
    assert_eq!(handed.get(), number);
    go(&mut player, u64::MAX);
    assert_eq!(handed.get(), number);
    // No more is read than the segment before the kept state, and the events between two kept states.
    go(&mut player, START_NS + 58 * SECOND_NS);
    assert!(handed.get() < number + number / 10, "{} of {number}", handed.get() - number);
}

/// The minute, then half an hour with a connection each ten seconds: long enough for several segments.
fn half_an_hour() -> Vec<Event> {
    let mut events = minute();
    for step in 7..180_u64 {
        let who = owner(5000 + step as u32, "late").user(1001).in_cgroup(1001);
        let to = tuple(2000 + step as u16, [10, 0, 1, 7], 80);
        events.push(answered(900_000 + step, who, to, START_NS + step * 10 * SECOND_NS).event());
        events.push(web::tick_after(step * 10_000));
    }
    events
}

#[test]
fn a_recording_is_played_as_its_events_are() {
    let (list, folder) = (half_an_hour(), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.twt");
    let mut recorder = Recorder::create(&path, WriteOptions::default()).unwrap();
    list.iter().for_each(|event| recorder.record(event).unwrap());
    assert!(recorder.finish().unwrap().segments > 2);
    let recording = Recording::open(&path).unwrap();
    let mut player = Player::new(recording, Config::default(), 1800 * SECOND_NS).unwrap();
    for seconds in [3, 1790, 1500, 620, 50, 1210, 1200, 1199, 599, 600, 601, 9999, 30, 1790] {
        let target_ns = START_NS + seconds * SECOND_NS;
        go(&mut player, target_ns);
        assert_same(&player, &straight_to(&list, target_ns, Config::default()), seconds);
    }
    assert_eq!(player.info(Info::default()), Info::default());
}

#[test]
fn ticks_of_a_damaged_recording_may_go_anywhere() {
    let mut list = vec![web::events().swap_remove(0)];
    for at_ns in [5, 5, 3, 9, 0, u64::MAX, 7, u64::MAX, 8] {
        list.push(tick(at_ns));
        list.push(user(list.len() as u32, ""));
    }
    for config in [List::of(list.clone()), List::of(Vec::new()), List::of(list.split_off(6))] {
        let list = Rc::clone(&config.events);
        let mut player = Player::new(config, Config::default(), 0).unwrap();
        for target_ns in [3, 9, 4, 10, 5, 6, u64::MAX, 1, u64::MAX - 1, 2] {
            go(&mut player, target_ns);
            assert_same(&player, &straight_to(&list, target_ns, Config::default()), target_ns);
        }
    }
}

fn args(line: &str) -> ReplayArgs {
    match Cli::try_parse_from(["twtrace", "replay"].into_iter().chain(line.split_whitespace())).unwrap().command {
        Command::Replay(args) => *args,
        _ => unreachable!("replay was asked for"),
    }
}

#[test]
fn once_writes_what_top_would_have_written_then() {
    let list = minute();
    for (line, until_ns) in [
        ("a.twt --once --at +7s --json", START_NS + 7 * SECOND_NS),
        ("a.twt --once --at -1s --csv --by parent", START_NS + 59 * SECOND_NS),
        ("a.twt --once --at 14:13:50 --sort rate --limit 3", START_NS + 30 * SECOND_NS),
        ("a.twt --once --comm worker --json", u64::MAX),
    ] {
        let args = args(line);
        let filter: Filter = args.view.filter.filter();
        let config = Config { filter, ..Config::default() };
        let mut player = Player::new(List::of(list.clone()), config.clone(), 60 * SECOND_NS).unwrap();
        let window = player.window();
        let moments = (window.start_ns, window.start_ns + 60 * SECOND_NS);
        let mut playback = Playback::new(String::new(), Vec::new(), window.start_unix_ns, moments);
        let at_ns = args.at.map_or(u64::MAX, |at| playback.find(at));
        playback.go(at_ns);
        let mut written = Vec::new();
        report(&mut player, Info::default(), at_ns, &args, &mut written).unwrap();
        let mut state = straight_to(&list, until_ns, config);
        let mut expected = Vec::new();
        Batch::new(&args.view, &mut expected).write(&Snapshot::take(&mut state)).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(expected).unwrap(), "{line}");
    }
}

#[test]
fn the_survey_finds_the_peak_and_the_end() {
    let mut run = List::of(minute()).run(0).unwrap();
    let Survey { churn, marks, end_ns } = survey(&mut run, Config::default(), 60 * SECOND_NS).unwrap();
    assert_eq!((end_ns, churn.bucket_ns), (START_NS + 60 * SECOND_NS, SECOND_NS));
    // The web server's host itself creates most of its TIME_WAIT sockets in its first four seconds.
    assert!(churn.peaks.contains(&30), "{churn:?}");
    assert_eq!(churn.created[30], 160);
    // Each finding is marked where it begins.
    assert!(marks.is_sorted_by_key(|mark| mark.at_ns) && marks.iter().all(|mark| mark.at_ns <= end_ns));
    let found = marks.iter().filter(|mark| mark.text.contains("no-connection-reuse: api[300]")).count();
    assert_eq!(found, 1, "{marks:?}");
}
