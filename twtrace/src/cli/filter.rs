//! Which rows to show.

use super::parse;
use clap::Args;
use ipnet::IpNet;
use twtrace_core::state::Filter;

/// Filters.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only these processes, as opener or closer of the connection; several with commas
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = parse::pid)]
    pub pid: Vec<u32>,

    /// Only commands with this name; only 15 bytes are compared, because the kernel keeps no more
    #[arg(long, value_name = "NAME", value_parser = parse::comm)]
    pub comm: Vec<parse::CommName>,

    /// Only processes of this user, by name or uid
    #[arg(long, value_name = "USER", value_parser = parse::user)]
    pub user: Vec<u32>,

    /// Only this remote address or network: 10.0.0.1, 10.0.0.0/8:443, fd00::/8, `[fd00::1]:443`
    #[arg(long, value_name = "CIDR[:PORT]", value_parser = parse::destination)]
    pub dest: Vec<(IpNet, Option<u16>)>,

    /// Only this port, local or remote; several with commas
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = parse::port)]
    pub port: Vec<u16>,

    /// Only this program, as in the column PROGRAM: a script, a jar, a server
    #[arg(long, value_name = "NAME")]
    pub program: Vec<String>,

    /// Only this systemd unit, with or without .service
    #[arg(long, value_name = "UNIT")]
    pub unit: Vec<String>,

    /// Only this container, by name, id, or the first six characters of its id or more
    #[arg(long, value_name = "CONTAINER")]
    pub container: Vec<String>,

    /// Only containers of this image, with or without registry and tag
    #[arg(long, value_name = "IMAGE")]
    pub image: Vec<String>,

    /// Only this pod, by name, namespace/name or uid
    #[arg(long, value_name = "POD")]
    pub pod: Vec<String>,

    /// Only pods of this workload (Deployment, StatefulSet, Compose service), by name or namespace/name
    #[arg(long, value_name = "WORKLOAD")]
    pub workload: Vec<String>,

    /// Only pods in this namespace of the cluster
    #[arg(long, value_name = "NAMESPACE")]
    pub cluster_namespace: Vec<String>,

    /// Only this network namespace, by name or inode number
    #[arg(long, value_name = "NETNS")]
    pub netns: Vec<String>,
}

impl FilterArgs {
    /// The engine's filter.
    pub fn filter(&self) -> Filter {
        Filter {
            pids: self.pid.clone(),
            comms: self.comm.iter().map(|name| name.0.clone()).collect(),
            uids: self.user.clone(),
            dests: self.dest.clone(),
            ports: self.port.clone(),
            programs: self.program.clone(),
            units: self.unit.clone(),
            containers: self.container.clone(),
            images: self.image.clone(),
            pods: self.pod.clone(),
            workloads: self.workload.clone(),
            cluster_namespaces: self.cluster_namespace.clone(),
            netns: self.netns.clone(),
        }
    }
}
