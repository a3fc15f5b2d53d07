//! Addresses and ports: their columns, and which addresses need not be written again.

use super::columns::{Flag, Opt, OptReader};
use super::dictionary::{DecodedDict, Meanings, Words, WordsReader};
use super::words;
use anyhow::{Context as _, anyhow};
use arrow_array::types::{UInt16Type, UInt32Type};
use arrow_array::{BooleanArray, UInt16Array, UInt32Array};
use std::net::IpAddr;
use twtrace_core::event::Tuple;

/// Sockets whose addresses are remembered. The lowest bits of a cookie give its place: the kernel numbers sockets in
/// order, so this many can be remembered at a time.
const PLACES: usize = 1 << 17;

/// Addresses of the sockets that a segment has reported recently. A row about one of them leaves its addresses out; a
/// reader that reads the same rows in the same order remembers the same addresses.
pub(super) struct Tuples {
    places: Vec<Option<Place>>,
    generation: u32,
}

/// A socket's addresses, with the generation in which they were remembered.
#[derive(Clone)]
struct Place {
    cookie: u64,
    generation: u32,
    tuple: Tuple,
}

impl Default for Tuples {
    fn default() -> Self {
        Self { places: vec![None; PLACES], generation: 0 }
    }
}

impl Tuples {
    /// Forgets all: a segment can be read alone.
    pub(super) fn clear(&mut self) {
        // Damage may cause this any number of times: clearing all places takes as long as reading ten thousand rows.
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.places.fill(None);
        }
    }

    /// Remembers a socket. Sockets without a cookie cannot be distinguished.
    pub(super) fn insert(&mut self, cookie: u64, tuple: &Tuple) {
        if cookie != 0 {
            let generation = self.generation;
            self.places[cookie as usize % PLACES] = Some(Place { cookie, generation, tuple: *tuple });
        }
    }

    /// The addresses of a remembered socket.
    pub(super) fn get(&self, cookie: u64) -> Option<&Tuple> {
        let place = self.places[cookie as usize % PLACES].as_ref()?;
        (place.cookie == cookie && place.generation == self.generation).then_some(&place.tuple)
    }
}

/// The columns of a tuple in a table that is being built.
pub(super) struct TupleColumns<'a> {
    pub(super) netns: &'a mut Opt<UInt32Type>,
    pub(super) local_addr: &'a mut Words<IpAddr>,
    pub(super) local_port: &'a mut Opt<UInt16Type>,
    pub(super) remote_addr: &'a mut Words<IpAddr>,
    pub(super) remote_port: &'a mut Opt<UInt16Type>,
    pub(super) v4_mapped: &'a mut Flag,
}

impl TupleColumns<'_> {
    pub(super) fn push(self, tuple: Option<&Tuple>) {
        self.netns.push(tuple.map(|tuple| tuple.netns));
        self.local_port.push(tuple.map(|tuple| tuple.local_port));
        self.remote_port.push(tuple.map(|tuple| tuple.remote_port));
        self.v4_mapped.push(tuple.map(|tuple| tuple.v4_mapped));
        match tuple {
            Some(tuple) => {
                self.local_addr.push(&tuple.local_addr, |out| words::write_address(tuple.local_addr, out));
                self.remote_addr.push(&tuple.remote_addr, |out| words::write_address(tuple.remote_addr, out));
            }
            None => {
                self.local_addr.push_null();
                self.remote_addr.push_null();
            }
        }
    }
}

/// What the addresses of a table's dictionaries mean.
#[derive(Default)]
pub(super) struct Addresses {
    local: Meanings<IpAddr>,
    remote: Meanings<IpAddr>,
}

/// The columns of a tuple in a table that is read.
pub(super) struct TupleRows {
    netns: OptReader<UInt32Array>,
    local_addr: DecodedDict<IpAddr>,
    local_port: OptReader<UInt16Array>,
    remote_addr: DecodedDict<IpAddr>,
    remote_port: OptReader<UInt16Array>,
    v4_mapped: OptReader<BooleanArray>,
}

impl TupleRows {
    pub(super) fn new(
        addresses: &mut Addresses,
        netns: OptReader<UInt32Array>,
        (local_addr, remote_addr): (WordsReader, WordsReader),
        (local_port, remote_port): (OptReader<UInt16Array>, OptReader<UInt16Array>),
        v4_mapped: OptReader<BooleanArray>,
    ) -> Self {
        let mean = |text: &str| text.parse().ok();
        Self {
            netns,
            local_addr: addresses.local.of(local_addr, mean),
            local_port,
            remote_addr: addresses.remote.of(remote_addr, mean),
            remote_port,
            v4_mapped,
        }
    }

    /// The tuple of a row, unless the row leaves it out.
    pub(super) fn get(&self, row: usize) -> anyhow::Result<Option<Tuple>> {
        // An invalid address is damage, not a word of a later version.
        let address = |error: anyhow::Error| anyhow!("an address that is none: {error}");
        let Some(local_addr) = self.local_addr.get(row).map_err(address)? else { return Ok(None) };
        Ok(Some(Tuple {
            netns: self.netns.get(row).context("an address without a namespace")?,
            local_addr: *local_addr,
            local_port: self.local_port.get(row).context("an address without a port")?,
            remote_addr: *self.remote_addr.need(row).map_err(address)?,
            remote_port: self.remote_port.get(row).context("an address without a port")?,
            v4_mapped: self.v4_mapped.get(row).unwrap_or(false),
        }))
    }
}

/// Takes the columns of a tuple out of the rows of a table.
macro_rules! take_tuple {
    ($rows:ident, $addresses:expr) => {
        crate::tuples::TupleRows::new(
            &mut $addresses,
            $rows.netns.take(),
            ($rows.local_addr.take(), $rows.remote_addr.take()),
            ($rows.local_port.take(), $rows.remote_port.take()),
            $rows.v4_mapped.take(),
        )
    };
}

pub(super) use take_tuple;
