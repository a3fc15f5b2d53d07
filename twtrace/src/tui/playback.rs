//! Playback of a recording: position, speed, and the keys for them. It has no clock: the caller passes the elapsed
//! time.

use crate::cli::TimeSpec;
use crossterm::event::KeyCode;
use std::time::Duration;

/// Fastest speed, in doublings: 64 times.
const MAX_DOUBLINGS: u8 = 6;

/// Maximum length of a typed time, in characters.
const MAX_PROMPT: usize = 40;

const SECOND_NS: u64 = 1_000_000_000;

/// TIME_WAIT sockets created over the length of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Number in each bucket, from the start on.
    pub created: Vec<u64>,
    /// Width of a bucket, nanoseconds.
    pub bucket_ns: u64,
    /// Buckets that are peaks, in order.
    pub peaks: Vec<usize>,
}

/// A moment at which a finding began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When it was first seen to be active.
    pub at_ns: u64,
    /// What it is, clean.
    pub text: String,
}

/// A recording that is played. Times are nanoseconds of the traced host's monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Playback {
    /// Name of the recording.
    pub name: String,
    /// What is missing from it, one line each.
    pub warnings: Vec<String>,
    /// Its first moment.
    pub start_ns: u64,
    /// Its last moment.
    pub end_ns: u64,
    /// Wall clock of its first moment, nanoseconds since the Unix epoch.
    pub start_unix_ns: i128,
    /// Target position. The figures may still be on their way to it.
    target_ns: u64,
    playing: bool,
    doublings: u8,
    /// `None` until the whole recording has been read.
    pub churn: Option<Churn>,
    /// Moments at which findings began, in order; empty until the whole recording has been read.
    pub marks: Vec<Mark>,
    /// The time that is being typed.
    prompt: Option<String>,
    /// Result of the last key, if there is something to say.
    notice: Option<String>,
}

impl Playback {
    /// Playing from the start.
    pub fn new(name: String, warnings: Vec<String>, start_unix_ns: i128, (start_ns, end_ns): (u64, u64)) -> Self {
        let end_ns = end_ns.max(start_ns);
        Self { name, warnings, start_ns, end_ns, start_unix_ns, target_ns: start_ns, playing: true, ..Self::default() }
    }

    /// Target position.
    pub fn target_ns(&self) -> u64 {
        self.target_ns
    }

    /// Whether it plays.
    pub fn is_playing(&self) -> bool {
        self.playing
    }

    /// Speed as a multiple of real time.
    pub fn speed(&self) -> u32 {
        1 << self.doublings
    }

    /// The time as it is being typed.
    pub fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    /// Result of the last key, if there is something to say.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Wall clock of a moment.
    pub fn unix_ns(&self, at_ns: u64) -> i128 {
        self.start_unix_ns + i128::from(at_ns) - i128::from(self.start_ns)
    }

    /// Position of a time; for a time outside of the recording, its nearest end.
    pub fn find(&self, time: TimeSpec) -> u64 {
        let at = time.unix_ns(self.start_unix_ns, self.unix_ns(self.end_ns));
        let since = at.saturating_sub(self.start_unix_ns).clamp(0, i128::from(self.end_ns - self.start_ns));
        // Not longer than the recording.
        self.start_ns + since as u64
    }

    /// Jumps to another position.
    pub fn go(&mut self, to_ns: u64) {
        self.target_ns = to_ns.clamp(self.start_ns, self.end_ns);
    }

    /// This much time has passed for the user since the figures reached their target.
    pub fn passed(&mut self, elapsed: Duration) {
        if !self.playing {
            return;
        }
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.go(self.target_ns.saturating_add(elapsed.saturating_mul(self.speed().into())));
        if self.target_ns == self.end_ns {
            self.playing = false;
        }
    }

    /// The recording turned out to end here.
    pub fn ended(&mut self, at_ns: u64) {
        self.end_ns = at_ns.max(self.start_ns);
        self.go(self.target_ns);
    }

    fn step(&mut self, by_ns: i64) {
        self.go(self.target_ns.saturating_add_signed(by_ns));
    }

    /// To a peak after or before the current moment.
    fn peak(&mut self, later: bool) {
        let Some(churn) = &self.churn else {
            self.notice = Some("still looking for peaks".to_owned());
            return;
        };
        // To the end of its bucket, so that all of the peak has happened.
        let at = |bucket: &usize| {
            let after = (*bucket as u64 + 1).saturating_mul(churn.bucket_ns);
            self.start_ns.saturating_add(after).min(self.end_ns)
        };
        let mut times = churn.peaks.iter().map(at);
        let found = if later { times.find(|at| *at > self.target_ns) } else { times.rfind(|at| *at < self.target_ns) };
        match found {
            Some(at) => self.go(at),
            None => self.notice = Some(format!("no {} peak", if later { "later" } else { "earlier" })),
        }
    }

    /// To the moment at which a finding began, after or before the current moment.
    fn finding(&mut self, later: bool) {
        if self.churn.is_none() {
            self.notice = Some("still looking for findings".to_owned());
            return;
        }
        let at = self.target_ns;
        let mut marks = self.marks.iter();
        let found = if later { marks.find(|mark| mark.at_ns > at) } else { marks.rfind(|mark| mark.at_ns < at) };
        match found.cloned() {
            Some(Mark { at_ns, text }) => {
                self.go(at_ns);
                self.playing = false;
                self.notice = Some(text);
            }
            None => self.notice = Some(format!("no {} finding", if later { "later" } else { "earlier" })),
        }
    }

    /// Acts on a key; false when it is not a playback key.
    pub fn key(&mut self, key: KeyCode) -> bool {
        self.notice = None;
        if self.prompt.is_some() {
            self.type_in(key);
            return true;
        }
        const STEP: i64 = SECOND_NS as i64;
        match key {
            KeyCode::Char(' ') => {
                // At the end, playing starts again from the beginning.
                if !self.playing && self.target_ns == self.end_ns {
                    self.go(self.start_ns);
                }
                self.playing = !self.playing;
            }
            KeyCode::Left | KeyCode::Right => {
                self.playing = false;
                self.step(if key == KeyCode::Left { -STEP } else { STEP });
            }
            KeyCode::Char('[') => self.step(-60 * STEP),
            KeyCode::Char(']') => self.step(60 * STEP),
            KeyCode::Char('+' | '=') => self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS),
            KeyCode::Char('-') => self.doublings = self.doublings.saturating_sub(1),
            KeyCode::Char('n') => self.peak(true),
            KeyCode::Char('N') => self.peak(false),
            KeyCode::Home => self.go(self.start_ns),
            KeyCode::End => self.go(self.end_ns),
            KeyCode::Char('f') => self.finding(true),
            KeyCode::Char('F') => self.finding(false),
            KeyCode::Char('t') => self.prompt = Some(String::new()),
            _ => return false,
        }
        true
    }

    fn type_in(&mut self, key: KeyCode) {
        let Some(prompt) = &mut self.prompt else { return };
        match key {
            KeyCode::Esc => self.prompt = None,
            KeyCode::Backspace => {
                prompt.pop();
            }
            KeyCode::Char(letter) if prompt.chars().count() < MAX_PROMPT => prompt.push(letter),
            KeyCode::Enter if prompt.trim().is_empty() => self.prompt = None,
            KeyCode::Enter => match prompt.trim().parse() {
                Ok(time) => {
                    self.go(self.find(time));
                    self.prompt = None;
                }
                Err(error) => self.notice = Some(error),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1000 * SECOND_NS;

    /// Ten minutes from 2026-09-21T14:13:20Z on.
    fn playback() -> Playback {
        let mut playback =
            Playback::new("a.twt".to_owned(), Vec::new(), 1_790_000_000_000_000_000, (START, START + 600 * SECOND_NS));
        playback.churn = Some(Churn { created: vec![1; 300], bucket_ns: 2 * SECOND_NS, peaks: vec![10, 20, 299] });
        playback
    }

    fn press(playback: &mut Playback, keys: &[KeyCode]) -> f64 {
        for key in keys {
            playback.key(*key);
        }
        (playback.target_ns() - START) as f64 / 1e9
    }

    fn type_in(playback: &mut Playback, text: &str) -> f64 {
        press(playback, &text.chars().map(KeyCode::Char).chain([KeyCode::Enter]).collect::<Vec<_>>())
    }

    #[test]
    fn time_passes_at_its_speed() {
        let mut playback = playback();
        playback.passed(Duration::from_millis(1500));
        assert_eq!(press(&mut playback, &[]), 1.5);
        for (key, speed) in "+++=-+++++".chars().zip([2, 4, 8, 16, 8, 16, 32, 64, 64, 64]) {
            press(&mut playback, &[KeyCode::Char(key)]);
            assert_eq!(playback.speed(), speed);
        }
        playback.passed(Duration::from_secs(1));
        assert_eq!(press(&mut playback, &[]), 65.5);
        playback.passed(Duration::from_secs(u64::MAX));
        assert_eq!((press(&mut playback, &[]), playback.is_playing()), (600.0, false));
        // Once more from the start.
        assert_eq!(press(&mut playback, &[KeyCode::Char(' ')]), 0.0);
        assert!(playback.is_playing());
        for _ in 0..9 {
            press(&mut playback, &[KeyCode::Char('-')]);
        }
        assert_eq!(playback.speed(), 1);
    }

    #[test]
    fn keys_move_within_the_recording() {
        use KeyCode::{Char, End, Home, Left, Right};
        let mut playback = playback();
        assert_eq!(press(&mut playback, &[Char(']'), Char(']')]), 120.0);
        assert!(playback.is_playing());
        assert_eq!(press(&mut playback, &[Left]), 119.0);
        assert!(!playback.is_playing());
        playback.passed(Duration::from_secs(5));
        assert_eq!(press(&mut playback, &[Right, Right]), 121.0, "paused, no time passes");
        assert_eq!(press(&mut playback, &[Char('['), Char('['), Char('[')]), 0.0);
        assert_eq!(press(&mut playback, &[Left]), 0.0);
        assert_eq!(press(&mut playback, &[End, Right, Char(']')]), 600.0);
        assert_eq!(press(&mut playback, &[Home]), 0.0);
        assert!(!playback.key(Char('s')) && !playback.key(KeyCode::Enter) && !playback.key(Char('1')));
    }

    #[test]
    fn peaks_are_found_both_ways() {
        use KeyCode::{Char, End};
        let mut playback = playback();
        assert_eq!(press(&mut playback, &[Char('n')]), 22.0);
        assert_eq!(press(&mut playback, &[Char('n')]), 42.0);
        assert_eq!(press(&mut playback, &[Char('N')]), 22.0);
        assert_eq!(press(&mut playback, &[Char('N')]), 22.0);
        assert_eq!(playback.notice(), Some("no earlier peak"));
        assert_eq!(press(&mut playback, &[Char('n'), Char('n')]), 600.0);
        assert_eq!(playback.notice(), None);
        assert_eq!(press(&mut playback, &[Char('n')]), 600.0);
        assert_eq!(playback.notice(), Some("no later peak"));
        assert_eq!(press(&mut playback, &[End, Char('N')]), 42.0);
        playback.churn = None;
        assert_eq!(press(&mut playback, &[Char('n')]), 42.0);
        assert_eq!(playback.notice(), Some("still looking for peaks"));
    }

    #[test]
    fn findings_are_found_both_ways() {
        use KeyCode::Char;
        let mut playback = playback();
        assert_eq!(press(&mut playback, &[Char('f')]), 0.0);
        assert_eq!(playback.notice(), Some("no later finding"));
        let mark = |second: u64| Mark { at_ns: START + second * SECOND_NS, text: format!("finding {second}") };
        playback.marks = vec![mark(5), mark(70)];
        assert_eq!(press(&mut playback, &[Char('f')]), 5.0);
        assert_eq!(playback.notice(), Some("finding 5"));
        assert!(!playback.is_playing(), "the user looks at it");
        assert_eq!(press(&mut playback, &[Char('f')]), 70.0);
        assert_eq!(press(&mut playback, &[Char('f'), Char('F')]), 5.0);
        assert_eq!(press(&mut playback, &[Char('F')]), 5.0);
        assert_eq!(playback.notice(), Some("no earlier finding"));
    }

    #[test]
    fn a_time_can_be_typed() {
        let mut playback = playback();
        for (text, after) in [
            ("t+90s", 90.0),
            ("t-1m", 540.0),
            ("t14:14", 40.0),
            ("t2026-09-21T14:13:21.5Z", 1.5),
            ("t 14:13:30 ", 10.0),
            ("t1999-01-01T00:00:00Z", 0.0),
            ("t23:00", 600.0),
        ] {
            assert_eq!(type_in(&mut playback, text), after, "{text}");
            assert_eq!(playback.prompt(), None);
        }
        assert_eq!(type_in(&mut playback, "tnow"), 600.0);
        assert!(playback.notice().is_some_and(|notice| notice.contains("such as")), "{:?}", playback.notice());
        press(&mut playback, &[KeyCode::Backspace; 3]);
        assert_eq!(type_in(&mut playback, "+5"), 5.0);
        // Keys are text while it is typed.
        press(&mut playback, &[KeyCode::Char('t'), KeyCode::Char('n'), KeyCode::Left]);
        assert_eq!(playback.prompt(), Some("n"));
        assert_eq!(press(&mut playback, &[KeyCode::Esc]), 5.0);
        assert_eq!(type_in(&mut playback, "t"), 5.0);
        assert_eq!(type_in(&mut playback, &format!("t{}", "9".repeat(100))), 5.0);
        assert_eq!(playback.prompt().map(str::len), Some(MAX_PROMPT));
    }

    #[test]
    fn odd_recordings_are_played_as_well() {
        let mut playback = Playback::new(String::new(), Vec::new(), 0, (START, 0));
        assert_eq!(press(&mut playback, &[KeyCode::End, KeyCode::Right]), 0.0);
        playback.passed(Duration::from_secs(1));
        assert!(!playback.is_playing());
        assert_eq!(playback.find(TimeSpec::Wall(i128::MAX)), START);
        let mut playback = Playback::new(String::new(), Vec::new(), i128::from(i64::MIN), (0, u64::MAX));
        playback.key(KeyCode::End);
        playback.passed(Duration::from_secs(1));
        assert_eq!(playback.target_ns(), u64::MAX);
        assert_eq!(playback.find(TimeSpec::Wall(i128::MIN)), 0);
        // It was shorter than it claimed.
        playback.ended(7);
        assert_eq!((playback.target_ns(), playback.end_ns), (7, 7));
    }
}
