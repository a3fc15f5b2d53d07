//! Kernels without BTF: the classic tracepoint, with the layout from its format file.

use super::tracefs::{self, TracefsState};
use crate::host;
use twtrace_common::Offsets;

/// Program on the tracepoint.
pub(super) const PROGRAM: &str = "set_state_plain";

/// Program on it in the place of the twin.
pub(super) const TWIN: &str = "set_state_probed";

/// Folder of the tracepoint in tracefs.
pub(super) const CATEGORY: &str = "sock";

/// Its description, below the tracefs mount.
const FORMAT: &str = "events/sock/inet_sock_set_state/format";

/// Offsets of the tracepoint's fields. The error is one line. It mounts tracefs if necessary:
/// attaching needs it too.
pub(super) fn offsets() -> Result<Offsets, String> {
    let (TracefsState::Mounted(place) | TracefsState::Private(place)) = tracefs::ensure_tracefs()?;
    let path = place.join(FORMAT);
    let text = host::read_text(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    of_format(&text).map_err(|field| format!("{} has no such field as {field}", path.display()))
}

/// Offsets of the kernel's types together with those of the tracepoint's fields, as far as they are known.
pub(super) fn with_record(offsets: Offsets) -> Result<Offsets, String> {
    let record = self::offsets()?;
    Ok(Offsets {
        tp_skaddr: record.tp_skaddr,
        tp_oldstate: record.tp_oldstate,
        tp_newstate: record.tp_newstate,
        ..offsets
    })
}

/// Reads a format file: lines `field:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;`. The error is the first field
/// that is missing or has another size.
fn of_format(text: &str) -> Result<Offsets, &'static str> {
    let field = |name: &'static str, bytes: u32| field(text, name, bytes).ok_or(name);
    Ok(Offsets {
        tp_skaddr: field("skaddr", 8)?,
        tp_oldstate: field("oldstate", 4)?,
        tp_newstate: field("newstate", 4)?,
        tp_sport: field("sport", 2)?,
        tp_dport: field("dport", 2)?,
        tp_family: field("family", 2)?,
        // Before 5.6 it had 8 bits, where MPTCP's 262 looks like TCP's 6.
        tp_protocol: field("protocol", 2)?,
        tp_saddr: field("saddr", 4)?,
        tp_daddr: field("daddr", 4)?,
        tp_saddr_v6: field("saddr_v6", 16)?,
        tp_daddr_v6: field("daddr_v6", 16)?,
        ..Offsets::NONE
    })
}

fn field(text: &str, name: &str, bytes: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
        let declaration = parts.next()?;
        let declared = declaration.rsplit([' ', '*']).next()?;
        // An array has its length after the name.
        let declared = declared.split_once('[').map_or(declared, |(name, _)| name);
        let mut number = |key: &str| -> Option<u32> { parts.next()?.strip_prefix(key)?.parse().ok() };
        let (offset, size) = (number("offset:")?, number("size:")?);
        (declared == name && size == bytes).then_some(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: inet_sock_set_state\nID: 1410\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;\n\
        \tfield:int newstate;\toffset:20;\tsize:4;\tsigned:1;\n\
        \tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;\n\
        \tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n\
        \tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;\n\n\
        print fmt: \"family=%s\"\n";

    #[test]
    fn offsets_come_from_the_format_file() {
        let Ok(offsets) = of_format(FORMAT) else { panic!("it is well formed") };
        assert_eq!((offsets.tp_skaddr, offsets.tp_oldstate, offsets.tp_newstate), (8, 16, 20));
        assert_eq!((offsets.tp_sport, offsets.tp_dport, offsets.tp_family, offsets.tp_protocol), (24, 26, 28, 30));
        assert_eq!((offsets.tp_saddr, offsets.tp_daddr, offsets.tp_saddr_v6, offsets.tp_daddr_v6), (32, 36, 40, 56));
        // Some distributions have a longer common header.
        let longer = FORMAT.replace("offset:30", "offset:38");
        assert_eq!(of_format(&longer).map(|offsets| offsets.tp_protocol), Ok(38));
    }

    #[test]
    fn what_is_missing_is_named() {
        let old = FORMAT.replace("__u16 protocol;\toffset:30;\tsize:2", "__u8 protocol;\toffset:30;\tsize:1");
        for (text, missing) in [(old.as_str(), "protocol"), ("", "skaddr"), ("field:;;;", "skaddr")] {
            assert_eq!(of_format(text).err(), Some(missing), "{text}");
        }
    }
}
