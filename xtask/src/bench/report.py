"""The per-process figures of `twtrace report`, by DuckDB, from the same files. Usage: report.py NAME.twt"""

import json
import sys

import duckdb

FIGURES = """
with owners as (
  select id, pid, start_ns from read_parquet('{0}/processes-*.parquet') where kind = 'owner'
),
connections as (
  select cookie, time, opener, closer, role, bytes_sent + bytes_received as bytes, connect_errno,
    outcome in ('time_wait', 'fin_wait2_timewait') as created,
    outcome in ('reset_sent', 'reset_received', 'linger_abort', 'unread_abort') as reset,
    outcome in ('connect_failed', 'no_port') as failed,
    path like '%FIN_WAIT1%' as first, path like '%LAST_ACK%' as last,
    epoch_us(time) // 1000000 as second,
    case when kind = 'connection' and not failed then
      coalesce(step1_us, 0) + coalesce(step2_us, 0) + coalesce(step3_us, 0) + coalesce(step4_us, 0)
      + coalesce(step5_us, 0) + coalesce(step6_us, 0) + coalesce(step7_us, 0) end as lifetime
  from read_parquet('{0}/connections-*.parquet')
),
by_closer as (
  select pid, start_ns, sum(created::int) as created, sum(first::int) as first, sum(last::int) as last
  from connections join owners on closer = id group by all
),
by_opener as (
  select pid, start_ns, sum((role = 'active')::int) as opened, sum((role = 'passive')::int) as accepted,
    sum(failed::int) as failed
  from connections join owners on opener = id group by all
),
by_either as (
  select pid, start_ns, sum(reset::int) as reset, sum(bytes) as bytes,
    quantile_cont(lifetime, [0.5, 0.9, 0.99]) as lifetimes
  from connections join owners on coalesce(closer, opener) = id group by all
),
peaks as (
  select pid, start_ns, max(created) as peak
  from (select pid, start_ns, second, sum(created::int) as created from connections join owners on closer = id group by all)
  group by all
),
gone as (
  select cookie, time from read_parquet('{0}/sockets-*.parquet') where kind = 'gone'
),
changes as (
  select pid, start_ns, time, 1 as change from connections join owners on closer = id where created
  union all
  select pid, start_ns, gone.time, -1 from gone join connections using (cookie) join owners on closer = id where created
),
live as (
  select pid, start_ns, max(live) as live_peak from (
    select pid, start_ns, sum(change) over (
      partition by pid, start_ns order by time, change desc rows between unbounded preceding and current row
    ) as live from changes
  ) group by all
)
select pid, created, first, last, opened, accepted, failed, reset, bytes, lifetimes, peak, live_peak
from by_either
full join by_closer using (pid, start_ns)
full join by_opener using (pid, start_ns)
full join peaks using (pid, start_ns)
full join live using (pid, start_ns)
order by created desc nulls last, pid
"""

rows = duckdb.sql(FIGURES.format(sys.argv[1])).fetchall()
names = ["pid", "created", "first", "last", "opened", "accepted", "failed", "reset", "bytes", "lifetimes", "peak", "live_peak"]
json.dump([dict(zip(names, (int(v) if isinstance(v, int) else v for v in row))) for row in rows], sys.stdout, default=float)
