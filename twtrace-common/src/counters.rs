//! What is counted, in one list. A counter is a line here and a `count!` where it happens; the struct that the kernel
//! side writes, what the core and the JSON have of it, and the columns of recordings follow from it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Hands the list of counters to a macro: `kernel` are those that the eBPF programs count, in their order in
/// [`Counters`]; `user` are those that user space works out or counts itself.
#[macro_export]
macro_rules! for_each_counter {
    ($with:ident) => {
        $with! {
            kernel {
                /// TCP transitions handled, listeners' own excluded.
                transitions,
                /// Of these, handled by the twin because the kernel skipped the first program.
                recovered,
                /// Connections begun: CLOSE -> SYN_SENT, LISTEN -> SYN_RECV, or first sight of an older socket.
                connections_begun,
                /// Connections that reached CLOSE, whether or not their record could be written.
                connections_ended,
                /// Connections that never reached ESTABLISHED on a listener (handshake given up): ended without a record.
                handshakes_dropped,
                /// Connects that failed before SYN_SENT.
                connects_failed_early,
                /// Records written to the ring buffer.
                records,
                /// Records that the full ring buffer refused.
                ring_full,
                /// Connections that ended without a slot in the socket map, because it was full. Nothing is lost: they
                /// were reported in parts.
                map_full,
                /// Parts of such connections that the full ring buffer refused: an opener or a closer is unknown for
                /// each.
                parts_refused,
                /// Connections whose end was never seen and that had not sent a FIN: nothing can be said of them.
                stale,
                /// Accept exits that found no followed connection for their new socket: it began before the tracer, or was
                /// lost.
                exit_unresolved,
                /// TIME_WAIT sockets that `inet_twsk_alloc` created for TCP (exact tier).
                timewaits_created,
                /// TIME_WAIT sockets that it refused.
                timewaits_overflowed,
                /// TIME_WAIT sockets of TCP that ended.
                timewaits_ended,
                /// Of these, taken over by a connect (`tcp_twsk_unique`).
                timewaits_reused,
                /// What maps had no room for: calls whose arguments were gone from the full `CALLS` at their return (or
                /// that the kernel skipped the program at their entry of), and TIME_WAIT sockets taken over that the full
                /// `REUSED` did not take (their end is reported as ended early).
                evicted,
                /// Resets that this host sent for a connection whose end was recorded before: they change its outcome.
                resets_after_close,
                /// Transitions that the twin handled before the first program of the pair, because another tracer had the
                /// classic tracepoint before this one (kernels from 7.0).
                twin_first,
            }
            user {
                /// Transitions that the kernel skipped on recursion and that the twin did not recover.
                recursion,
                /// Calls that the kernel kept from the programs of the exact tier and from the one that sees resets: these
                /// sockets are classified by their fields, as in the cookie tier.
                exact_missed,
                /// Runs that the kernel skipped of the programs that see accept(2), connect(2) and bind(2) return, and the
                /// functions behind them: an opener or an errno may be unknown for each. Kernels before 6.7 do not count
                /// those at the exits of system calls, and no kernel runs these for calls of 32-bit programs.
                exits_missed,
                /// Records that could not be decoded.
                undecodable,
                /// Connections whose end was not seen, or whose record was refused, and of which a census has shown what
                /// became of them: they are reported after all.
                unseen_ends,
            }
        }
    };
}

macro_rules! define {
    (kernel { $($(#[$doc:meta])* $name:ident,)* } user { $($(#[$_user_doc:meta])* $_user:ident,)* }) => {
        /// Kernel-side counters, one set per CPU, summed by the loader. They only grow.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Adds what one program has counted on one processor.
            pub fn add(&mut self, one: &Self) {
                $(self.$name = self.$name.wrapping_add(one.$name);)*
            }
        }

        const _: () = assert!(size_of::<Counters>() == 8 * [$(stringify!($name)),*].len());
    };
}
for_each_counter!(define);
