//! Words and numbers as the views write them. Text that a process chose itself is escaped here.

use jiff::Timestamp;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;
pub use twtrace_core::plain::{clean, clean_bytes, is_plain, lossless};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Cells that a text takes on the screen.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most this many cells; an ellipsis replaces what was cut off.
pub fn fit(text: &str, cells: usize) -> Cow<'_, str> {
    if text.width() <= cells {
        return Cow::Borrowed(text);
    }
    let mut cut = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let wide = letter.width().unwrap_or(0);
        // One cell is reserved for the ellipsis.
        if used + wide + 1 > cells {
            break;
        }
        used += wide;
        cut.push(letter);
    }
    if cells > 0 {
        cut.push('…');
    }
    Cow::Owned(cut)
}

/// How text is broken into lines of this many cells: only between words, because a command or a path must not be cut at
/// its dashes.
pub(crate) fn lines_of<'a>(cells: usize) -> textwrap::Options<'a> {
    textwrap::Options::new(cells)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
}

/// The text in lines of at most this many cells, cut between words if possible.
pub fn wrap(text: &str, cells: usize) -> Vec<String> {
    // A wide letter needs two.
    textwrap::wrap(text, lines_of(cells.max(2))).into_iter().map(Cow::into_owned).collect()
}

/// The text in exactly this many cells.
pub fn pad(text: &str, cells: usize, right: bool) -> String {
    let text = fit(text, cells);
    let space = " ".repeat(cells.saturating_sub(text.width()));
    if right { format!("{space}{text}") } else { format!("{text}{space}") }
}

/// A number with thousands separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 row`, `2,000 rows`.
pub fn counted(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", count(number as u64)) }
}

/// A rate with as few digits as needed: `0.4`, `12.3`, `1,234`.
pub fn rate(per_second: f64) -> String {
    // The cast saturates.
    if per_second < 99.95 { format!("{:.1}", per_second.max(0.0)) } else { count(per_second.round() as u64) }
}

/// A share as a percentage. Never rounded up to 100, nor down to 0.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let shown = if percent < 100.0 { percent.min(99.9) } else { percent };
    let shown = if percent > 0.0 { shown.max(0.1) } else { 0.0 };
    format!("{shown:.1}%")
}

/// A length of time in at most two units: `350us`, `12ms`, `4.2s`, `2m05s`, `3h20m`, `2d04h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_micros() < 1000 => format!("{}us", duration.as_micros()),
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The same for a number of seconds; an invalid length of time is a dash.
pub fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "-".to_owned(), duration)
}

/// A lifetime in microseconds with as few digits as needed: `350us`, `1.7ms`, `12ms`, `4.2s`, `2m05s`.
pub fn lifetime(us: f64) -> String {
    if (1e3..1e4).contains(&us) { format!("{:.1}ms", us / 1e3) } else { seconds(us / 1e6) }
}

/// An address with a port, IPv6 in brackets.
pub fn address(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// A moment from nanoseconds since the Unix epoch, rounded down to the millisecond. A time outside of the calendar,
/// which a damaged recording may contain, becomes the epoch itself.
fn moment(unix_ns: i128) -> Timestamp {
    i64::try_from(unix_ns.div_euclid(1_000_000))
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default()
}

/// A moment in UTC by RFC 3339, to the millisecond, from nanoseconds since the Unix epoch.
pub fn rfc3339(unix_ns: i128) -> String {
    format!("{:.3}", moment(unix_ns))
}

/// A moment for the name of a file: `2026-09-21T141320`, in UTC.
pub fn file_time(unix_ns: i128) -> String {
    let time = rfc3339(unix_ns).replace([':', '.'], "");
    time.get(..17).unwrap_or(&time).to_owned()
}

/// The time of day of a moment in UTC: `14:13:20`.
pub fn time_of_day(unix_ns: i128) -> String {
    moment(unix_ns).strftime("%H:%M:%S").to_string()
}

/// The day of a moment in UTC: `2026-09-21`.
pub fn day(unix_ns: i128) -> String {
    moment(unix_ns).strftime("%F").to_string()
}

/// A number of bytes: `812 B`, `9.1 KiB`, `2.0 GiB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if size < 1023.95 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    format!("{size:.1} {unit}")
}

/// Columns of a sparkline, from the smallest to the largest.
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One character per value, with a height that is its share of the largest; 0 is a dot.
pub fn sparkline(values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let spark = |value: &f64| {
        if *value > 0.0 {
            // The cast saturates.
            let step = (value / most * SPARKS.len() as f64).ceil() as usize;
            SPARKS[step.clamp(1, SPARKS.len()) - 1]
        } else {
            '·'
        }
    };
    values.iter().map(spark).collect()
}

/// Left parts of a cell, in eighths.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A share from 0 to 1 as a bar of at most this many cells.
pub fn bar(share: f64, cells: usize) -> String {
    // At most all of them; a share that is not a number is none.
    let eighths = (share.clamp(0.0, 1.0) * cells as f64 * 8.0) as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    bar
}

/// Name of an errno, such as `EADDRNOTAVAIL`; a number that has none is `errno 4095`.
pub fn errno(number: u16) -> String {
    match nix::errno::Errno::from_raw(i32::from(number)) {
        nix::errno::Errno::UnknownErrno => format!("errno {number}"),
        errno => format!("{errno:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_the_length_of_their_share() {
        for (share, bar) in
            [(0.0, ""), (0.5, "██"), (1.0, "████"), (7.0, "████"), (0.3, "█▏"), (-1.0, ""), (f64::NAN, "")]
        {
            assert_eq!(super::bar(share, 4), bar, "{share}");
        }
    }

    #[test]
    fn hostile_text_is_escaped() {
        for (text, expected) in [
            ("nginx", "nginx"),
            ("a\u{1b}[2Jb", "a\\x1b[2Jb"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{2066}b\u{200b}c\u{feff}", "a\\u{2066}b\\u{200b}c\\u{feff}"),
            ("a\u{9b}31m\u{7f}", "a\\u{9b}31m\\x7f"),
            ("e\u{301}", "e\\u{301}"),
            ("ü日本", "ü日本"),
        ] {
            assert_eq!(clean(text), expected);
            assert!(clean(text).chars().all(is_plain));
        }
        assert_eq!(clean_bytes(b"a\xff\xfe\x1bz"), "a\\xff\\xfe\\x1bz");
        assert_eq!(clean_bytes("日".as_bytes()), "日");
        assert_eq!(lossless(b"a\xff\x1b"), "a\\xff\u{1b}");
    }

    #[test]
    fn text_is_cut_by_cells() {
        assert_eq!(fit("postgres", 8), "postgres");
        assert_eq!(fit("postgres", 5), "post…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("ab", 1), "…");
        assert_eq!(fit("ab", 0), "");
        assert_eq!(pad("日", 4, true), "  日");
        assert_eq!(pad("ab", 4, false), "ab  ");
    }

    #[test]
    fn numbers_read_well() {
        let counts = [(0, "0"), (999, "999"), (1000, "1,000"), (28_232, "28,232"), (1_234_567, "1,234,567")];
        for (number, expected) in counts {
            assert_eq!(count(number), expected);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        for (number, expected) in [(0.0, "0.0"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1,235"), (-1.0, "0.0")] {
            assert_eq!(rate(number), expected);
        }
        assert_eq!(rate(f64::NAN), "0");
        assert_eq!((counted(1, "row", "rows"), counted(2000, "row", "rows")), ("1 row".into(), "2,000 rows".into()));
        for (share, expected) in
            [(1.0, "100.0%"), (0.9999, "99.9%"), (0.5, "50.0%"), (0.00001, "0.1%"), (0.0, "0.0%"), (1.25, "125.0%")]
        {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn sizes_read_well() {
        for (size, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (9300, "9.1 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (1 << 31, "2.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
    }

    #[test]
    fn sparklines_show_shares() {
        assert_eq!(sparkline(&[0.0, 0.01, 4.0, 8.0, f64::NAN, -1.0]), "·▁▄█··");
        assert_eq!(
            (sparkline(&[0.0]), sparkline(&[]), sparkline(&[f64::INFINITY])),
            ("·".into(), "".into(), "▁".into())
        );
    }

    #[test]
    fn times_read_well() {
        for (ns, expected) in [
            (350_000_u64, "350us"),
            (12_000_000, "12ms"),
            (4_290_000_000, "4.2s"),
            (125_000_000_000, "2m05s"),
            (12_000_000_000_000, "3h20m"),
            (187_200_000_000_000, "2d04h"),
        ] {
            assert_eq!(duration(Duration::from_nanos(ns)), expected);
        }
        assert_eq!(seconds(f64::INFINITY), "-");
        assert_eq!(seconds(-1.0), "-");
        for (unix_s, expected) in [
            (0_i64, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_790_000_000, "2026-09-21T14:13:20.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(i128::from(unix_s) * 1_000_000_000), expected);
        }
        assert_eq!(rfc3339(1_234_567_890), "1970-01-01T00:00:01.234Z");
        assert_eq!((time_of_day(1_790_000_000_000_000_000), day(-1)), ("14:13:20".into(), "1969-12-31".into()));
        // Whatever a file contains.
        for unix_ns in [i128::MIN, i128::MAX] {
            assert_eq!((time_of_day(unix_ns), day(unix_ns)), ("00:00:00".into(), "1970-01-01".into()));
        }
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a  日本語 b", 4), ["a", "日本", "語 b"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日本", 0), ["日", "本"]);
        for cells in 2..40 {
            let text = "one two  three-and-twenty \\u{202e} f";
            let lines = wrap(text, cells);
            assert!(lines.iter().all(|line| width(line) <= cells), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn addresses_and_errnos_have_names() {
        assert_eq!(address(IpAddr::from([127, 0, 0, 1]), 80), "127.0.0.1:80");
        assert_eq!(address(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 80), "[::1]:80");
        assert_eq!(errno(99), "EADDRNOTAVAIL");
        assert_eq!(errno(111), "ECONNREFUSED");
        assert_eq!(errno(4000), "errno 4000");
    }
}
