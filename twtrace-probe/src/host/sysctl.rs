//! Sysctls, and the two with text to parse.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use twtrace_core::ports::Usable;

/// The text of a sysctl such as `net.ipv4.tcp_tw_reuse`, without the newline. Those of `net` are the values in the
/// calling thread's network namespace.
pub fn read(name: &str) -> io::Result<String> {
    let path: PathBuf = ["/proc/sys", &name.replace('.', "/")].iter().collect();
    super::read_text(path).map(|text| text.trim_end().to_owned())
}

/// A sysctl that is one number; `None` when the kernel has no sysctl of that name, or the value does not fit.
pub fn read_number<T: FromStr>(name: &str) -> Option<T> {
    read(name).ok()?.trim().parse().ok()
}

/// `ip_local_port_range`: both bounds inclusive.
pub fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    match (words.next(), words.next(), words.next()) {
        (Some(Ok(low)), Some(Ok(high)), None) if low <= high => Some((low, high)),
        _ => None,
    }
}

/// Number of distinct ports that `ip_local_reserved_ports` (`8080,9000-9100`) removes from a range. A part that cannot
/// be read is skipped.
pub fn reserved_in_range(text: &str, range: (u16, u16)) -> u32 {
    Usable::new(range, text).map_or(0, |usable| usable.reserved())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn port_ranges() {
        for (text, expected) in [
            ("32768\t60999\n", Some((32768, 60999))),
            ("1 65535", Some((1, 65535))),
            ("1024 1024", Some((1024, 1024))),
            ("2000 1000", None),
            ("1 70000", None),
            ("1", None),
            ("1 2 3", None),
            ("", None),
        ] {
            assert_eq!(port_range(text), expected, "{text:?}");
        }
    }

    #[test]
    fn reserved_ports_are_counted_inside_the_range_alone() {
        for (text, range, expected) in [
            ("", (32768, 60999), 0),
            ("8080,9148", (32768, 60999), 0),
            ("40000", (32768, 60999), 1),
            ("32768,60999", (32768, 60999), 2),
            ("30000-33000", (32768, 60999), 233),
            ("60990-65535", (32768, 60999), 10),
            ("0-65535", (1, 65535), 65535),
            ("40000-40010,40005-40020", (32768, 60999), 21),
            ("40005-40020, 40000-40010", (32768, 60999), 21),
            ("40000-40001,rubbish,99999,40010-40000", (32768, 60999), 2),
        ] {
            assert_eq!(reserved_in_range(text, range), expected, "{text:?} in {range:?}");
        }
    }

    #[test]
    fn sysctls_are_read_by_name() {
        assert!(port_range(&read("net.ipv4.ip_local_port_range").unwrap()).is_some());
        assert!(read_number::<u8>("net.ipv4.tcp_tw_reuse").is_some());
        assert!(read("net.ipv4.no_such_sysctl").is_err());
        assert_eq!(read_number::<u8>("net.ipv4.tcp_max_tw_buckets"), None, "a figure that does not fit");
    }
}
