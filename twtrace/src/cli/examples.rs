//! The last part of the help of each command.

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  twtrace top                                    live, on the whole terminal
  twtrace top --once                             trace for 5 seconds, then one table
  twtrace top --once --duration 30s --json       trace for 30 seconds, then one JSON object
  twtrace top --by parent --sort rate            one row for each script that starts short-lived processes
  twtrace top --dest 10.0.0.0/8:5432             only connections to or from port 5432 of that network
  twtrace top --json --interval 10s >> log       one JSON object a line, every 10 seconds
  twtrace top --attach                           what `twtrace agent` sees on this host, at once and without root
  twtrace top --once --fail-on exhaustion-near   for scripts: exit code 1 when ports run out soon

A row must match every kind of filter, and any of the values of one kind. The header always shows the whole host.";

pub(super) const CONFIG_EXAMPLES: &str = "\
Examples:
  twtrace config                                 where the file is, and whether it has a mistake
  twtrace config --default                       every setting with its meaning and its default

The file is twtrace/config.toml in $XDG_CONFIG_HOME, by default ~/.config, or in $XDG_CONFIG_DIRS, by default /etc/xdg.
It is about the screen alone: reports of --once, --json and --csv are the same on every host.";

pub(super) const SOCKETS_EXAMPLES: &str = "\
Examples:
  twtrace sockets                            trace for 5 seconds, then list
  twtrace sockets --duration 60s             after a minute every TIME_WAIT socket is younger than the trace
  twtrace sockets --dest 10.0.0.0/8:5432     only those to port 5432 of that network
  twtrace sockets --json                     one JSON object
  twtrace sockets --trace night.twt          with the owners that a recording in progress knows, at once
  twtrace sockets --attach                   with the owners that a running agent knows, at once

Sockets that are older than the trace are listed without owners: the kernel does not keep them.";

pub(super) const RECORD_EXAMPLES: &str = "\
Examples:
  twtrace record -o night.twt                            until stopped with Ctrl-C
  twtrace record -o load.twt -- pgbench -C -T 60         while a command runs, whose exit code is passed on
  twtrace record -o incident.twt --duration 10m          for ten minutes
  twtrace record -o /var/lib/flight.twt --keep 6h        a flight recorder: the last six hours
  twtrace record -o /var/lib/flight.twt --keep 2GiB      or as much as fits there

A recording is a folder of Parquet files, and readable at any moment: `twtrace report`, `replay` and `diff` read it,
and so do DuckDB, polars and pandas.";

pub(super) const REPLAY_EXAMPLES: &str = "\
Examples:
  twtrace replay incident.twt                               on the whole terminal, from the start
  twtrace replay incident.twt --at 14:13:20                 from that time of day on (UTC)
  twtrace replay incident.twt --once                        one table, as of the end
  twtrace replay incident.twt --once --at +90s --json       one JSON object, as of 90 seconds after the start
  twtrace replay incident.twt --once --at -5m --by parent   as of 5 minutes before the end
  twtrace replay incident.twt --what-if pool=20 --what-if tcp_tw_reuse=1
                                                            what would have been with each, and with both

Reports are those that `twtrace top --once` would have written at that moment.";

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  twtrace export incident.twt --format parquet -o incident.parquet    connections, with both processes of each
  twtrace export incident.twt --format csv --from -5m | less          the last five minutes as text
  twtrace export incident.twt --format jsonl --table kernel           what was read of the kernel each second
  twtrace export --dataset fleet web-*.twt db-*.twt                   many hosts as one dataset

docs/recording.md explains every column, and has queries for DuckDB, polars and pandas. docs/fleet.md has queries over
many hosts for DuckDB and Spark.";

pub(super) const REPORT_EXAMPLES: &str = "\
Examples:
  twtrace report web.twt                                  on the terminal: who created what, to which destinations
  twtrace report web.twt -o web.html                      one page with plots, for a browser or a printer
  twtrace report web.twt --from 14:10 --to 14:25          only these minutes (UTC, of the day it began)
  twtrace report web.twt --from -5m --by command          only the last five minutes, a row for each command
  twtrace report web-*.twt --format csv --top 10          several recordings, of one host or many, in one table
  twtrace report web.twt --format markdown >> incident.md
  twtrace report --attach                                 what a running agent has seen since it began

Times: 2026-09-21T14:10:00Z or with +02:00, 14:10 or 14:10:30 (UTC), +90s after the start, -5m before the end.
A row must match every kind of filter, and any of the values of one kind. The header always shows the whole host.
What cannot be read of a recording is said above the report and on standard error; the rest is reported.";

pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  twtrace diff before.twt after.twt                       did the fix help? one sentence, then who changed
  twtrace diff before.twt after.twt --by user             the same for users instead of commands
  twtrace diff before.twt after.twt --format markdown     for the pull request

Rates are per second, so the recordings need not be of the same length; ten seconds each is the least that says much.
Processes are matched by command, and by executable where one command has several: PIDs do not survive a restart.";
