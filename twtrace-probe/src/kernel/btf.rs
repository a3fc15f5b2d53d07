//! The offset of a member in a kernel structure, from the kernel's BTF.
//!
//! Our own scanner: the crate for this keeps every type of the kernel as an object, which takes 85 MB and 160 ms at the
//! start of a tracer that promises to stay small, and aya's BTF does not expose members. This one keeps the bytes and
//! one number per type. Format: `Documentation/bpf/btf.rst` in the kernel sources.

use bytes::Buf as _;

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// `struct btf_type` without what follows it.
const TYPE_BYTES: usize = 12;
/// `struct btf_member`.
const MEMBER_BYTES: usize = 12;
/// Depth of nested structures that is followed: the deepest in the kernel are fewer than 20.
const MAX_DEPTH: usize = 32;

/// `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// BTF that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// It ends too early.
    #[error("the BTF is cut off")]
    Truncated,
    /// Not BTF, or in the other byte order.
    #[error("this is not BTF of this machine's byte order")]
    Magic,
    /// A kind that is newer than this program.
    #[error("the BTF has a kind of type ({0}) that is not known here")]
    Kind(u32),
}

/// BTF as bytes, with the offset of each type.
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Offset in `types` of the type with id `index + 1`.
    starts: Vec<u32>,
}

/// `struct btf_type`.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: usize,
    /// `kind_flag`: members have a bit-field size in the top byte of their offset.
    flagged: bool,
    /// Size, or the type referred to.
    target: u32,
    /// Where what follows it begins.
    tail: usize,
}

/// Where a member is.
#[derive(Clone, Copy)]
struct Place {
    /// Offset in bits.
    bits: u32,
    /// Bits of a bit-field; 0 for other members.
    width: u32,
    /// Its type.
    id: u32,
}

impl Btf {
    /// Parses a BTF blob.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let mut header = bytes;
        if header.try_get_u16_ne().map_err(|_| BtfError::Truncated)? != MAGIC {
            return Err(BtfError::Magic);
        }
        let _version_and_flags = header.try_get_u16_ne().map_err(|_| BtfError::Truncated)?;
        let mut next = || header.try_get_u32_ne().map(|value| value as usize).map_err(|_| BtfError::Truncated);
        let (header_len, type_off, type_len, str_off, str_len) = (next()?, next()?, next()?, next()?, next()?);
        let section = |offset: usize, len: usize| {
            let start = header_len.checked_add(offset)?;
            bytes.get(start..start.checked_add(len)?)
        };
        let types = section(type_off, type_len).ok_or(BtfError::Truncated)?.to_vec();
        let strings = section(str_off, str_len).ok_or(BtfError::Truncated)?.to_vec();
        let mut btf = Self { types, strings, starts: Vec::new() };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let entry = self.type_at(at).ok_or(BtfError::Truncated)?;
            self.starts.push(u32::try_from(at).map_err(|_| BtfError::Truncated)?);
            at = entry.tail
                + match entry.kind {
                    kind::PTR
                    | kind::FWD
                    | kind::TYPEDEF
                    | kind::VOLATILE
                    | kind::CONST
                    | kind::RESTRICT
                    | kind::FUNC
                    | kind::FLOAT
                    | kind::TYPE_TAG => 0,
                    kind::INT | kind::VAR | kind::DECL_TAG => 4,
                    kind::ARRAY => 12,
                    kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => entry.members * MEMBER_BYTES,
                    kind::ENUM | kind::FUNC_PROTO => entry.members * 8,
                    other => return Err(BtfError::Kind(other)),
                };
        }
        Ok(())
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let mut bytes = self.types.get(at..at.checked_add(TYPE_BYTES)?)?;
        let (name, info, target) = (bytes.get_u32_ne(), bytes.get_u32_ne(), bytes.get_u32_ne());
        Some(Type {
            name,
            kind: info >> 24 & 0x1f,
            members: (info & 0xffff) as usize,
            flagged: info >> 31 != 0,
            target,
            tail: at + TYPE_BYTES,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        let start = *self.starts.get((id as usize).checked_sub(1)?)?;
        self.type_at(start as usize)
    }

    fn name(&self, offset: u32) -> &[u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn structure(&self, name: &str) -> Option<Type> {
        self.starts
            .iter()
            .filter_map(|&at| self.type_at(at as usize))
            .find(|entry| entry.kind == kind::STRUCT && self.name(entry.name) == name.as_bytes())
    }

    /// Offset in bytes of a member, such as `net`, `ipv4.tcp_death_row.tw_refcount`. Members of anonymous structures
    /// and unions are found as in C. `None` when there is no such member, when it is a bit-field, or when the path
    /// leads through a pointer.
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u32> {
        let place = self.place(structure, path)?;
        (place.bits % 8 == 0 && place.width == 0).then_some(place.bits / 8)
    }

    /// Location of a bit-field of at most eight bits that does not cross a byte boundary: the byte's offset, and the
    /// position of its lowest bit on a little-endian machine. A member that fills its byte is at bit 0.
    pub fn bits_of(&self, structure: &str, path: &str) -> Option<(u32, u32)> {
        let Place { bits, width, .. } = self.place(structure, path)?;
        (bits % 8 + width <= 8).then_some((bits / 8, bits % 8))
    }

    fn place(&self, structure: &str, path: &str) -> Option<Place> {
        let mut inside = self.structure(structure)?;
        let mut bits = 0_u32;
        let mut parts = path.split('.').peekable();
        loop {
            let found = self.member(inside, parts.next()?, 0)?;
            bits = bits.checked_add(found.bits)?;
            if parts.peek().is_none() {
                return Some(Place { bits, ..found });
            }
            inside = self.resolve(found.id).filter(|entry| matches!(entry.kind, kind::STRUCT | kind::UNION))?;
        }
    }

    /// Number of arguments of a kernel function; `None` when the BTF has none of that name.
    pub fn arguments(&self, function: &str) -> Option<usize> {
        let is_it = |entry: &Type| entry.kind == kind::FUNC && self.name(entry.name) == function.as_bytes();
        let function = self.starts.iter().filter_map(|&at| self.type_at(at as usize)).find(is_it)?;
        self.by_id(function.target).filter(|entry| entry.kind == kind::FUNC_PROTO).map(|entry| entry.members)
    }

    /// Size of a structure, bytes.
    pub fn size_of(&self, structure: &str) -> Option<u32> {
        self.structure(structure).map(|entry| entry.target)
    }

    /// A member.
    fn member(&self, inside: Type, name: &str, depth: usize) -> Option<Place> {
        if depth > MAX_DEPTH {
            return None;
        }
        for index in 0..inside.members {
            let start = inside.tail + index * MEMBER_BYTES;
            let mut bytes = self.types.get(start..start + MEMBER_BYTES)?;
            let (member, id, place) = (bytes.get_u32_ne(), bytes.get_u32_ne(), bytes.get_u32_ne());
            let (bits, width) = if inside.flagged { (place & 0x00ff_ffff, place >> 24) } else { (place, 0) };
            let member = self.name(member);
            if member == name.as_bytes() {
                return Some(Place { bits, width, id });
            }
            if member.is_empty()
                && let Some(inner) = self.resolve(id)
                && matches!(inner.kind, kind::STRUCT | kind::UNION)
                && let Some(found) = self.member(inner, name, depth + 1)
            {
                return Some(Place { bits: bits.checked_add(found.bits)?, ..found });
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let entry = self.by_id(id)?;
            match entry.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => id = entry.target,
                _ => return Some(entry),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// Builds BTF by hand.
    #[derive(Default)]
    struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Builder {
        fn string(&mut self, text: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if text.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(text.as_bytes());
            self.strings.push(0);
            at
        }

        fn entry(&mut self, name: &str, info: u32, target: u32, tail: &[u32]) {
            let name = self.string(name);
            for word in [name, info, target].iter().chain(tail) {
                self.types.extend_from_slice(&word.to_ne_bytes());
            }
        }

        fn structure(&mut self, name: &str, kind: u32, flagged: bool, members: &[(&str, u32, u32)]) {
            let tail: Vec<u32> =
                members.iter().flat_map(|(name, id, place)| [self.string(name), *id, *place]).collect();
            self.entry(name, u32::from(flagged) << 31 | kind << 24 | members.len() as u32, 64, &tail);
        }

        fn build(&self) -> Vec<u8> {
            let mut bytes = MAGIC.to_ne_bytes().to_vec();
            bytes.extend([1, 0]);
            for word in [24, 0, self.types.len(), self.types.len(), self.strings.len()] {
                bytes.extend_from_slice(&(word as u32).to_ne_bytes());
            }
            bytes.extend(&self.types);
            bytes.extend(&self.strings);
            bytes
        }
    }

    fn sample() -> Vec<u8> {
        let mut b = Builder::default();
        b.entry("int", kind::INT << 24, 4, &[0x20]); // 1
        b.structure("inner", kind::STRUCT, false, &[("x", 1, 0), ("y", 1, 32)]); // 2
        b.entry("inner_t", kind::TYPEDEF << 24, 2, &[]); // 3
        b.structure("", kind::UNION, false, &[("a", 1, 0), ("b", 3, 0)]); // 4
        b.entry("", kind::PTR << 24, 2, &[]); // 5
        let bits = [("flag", 1, 1 << 24 | 128), ("locks", 1, 4 << 24 | 132), ("across", 1, 4 << 24 | 142)];
        let members = [&[("first", 1, 0), ("", 4, 64)], &bits[..], &[("to", 5, 192), ("in", 3, 256)]].concat();
        b.structure("outer", kind::STRUCT, true, &members); // 6
        b.entry("", kind::FUNC_PROTO << 24 | 2, 1, &[0, 1, 0, 5]); // 7
        b.entry("called", kind::FUNC << 24, 7, &[]); // 8
        b.build()
    }

    #[test]
    fn members_are_found_as_in_c() {
        let btf = Btf::parse(&sample()).unwrap();
        for (path, expected) in [
            ("first", Some(0)),
            ("a", Some(8)),
            ("b.y", Some(12)),
            ("to", Some(24)),
            ("in.y", Some(36)),
            ("flag", None),
            ("to.y", None),
            ("first.y", None),
            ("nothing", None),
        ] {
            assert_eq!(btf.offset_of("outer", path), expected, "{path}");
        }
        for (path, expected) in [
            ("flag", Some((16, 0))),
            ("locks", Some((16, 4))),
            ("across", None),
            ("first", Some((0, 0))),
            ("to.y", None),
            ("nothing", None),
        ] {
            assert_eq!(btf.bits_of("outer", path), expected, "{path}");
        }
        assert_eq!(btf.offset_of("inner_t", "x"), None, "a typedef is not a structure");
        assert_eq!((btf.arguments("called"), btf.arguments("outer")), (Some(2), None));
        assert_eq!((btf.size_of("outer"), btf.size_of("called")), (Some(64), None));
    }

    #[test]
    fn damaged_btf_is_an_error_and_never_a_panic() {
        let good = sample();
        for length in 0..good.len() {
            let _ = Btf::parse(&good[..length]).map(|btf| btf.offset_of("outer", "in.y"));
        }
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = Btf::parse(&bad).map(|btf| btf.offset_of("outer", "in.y"));
            }
        }
        assert_eq!(Btf::parse(b"\x7fELF").err(), Some(BtfError::Magic));
        assert_eq!(Btf::parse(&good[..10]).err(), Some(BtfError::Truncated));
    }
}
