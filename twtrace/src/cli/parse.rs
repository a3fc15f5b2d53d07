//! Values of arguments. Each error says which form is valid.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use jiff::civil::Time;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;
use twtrace_core::finding::{Finding, Rule, Severity};
use twtrace_probe::kernel::log::LogFilter;
use twtrace_recording::export::Table;
use twtrace_recording::writer::Keep;
use twtrace_view::explain::{Topic, topic as find_topic};

/// Shortest interval between reports.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Longest duration: clocks and timers can represent it without overflow.
const MAX_DURATION: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A day, in nanoseconds.
const DAY_NS: i128 = 86_400_000_000_000;

/// Maximum number of sockets that the kernel side is asked to follow. Their map takes about 400 bytes each.
const MAX_SOCKETS: u32 = 16 * 1024 * 1024;

/// Highest rate in a plan, connections per second.
const MAX_RATE: f64 = 1e9;

/// Largest ring buffer.
const MAX_RING: u32 = 1 << 30;

/// A command name as the kernel keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommName(pub Vec<u8>);

/// Bytes of a command name in the kernel, without the NUL (`TASK_COMM_LEN`).
const COMM_BYTES: usize = 15;

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = span(text)?;
    if duration.is_zero() { Err("expected a time longer than 0".to_owned()) } else { Ok(duration) }
}

/// A length of time, which may be 0.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let valid = || "expected a time such as 500ms, 5s, 2m or 1h".to_owned();
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_each = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(valid()),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(valid());
    }
    let number: f64 = number.parse().map_err(|_| valid())?;
    let duration = Duration::try_from_secs_f64(number * seconds_each).map_err(|_| valid())?;
    if duration > MAX_DURATION {
        return Err("expected a time of ten years at most".to_owned());
    }
    Ok(duration)
}

/// Minimum that a flight recorder keeps, bytes.
const MIN_KEEP: u64 = 1 << 20;

/// A time, or a size with its unit.
pub(super) fn keep(text: &str) -> Result<Keep, String> {
    let valid = || "expected a time such as 30m or 6h, or a size such as 500MiB or 2GiB".to_owned();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let each: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "ms" | "s" | "m" | "h" => return duration(text).map(Keep::Time).map_err(|_| valid()),
        "k" | "kib" => 1 << 10,
        "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        // A number alone could be either, and so could a capital M.
        _ => return Err(valid()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(each)).ok_or_else(valid)?;
    if bytes < MIN_KEEP { Err("expected at least 1MiB".to_owned()) } else { Ok(Keep::Bytes(bytes)) }
}

pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < MIN_INTERVAL { Err("expected at least 100ms".to_owned()) } else { Ok(interval) }
}

/// A moment of a recording, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSpec {
    /// A wall clock with its date (RFC 3339), as nanoseconds since the Unix epoch.
    Wall(i128),
    /// A time of day (UTC), as nanoseconds since midnight.
    OfDay(u64),
    /// This long after the start of the recording.
    AfterStart(Duration),
    /// This long before its end.
    BeforeEnd(Duration),
}

impl TimeSpec {
    /// The same moment in a recording from `start_ns` to `end_ns`, all in nanoseconds since the Unix epoch. It may be
    /// outside of the recording.
    ///
    /// A time of day is on the day of the start; if it had passed by then and the recording reaches that far, on the
    /// next day.
    pub fn unix_ns(self, start_ns: i128, end_ns: i128) -> i128 {
        let length = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
        match self {
            Self::Wall(unix_ns) => unix_ns,
            Self::OfDay(since_midnight) => {
                let at = start_ns.saturating_sub(start_ns.rem_euclid(DAY_NS)).saturating_add(since_midnight.into());
                let next = at.saturating_add(DAY_NS);
                if at < start_ns && next <= end_ns { next } else { at }
            }
            Self::AfterStart(duration) => start_ns.saturating_add(length(duration)),
            Self::BeforeEnd(duration) => end_ns.saturating_sub(length(duration)),
        }
    }
}

impl FromStr for TimeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = || {
            "expected a time such as 2026-09-21T14:13:20Z, 14:13:20 (UTC), +90s from the start or -5m from the end"
                .to_owned()
        };
        if let Some(after) = text.strip_prefix('+') {
            return span(after).map(Self::AfterStart).map_err(|_| valid());
        }
        if let Some(before) = text.strip_prefix('-') {
            return span(before).map(Self::BeforeEnd).map_err(|_| valid());
        }
        let of_day = ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|form| Time::strptime(form, text).ok());
        if let Some(time) = of_day {
            let since_midnight = time.duration_since(Time::midnight()).as_nanos();
            return u64::try_from(since_midnight).map(Self::OfDay).map_err(|_| valid());
        }
        text.parse::<Timestamp>().map(|time| Self::Wall(time.as_nanosecond())).map_err(|_| valid())
    }
}

/// Findings that make a command fail: those of these rules, or those of at least this severity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailOn {
    /// Rules, in the order in which they were named.
    pub rules: Vec<Rule>,
    /// Any rule, from this severity on.
    pub least: Option<Severity>,
}

impl FailOn {
    /// The first requested finding that is still active. If ports have already run out, a request for the near
    /// exhaustion matches too.
    pub fn first<'a>(&self, findings: &'a [Finding]) -> Option<&'a Finding> {
        findings.iter().find(|finding| self.selects(finding))
    }

    /// Whether a finding is active and was requested.
    pub fn selects(&self, finding: &Finding) -> bool {
        let is_near = finding.rule == Rule::ExhaustionReached && self.rules.contains(&Rule::ExhaustionNear);
        let is_asked =
            self.rules.contains(&finding.rule) || is_near || self.least.is_some_and(|least| finding.severity >= least);
        finding.active && is_asked
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fail_on = Self::default();
        for name in text.split(',').map(str::trim) {
            let least = match name {
                "any" => Severity::Info,
                "warning" => Severity::Warning,
                "critical" => Severity::Critical,
                _ => {
                    let valid = || {
                        let names: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
                        format!("expected any, warning, critical, or findings with commas: {}", names.join(", "))
                    };
                    fail_on.rules.push(name.parse().map_err(|_| valid())?);
                    continue;
                }
            };
            fail_on.least = Some(fail_on.least.map_or(least, |before| before.min(least)));
        }
        Ok(fail_on)
    }
}

fn number<T: FromStr>(text: &str, valid: impl Fn(&T) -> bool, form: &str) -> Result<T, String> {
    text.parse().ok().filter(valid).ok_or_else(|| format!("expected {form}"))
}

pub(super) fn limit(text: &str) -> Result<usize, String> {
    number(text, |limit| *limit > 0, "a number of rows from 1 on")
}

pub(super) fn pid(text: &str) -> Result<u32, String> {
    number(text, |pid| (1..=1 << 22).contains(pid), "a process id, such as 1234")
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    number(text, |port| *port > 0, "a port from 1 to 65535")
}

pub(super) fn max_sockets(text: &str) -> Result<u32, String> {
    number(text, |sockets| (1..=MAX_SOCKETS).contains(sockets), "a number from 1 to 16777216")
}

/// `port=8080,addr=10.0.0.1,pid=1234`, each at most once.
pub(super) fn log_filter(text: &str) -> Result<LogFilter, String> {
    fn set<T>(part: &mut Option<T>, value: Option<T>) -> bool {
        let is_first = part.is_none();
        *part = value;
        is_first && part.is_some()
    }
    let mut filter = LogFilter::default();
    let take = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let is_good = match name {
            "port" => set(&mut filter.port, port(value).ok()),
            "addr" => set(&mut filter.addr, value.parse::<IpAddr>().ok().map(|addr| addr.to_canonical())),
            "pid" => set(&mut filter.pid, pid(value).ok()),
            _ => false,
        };
        is_good.then_some(())
    };
    let all: Option<()> = text.split(',').map(take).collect();
    all.map(|()| filter)
        .ok_or_else(|| "expected one or more of port, addr and pid, such as port=8080,pid=1234".to_owned())
}

pub(super) fn comm(text: &str) -> Result<CommName, String> {
    if text.is_empty() {
        return Err("expected a command name, such as nginx".to_owned());
    }
    let bytes = text.as_bytes();
    Ok(CommName(bytes[..bytes.len().min(COMM_BYTES)].to_vec()))
}

pub(super) fn user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    let user = if text.is_empty() || text.contains('\0') { None } else { uzers::get_user_by_name(text) };
    user.map(|user| user.uid()).ok_or_else(|| "no such user: expected a user name or uid".to_owned())
}

/// Connections per second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let plain = |rate: &f64| *rate > 0.0 && *rate <= MAX_RATE && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    number(text, plain, "a rate above 0 and up to a billion a second, such as 1000 or 0.5")
}

/// A number of destinations or of source addresses.
pub(super) fn several(text: &str) -> Result<u32, String> {
    number(text, |several| (1..=1_000_000).contains(several), "a number from 1 to 1000000")
}

pub(super) fn tw_reuse(text: &str) -> Result<u8, String> {
    number(text, |mode| *mode <= 2, "0, 1, or 2 for loopback alone")
}

pub(super) fn buckets(text: &str) -> Result<u64, String> {
    // The kernel's value is a signed int.
    number(text, |buckets| (1..=i32::MAX as u64).contains(buckets), "a number from 1 to 2147483647")
}

/// `LOW-HIGH`, or with a space as in the sysctl.
pub(super) fn range(text: &str) -> Result<(u16, u16), String> {
    let valid = || "expected the lower and the upper port, such as 32768-60999".to_owned();
    let (low, high) = text.split_once(['-', ' ', '\t']).ok_or_else(valid)?;
    let (low, high) = (port(low.trim()).map_err(|_| valid())?, port(high.trim()).map_err(|_| valid())?);
    if low <= high { Ok((low, high)) } else { Err(valid()) }
}

/// The format of `net.ipv4.ip_local_reserved_ports`; an empty text means no ports.
pub(super) fn reserved(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let part = part.trim();
        if part.contains('-') { range(part).is_ok() } else { port(part).is_ok() }
    };
    if text.trim().is_empty() || text.split(',').all(is_part) {
        Ok(text.trim().to_owned())
    } else {
        Err("expected ports and ranges of ports, such as 8080,9000-9100".to_owned())
    }
}

pub(super) fn topic(text: &str) -> Result<&'static Topic, String> {
    find_topic(text).map_err(|nearest| format!("no such topic; did you mean {nearest}? `twtrace explain` lists them"))
}

pub(super) fn ring_bytes(text: &str) -> Result<u32, String> {
    // SC_PAGESIZE is defined everywhere; 4,096 where it could not be read.
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|page| u32::try_from(page).ok()).unwrap_or(4096);
    let valid = || format!("expected a power of two from {page} to {MAX_RING} bytes, such as 524288, 512K or 8M");
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let each: u32 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(valid()),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(each)).ok_or_else(valid)?;
    if bytes.is_power_of_two() && (page..=MAX_RING).contains(&bytes) { Ok(bytes) } else { Err(valid()) }
}

/// `CIDR[:PORT]`. IPv6 needs brackets before a port, unless a prefix length ends the address.
pub(crate) fn destination(text: &str) -> Result<(IpNet, Option<u16>), String> {
    let valid = || "expected 10.0.0.1, 10.0.0.0/8, 10.0.0.0/8:443, fd00::1, fd00::/8 or [fd00::/8]:443".to_owned();
    let (address, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or_else(valid)?;
        if rest.is_empty() { (address, None) } else { (address, Some(rest.strip_prefix(':').ok_or_else(valid)?)) }
    } else {
        match text.split_once('/') {
            Some((_, prefix)) => match prefix.split_once(':') {
                Some((_, port)) => (&text[..text.len() - port.len() - 1], Some(port)),
                None => (text, None),
            },
            None if text.matches(':').count() == 1 => {
                let (address, port) = text.split_once(':').ok_or_else(valid)?;
                (address, Some(port))
            }
            None => (text, None),
        }
    };
    let net: IpNet = match address.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => address.parse().map_err(|_| valid())?,
    };
    let port = port.map(self::port).transpose().map_err(|_| valid())?;
    Ok((unmapped(net), port))
}

/// Connections of IPv6 sockets to IPv4-mapped addresses are shown as IPv4, so filters convert them as well.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.prefix_len().checked_sub(96).zip(v6.addr().to_ipv4_mapped());
    mapped.and_then(|(length, address)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4)
}

/// A table of a recording, by its name.
pub(super) fn tables() -> impl TypedValueParser<Value = Table> {
    let names = Table::ALL.map(|table| PossibleValue::new(table.name()).help(table.about()));
    PossibleValuesParser::new(names).try_map(|name| {
        Table::ALL.into_iter().find(|table| table.name() == name).ok_or_else(|| format!("there is no table {name}"))
    })
}
