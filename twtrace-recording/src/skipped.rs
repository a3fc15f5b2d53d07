//! Rows that were left out, by reason: each is counted, and the segment's losses report them.

use super::Loss;
use super::schema::Form;
use super::tables::{TABLES, Table};

/// Number of words that are named; damage could invent any number of them.
const NAMED: usize = 4;

/// Characters of a word that are shown.
const SHOWN: usize = 40;

/// Rows of a segment that were left out.
#[derive(Default)]
pub(super) struct Skipped {
    tables: [Rows; TABLES],
    /// Events without any row.
    missing: u64,
}

/// Of one table.
#[derive(Default)]
struct Rows {
    /// Rows of kinds that a later version has added.
    unknown: u64,
    /// The first few of the unknown words.
    words: Vec<String>,
    /// Rows that do not fit the others.
    unreadable: u64,
    /// The reason for the first of them.
    first: Option<String>,
}

impl Skipped {
    /// A row has an unknown word.
    pub(super) fn unknown(&mut self, table: Table, word: &str) {
        let rows = &mut self.tables[table as usize];
        rows.unknown += 1;
        let word: String = word.chars().take(SHOWN).collect();
        if rows.words.len() < NAMED && !rows.words.contains(&word) {
            rows.words.push(word);
        }
    }

    /// A row cannot be read.
    pub(super) fn unreadable(&mut self, table: Table, error: &anyhow::Error) {
        let rows = &mut self.tables[table as usize];
        rows.unreadable += 1;
        rows.first.get_or_insert_with(|| format!("{error:#}"));
    }

    /// This many consecutive events are in no table.
    pub(super) fn gap(&mut self, events: u64) {
        self.missing = self.missing.saturating_add(events);
    }

    /// What is missing, for each table.
    pub(super) fn losses(self, segment: u32) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (table, rows) in Table::ALL.into_iter().zip(self.tables) {
            let mut lose = |what: String| losses.push(Loss { file: table.file(segment, Form::Parquet), what });
            if rows.unknown > 0 {
                let words = rows.words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
                let count = counted(rows.unknown, "row");
                lose(format!(
                    "has {count} with words that this version does not know ({words}); they are left out: upgrade \
                     twtrace to read them"
                ));
            }
            if let Some(first) = rows.first {
                let count = counted(rows.unreadable, "row");
                lose(format!("has {count} that cannot be read ({first}); they are left out"));
            }
        }
        if self.missing > 0 {
            let what = format!("is not complete: {} of this segment are missing", counted(self.missing, "event"));
            losses.push(Loss { file: Table::Connections.file(segment, Form::Parquet), what });
        }
        losses
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::decoder::{Decoder, Next, Restated};
    use crate::encoder::Encoder;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, StringArray};
    use std::sync::Arc;
    use twtrace_core::event::{Binding, CensusRow, CensusState, Connection, Event, Owner, Role, SocketOwner, Tuple};
    use twtrace_testkit::{
        BuildConnection as _, BuildOwner as _, BuildTuple as _, START_NS, bind_failed, bound_connect, census_row,
        namespace, owner, reset_sent, socket_owner,
    };

    /// Rows of all tables.
    type Window = [Option<RecordBatch>; TABLES];

    const NETNS: u32 = 1;

    fn tuple(local_port: u16) -> Tuple {
        twtrace_testkit::tuple(local_port, [10, 0, 0, 2], 443).in_namespace(NETNS)
    }

    fn who(tgid: u32, name: &str) -> Owner {
        owner(tgid, name).started(1)
    }

    fn start() -> Event {
        twtrace_testkit::start(START_NS).event()
    }

    fn connection(cookie: u64, local_port: u16) -> Event {
        let binding = Binding { port: true, address: true, range: Some((40_000, 40_009)) };
        let bare = Connection::bare(tuple(local_port), START_NS + 9_000);
        Connection { cookie, role: Role::Active, sock_dead: true, established: true, binding, ..bare }.event()
    }

    fn bound(cookie: u64, local_port: u16) -> Event {
        bound_connect(cookie, tuple(local_port), START_NS + 1_000)
    }

    fn owners(sockets: u64) -> Event {
        let row = SocketOwner {
            command: "pool \u{1b}\0\"".into(),
            ..socket_owner(&who(7, ""), CensusState::CloseWait, tuple(0), sockets)
        };
        Event::SocketOwners { at_ns: START_NS + 3_000, complete: false, rows: vec![row] }
    }

    fn row(cookie: u64, state: CensusState) -> CensusRow {
        census_row(cookie, tuple(cookie as u16), state, 0)
    }

    fn encode(encoder: &mut Encoder, events: &[Event]) -> Window {
        events.iter().for_each(|event| encoder.push(event).unwrap());
        encoder.take().unwrap()
    }

    /// What can be read from the rows, and what is reported missing.
    fn decode(window: Window, first_seq: u64, next_seq: u64, restated: Restated) -> (Vec<Event>, Vec<Loss>) {
        let mut decoder = Decoder::default();
        decoder.begin(first_seq, restated);
        let mut events = Vec::new();
        let mut window = window.map(|batch| batch.filter(|batch| batch.num_rows() > 0));
        loop {
            match decoder.next().unwrap() {
                Next::Event(event) => events.push(event),
                Next::Needs(table) => match window[table as usize].take() {
                    Some(batch) => decoder.load(table, &batch).unwrap(),
                    None => decoder.close(table).unwrap(),
                },
                Next::Over => break,
            }
        }
        decoder.end(next_seq);
        (events, decoder.take_skipped().losses(3))
    }

    /// The same rows with one word replaced by another.
    fn reworded(batch: &RecordBatch, column: &str, from: &str, to: &str) -> RecordBatch {
        let index = batch.schema().index_of(column).unwrap();
        let old = batch.column(index).as_dictionary::<Int32Type>();
        let words = old.values().as_string::<i32>().iter();
        let words: StringArray = words.map(|word| word.map(|word| if word == from { to } else { word })).collect();
        let new = DictionaryArray::try_new(old.keys().clone(), Arc::new(words)).unwrap();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[index] = Arc::new(new);
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    }

    #[test]
    fn rows_with_words_of_later_versions_are_left_out_and_named() {
        let census = Event::SocketDump(vec![row(9, CensusState::Open), row(10, CensusState::Bound)]);
        let all_bound = Event::SocketDump(vec![row(11, CensusState::Bound)]);
        let reset = reset_sent(5, tuple(5), START_NS + 8_000);
        let named = namespace(NETNS, "shop");
        let gone = Event::NamespaceGone { netns: 2 };
        let events = [
            start(),
            bound(5, 5),
            bind_failed(who(7, "bind"), tuple(80), 98, true, START_NS + 2_000),
            census,
            all_bound,
            gone,
            reset.clone(),
            connection(6, 6),
            named.clone(),
        ];
        let mut window = encode(&mut Encoder::default(), &events);
        for (table, column, from, to) in [
            (Table::Host, "kind", "namespace_gone", "namespace_lost"),
            (Table::Connections, "kind", "bind_failed", "listen\u{1b}_failed"),
            (Table::Sockets, "kind", "bound_connect", "bound_listen"),
            (Table::Sockets, "state", "bound", "unbound"),
        ] {
            let batch = window[table as usize].take().unwrap();
            window[table as usize] = Some(reworded(&batch, column, from, to));
        }
        let (found, losses) = decode(window, 0, 9, Restated::Known);
        // The reset's row has no addresses: they are those of a row with an unknown word.
        assert_eq!(
            found,
            [start(), Event::SocketDump(vec![row(9, CensusState::Open)]), reset, connection(6, 6), named]
        );
        let said: Vec<String> = losses.iter().map(|loss| format!("{} {}", loss.file, loss.what)).collect();
        let rest = "with words that this version does not know";
        let then = "left out: upgrade twtrace to read them";
        assert_eq!(
            said,
            [
                format!("host-0003.parquet has 1 row {rest} (\"namespace_lost\"); they are {then}"),
                format!("connections-0003.parquet has 1 row {rest} (\"listen\\u{{1b}}_failed\"); they are {then}"),
                format!("sockets-0003.parquet has 3 rows {rest} (\"bound_listen\", \"unbound\"); they are {then}"),
            ]
        );
    }

    fn without_row(batch: &RecordBatch, row: usize) -> RecordBatch {
        let rest = batch.num_rows() - row - 1;
        let parts = [batch.slice(0, row), batch.slice(row + 1, rest)];
        arrow_select::concat::concat_batches(&batch.schema(), &parts).unwrap()
    }

    /// A connection that its own process has closed.
    fn closed_by(tgid: u32) -> Event {
        let closer = who(tgid, "curl").with(|owner| owner.exiting = true);
        let bare = Connection::bare(tuple(tgid as u16), START_NS);
        Connection { cookie: tgid.into(), closer: Some(closer), ..bare }.event()
    }

    #[test]
    fn what_comes_after_a_row_that_cannot_be_read_is_kept() {
        let events: Vec<Event> = std::iter::once(start()).chain((1..=5).map(closed_by)).collect();
        let mut window = encode(&mut Encoder::default(), &events);
        let processes = window[Table::Processes as usize].as_mut().unwrap();
        *processes = without_row(processes, 2);
        let (found, losses) = decode(window, 0, 6, Restated::Known);
        assert_eq!(found, [&events[..3], &events[4..]].concat());
        assert_eq!(losses.len(), 1);
        assert_eq!(losses[0].file, "connections-0003.parquet");
        let what = "has 1 row that cannot be read (a process that is not in the recording); they are left out";
        assert_eq!(losses[0].what, what);
    }

    #[test]
    fn without_a_start_no_time_is_invented() {
        let events = [start(), closed_by(1), closed_by(2)];
        let mut window = encode(&mut Encoder::default(), &events);
        window[Table::Host as usize] = None;
        let (found, losses) = decode(window, 0, 3, Restated::Known);
        assert_eq!(found, []);
        assert!(losses[0].what.contains("2 rows that cannot be read (its time is not known"), "{losses:?}");
    }

    #[test]
    fn census_of_which_rows_were_left_out_is_not_complete() {
        let begin = Event::SocketDumpBegin { netns: NETNS, at_ns: START_NS + 1_000, whole: true };
        let end = |complete| Event::SocketDumpEnd { at_ns: START_NS + 2_000, complete };
        let rows = |cookie| Event::SocketDump(vec![row(cookie, CensusState::TimeWait)]);
        let events = [start(), begin.clone(), rows(1), rows(2), end(true), begin.clone(), rows(3), end(true)];
        let mut window = encode(&mut Encoder::default(), &events);
        let sockets = window[Table::Sockets as usize].as_mut().unwrap();
        *sockets = without_row(sockets, 1);
        let (found, losses) = decode(window, 0, 8, Restated::Known);
        // The next one is whole again.
        assert_eq!(found, [start(), begin.clone(), rows(1), end(false), begin, rows(3), end(true)]);
        assert_eq!(losses.len(), 1);
    }

    #[test]
    fn search_for_owners_of_which_rows_were_left_out_is_not_complete() {
        let Event::SocketOwners { at_ns, rows, .. } = owners(1) else { unreachable!() };
        let of = |address: [u8; 4]| SocketOwner { remote_addr: address.into(), ..rows[0].clone() };
        let found = |complete, rows: &[[u8; 4]]| {
            let rows = rows.iter().map(|address| of(*address)).collect();
            Event::SocketOwners { at_ns, complete, rows }
        };
        let (one, other, third) = ([10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]);
        // The first row, one in the middle, all of a search; and one of a search without rows.
        let searches =
            [found(true, &[one, other]), found(true, &[other, one, third]), found(true, &[one]), found(true, &[])];
        let events: Vec<Event> = std::iter::once(start()).chain(searches).collect();
        let mut window = encode(&mut Encoder::default(), &events);
        assert_eq!(decode(window.clone(), 0, 5, Restated::Known), (events, Vec::new()));
        let owners = window[Table::Owners as usize].as_mut().unwrap();
        *owners = reworded(owners, "remote_addr", "10.0.0.1", "nowhere");
        let (left, losses) = decode(window, 0, 5, Restated::Known);
        assert_eq!(left, [start(), found(false, &[other]), found(false, &[other, third]), found(true, &[])]);
        assert_eq!((losses.len(), losses[0].file.as_str()), (1, "owners-0003.parquet"));
        assert!(losses[0].what.starts_with("has 3 rows that cannot be read (an address that is none"), "{losses:?}");
    }

    #[test]
    fn search_that_is_repeated_is_not_mixed_with_the_one_that_follows() {
        let none = Event::SocketOwners { at_ns: START_NS + 3_000, complete: false, rows: Vec::new() };
        for [before, after] in [[owners(1), owners(2)], [none.clone(), owners(2)], [owners(1), none]] {
            let mut encoder = Encoder::default();
            encode(&mut encoder, &[start(), before.clone()]);
            encoder.begin_segment().unwrap();
            let window = encode(&mut encoder, std::slice::from_ref(&after));
            let (found, losses) = decode(window.clone(), 2, 3, Restated::First);
            assert_eq!((&found[1..], losses), (&[before, after.clone()][..], Vec::new()));
            assert_eq!(decode(window, 2, 3, Restated::Known), (vec![after], Vec::new()));
        }
    }

    #[test]
    fn what_comes_after_missing_rows_is_kept() {
        let reset = |cookie| reset_sent(cookie, tuple(cookie as u16), START_NS + 8_000);
        let events = [start(), closed_by(1), closed_by(2), closed_by(3), reset(1), closed_by(4)];
        let mut window = encode(&mut Encoder::default(), &events);
        let connections = window[Table::Connections as usize].as_mut().unwrap();
        *connections = without_row(connections, 1);
        let (found, losses) = decode(window, 0, 8, Restated::Known);
        // The reset's row has no addresses of its own, and those that it refers to may be among the missing rows.
        assert_eq!(found, [start(), closed_by(1), closed_by(3), closed_by(4)]);
        let said: Vec<String> = losses.iter().map(|loss| format!("{} {}", loss.file, loss.what)).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("sockets-0003.parquet has 1 row that cannot be read ("), "{said:?}");
        // One in between, and two at the end.
        assert_eq!(said[1], "connections-0003.parquet is not complete: 3 events of this segment are missing");
    }

    #[test]
    fn a_segment_repeats_the_socket_owners_and_the_bound_ports() {
        let mut encoder = Encoder::default();
        let gone = Event::SocketsRemoved(vec![3]);
        // Without a cookie its end could not be recognised.
        let nameless = bound(0, 9);
        let first = [
            start(),
            owners(1),
            bound(1, 1),
            bound(2, 2),
            bound(3, 3),
            bound(4, 4),
            nameless,
            connection(1, 1),
            gone,
            owners(2),
        ];
        encode(&mut encoder, &first);
        encoder.begin_segment().unwrap();
        // The end of one of them is the first event.
        let second = [connection(2, 2), bound(1, 1)];
        let window = encode(&mut encoder, &second);
        let again = [start(), owners(2), bound(2, 2), bound(4, 4)];
        let (found, losses) = decode(window.clone(), 10, 12, Restated::First);
        assert_eq!(losses, []);
        assert_eq!(found[1..], [&again[1..], &second].concat());
        assert!(matches!(found[0], Event::Start { .. }));
        // The start as well: this reader has not seen one.
        let (found, _) = decode(window.clone(), 10, 12, Restated::Again);
        assert!(matches!(found[0], Event::Start { .. }));
        assert_eq!(found[1..], [&again[1..], &second].concat());
        let (found, _) = decode(window, 10, 12, Restated::Known);
        assert_eq!(found, second);
        // Until its namespace is gone.
        encode(&mut encoder, &[Event::NamespaceGone { netns: NETNS }]);
        encoder.begin_segment().unwrap();
        let window = encode(&mut encoder, &[connection(9, 9)]);
        let (found, _) = decode(window, 13, 14, Restated::Again);
        assert_eq!(found[1..], [owners(2), connection(9, 9)]);
    }

    #[test]
    fn only_so_many_bound_sockets_are_repeated() {
        let mut encoder = Encoder::default();
        let many: Vec<Event> = std::iter::once(start()).chain((1..20_000).map(|cookie| bound(cookie, 1))).collect();
        encode(&mut encoder, &many);
        encoder.begin_segment().unwrap();
        let window = encode(&mut encoder, &[connection(19_999, 1)]);
        let (found, _) = decode(window, 20_000, 20_001, Restated::First);
        // With the start and what comes after.
        assert_eq!(found.len(), 16_384 + 2);
        assert_eq!((&found[1], &found[16_385]), (&bound(3_616, 1), &connection(19_999, 1)));
    }
}
