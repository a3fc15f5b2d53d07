//! Sockets of the kernel itself: connections of its NFS client, to a server that knows no program, and a listener.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};
use serde_json::{Value, json};
use twtrace_tests::ports::bound;
use twtrace_tests::require::skip;
use twtrace_tests::top::{Top, number, quiet_place, sockstat_tw};

/// Of NFS, by IANA's registry.
const PORT: u16 = 2049;

const MOUNTS: u64 = 5;

/// Answers each call over TCP (RFC 5531, sections 8, 9 and 11) until the client closes.
fn serve(mut client: TcpStream) {
    const REPLY: u32 = 1;
    const ACCEPTED: u32 = 0;
    const PROG_UNAVAIL: u32 = 1;
    const LAST_FRAGMENT: u32 = 1 << 31;
    let mut mark = [0; 4];
    while client.read_exact(&mut mark).is_ok() {
        let mut call = vec![0; (u32::from_be_bytes(mark) & !LAST_FRAGMENT) as usize];
        if client.read_exact(&mut call).is_err() {
            return;
        }
        let transaction = u32::from_be_bytes(call[..4].try_into().unwrap());
        // Without a verifier.
        let answer = [LAST_FRAGMENT | 24, transaction, REPLY, ACCEPTED, 0, 0, PROG_UNAVAIL];
        let bytes: Vec<u8> = answer.into_iter().flat_map(u32::to_be_bytes).collect();
        if client.write_all(&bytes).is_err() {
            return;
        }
    }
}

#[test]
fn connections_of_the_kernels_nfs_client_count_for_nfs() {
    if !fs::read_to_string("/proc/filesystems").unwrap().lines().any(|line| line.ends_with("\tnfs")) {
        return skip("the kernel's NFS client", "it is not loaded");
    }
    let place = quiet_place();
    let folder = tempfile::tempdir().unwrap();
    let listener = place.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(|client| serve(client.unwrap())));
    let top = Top::start_here(&place, &[]);
    let options = format!(
        "addr=127.0.0.1,vers=3,proto=tcp,port={PORT},mountproto=tcp,mountport={PORT},nolock,noresvport,soft,timeo=50,retrans=1"
    );
    place.run(move || {
        for _ in 0..MOUNTS {
            let mounted =
                mount(Some("127.0.0.1:/"), folder.path(), Some("nfs"), MsFlags::empty(), Some(options.as_str()));
            assert!(mounted.is_err(), "the server knows no program");
        }
    });
    // Workers of the kernel close the connections some time after the mount has failed.
    let report = top.wait(|report| {
        number(report, "/totals/opened") >= MOUNTS && number(report, "/totals/time_wait_live") >= MOUNTS
    });
    println!("{:#}", report["processes"]);
    let rows = report["processes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["command"] == "kernel:nfs").unwrap();
    assert_eq!((&row["pid"], number(row, "/time_wait_created")), (&2.into(), sockstat_tw(&place)), "{row:#}");
    assert_eq!(row["opened"], row["time_wait_created"], "{row:#}");
    // The server accepts; nothing belongs to another one, or to no process.
    let is_idle = |other: &Value| number(other, "/opened") + number(other, "/time_wait_created") == 0;
    let strangers: Vec<_> = rows.iter().filter(|other| *other != row && !is_idle(other)).collect();
    assert!(strangers.is_empty(), "{strangers:#?}");
}

/// An attribute of a netlink message: `struct nlattr` and its value, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Asks a generic netlink family, and returns the payload of its answer after `struct nlmsghdr`.
fn ask(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    const REQUEST: u16 = 1;
    const ACK: u16 = 4;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric);
    let fd = fd.unwrap();
    // `struct nlmsghdr`, then `struct genlmsghdr` of version 1.
    let length = (20 + attributes.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend([family, REQUEST | ACK].iter().flat_map(|half| half.to_ne_bytes()));
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    sendto(fd.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).unwrap();
    let mut answer = [0; 4096];
    let length = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    answer[16..length].to_vec()
}

/// Lets MPTCP listen on a port of 127.0.0.1 in this namespace: an endpoint that is announced with its port
/// (`mptcp_pm_nl_create_listen_socket`).
fn listen_in_the_kernel(port: u16) {
    const CONTROLLER: u16 = 0x10;
    const GET_FAMILY: u8 = 3;
    const FAMILY_NAME: u16 = 2;
    const FAMILY_ID: u16 = 1;
    const ADD_ADDRESS: u8 = 1;
    const ADDRESS: u16 = 1 | 0x8000;
    let answer = ask(CONTROLLER, GET_FAMILY, &attribute(FAMILY_NAME, b"mptcp_pm\0"));
    let mut rest = &answer[4..];
    let id = loop {
        let field = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        if field(2) == FAMILY_ID {
            break field(4);
        }
        rest = &rest[usize::from(field(0)).next_multiple_of(4)..];
    };
    let family = attribute(1, &(AddressFamily::Inet as u16).to_ne_bytes());
    let address = attribute(3, &Ipv4Addr::LOCALHOST.octets());
    let (port, signal) = (attribute(5, &port.to_ne_bytes()), attribute(6, &1_u32.to_ne_bytes()));
    let answer = ask(id, ADD_ADDRESS, &attribute(ADDRESS, &[family, address, port, signal].concat()));
    // `struct nlmsgerr`.
    assert_eq!(answer[..4], [0; 4], "MPTCP refuses the endpoint");
}

/// Whether each descriptor of each process can be read.
fn all_descriptors_are_readable() -> bool {
    let folders = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("fd"));
    folders.filter_map(|folder| fs::read_dir(folder).ok()).all(|descriptors| {
        descriptors.flatten().all(|entry| match fs::read_link(entry.path()) {
            Err(error) => error.kind() != std::io::ErrorKind::PermissionDenied,
            Ok(_) => true,
        })
    })
}

#[test]
fn port_that_the_kernel_has_is_no_other_processs() {
    const TAKEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7006);
    let place = quiet_place();
    if place.run(|| fs::metadata("/proc/sys/net/mptcp/enabled")).is_err() {
        return skip("MPTCP", "this kernel has none");
    }
    if !all_descriptors_are_readable() {
        return skip("descriptors of all processes", "one of them cannot be read");
    }
    let top = Top::start_here(&place, &[]);
    place.run(|| listen_in_the_kernel(TAKEN.port()));
    let findings = |report: &Value| report["findings"].as_array().cloned().unwrap_or_default();
    let title = "binds a port that the kernel itself has: this is not TIME_WAIT";
    // Until a census has listed the socket, and a search that began later has found no process for it.
    let report = top.wait(|report| {
        place.run(|| assert_eq!(bound(TAKEN).unwrap_err(), Errno::EADDRINUSE));
        findings(report).iter().any(|finding| finding["title"] == title)
    });
    let findings = findings(&report);
    let [finding] = &findings[..] else { panic!("not one finding: {findings:#?}") };
    let place = (&finding["process"]["pid"], &finding["destination"]["port"]);
    assert_eq!(place, (&json!(std::process::id()), &json!(TAKEN.port())), "{finding:#}");
}
