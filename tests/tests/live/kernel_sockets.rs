//! Connections of the kernel itself: those of its NFS client, to a server that knows no program.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nix::mount::{MsFlags, mount};
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
    let is_idle = |other: &serde_json::Value| number(other, "/opened") + number(other, "/time_wait_created") == 0;
    let strangers: Vec<_> = rows.iter().filter(|other| *other != row && !is_idle(other)).collect();
    assert!(strangers.is_empty(), "{strangers:#?}");
}
