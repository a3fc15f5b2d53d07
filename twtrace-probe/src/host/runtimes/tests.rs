//! Runtimes that answer right, hang, answer garbage, or answer too much: servers on Unix sockets.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::cri::{Container, ImageSpec, Metadata, PodSandbox, SandboxMetadata};
use super::runtime::PATIENCE;
use super::{ContainerNames, Runtimes, survey};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use twtrace_core::event::ContainerFacts;

const ID: &str = "3f1ce9b7a4d20516e8c7f09b1a2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e";
const HOSTILE: &str = "\u{1b}[2J\u{202e}\n,\"";

/// A server, and how often it was connected to.
struct Server {
    folder: TempDir,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// One that serves each connection in a thread of its own.
    fn new(serve: impl Fn(UnixStream) + Clone + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                thread::spawn(move || serve(stream.unwrap()));
            }
        });
        Self { folder, connections }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn runtimes(&self) -> Runtimes {
        Runtimes::Sockets(vec![self.path()])
    }

    /// What `doctor` says of it, and how long it takes.
    fn survey(&self) -> (Result<(&'static str, usize), String>, Duration) {
        let begin = Instant::now();
        let mut answers = survey(&self.runtimes());
        assert_eq!(answers.len(), 1);
        (answers.remove(0).found, begin.elapsed())
    }
}

/// A server of one answer, which must begin with a request for containers.
fn docker(body: &'static str) -> Server {
    Server::new(move |mut stream| {
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        let path = String::from_utf8_lossy(&request[..length]).split(' ').nth(1).unwrap_or_default().to_owned();
        let text = match path.as_str() {
            "/containers/json" => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
            "/containers/json?all=1" => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]".to_owned(),
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nwhat".to_owned(),
        };
        let _ = stream.write_all(text.as_bytes());
    })
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// A server of gRPC: `answer` has the elements of the list that a method returns, or a status that is no success.
fn grpc(answer: fn(&str) -> Result<Vec<Vec<u8>>, u32>) -> Server {
    let respond = move |request: Request<Incoming>| async move {
        assert_eq!((request.headers()["te"].as_bytes(), request.uri().host()), (&b"trailers"[..], Some("localhost")));
        let answer = answer(request.uri().path());
        // Every call has an empty message.
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), [0; 5][..]);
        let mut message = Vec::new();
        for element in answer.iter().flatten() {
            message.push(1 << 3 | 2);
            prost::encode_length_delimiter(element.len(), &mut message).unwrap();
            message.extend(element);
        }
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", answer.err().unwrap_or(0).into());
        let body = Full::new(Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
        Ok::<_, Infallible>(Response::new(body))
    };
    Server::new(move |stream| {
        stream.set_nonblocking(true).unwrap();
        block_on(async {
            let stream = TokioIo::new(tokio::net::UnixStream::from_std(stream).unwrap());
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(respond)).await;
        });
    })
}

fn pod_of_shop(method: &str) -> Result<Vec<Vec<u8>>, u32> {
    let name = "web-6d4cf56db6-x7k2p".to_owned();
    let metadata = Some(SandboxMetadata { name, namespace: "shop".into() });
    match method {
        "/runtime.v1.RuntimeService/ListContainers" => {
            let image = Some(ImageSpec { image: "api:2".into(), ..ImageSpec::default() });
            let metadata = Some(Metadata { name: "api".into() });
            let one = Container { id: ID.into(), pod_sandbox_id: "p".into(), metadata, image, ..Container::default() };
            Ok(vec![one.encode_to_vec()])
        }
        "/runtime.v1.RuntimeService/ListPodSandbox" => {
            Ok(vec![PodSandbox { id: "p".into(), metadata, ..PodSandbox::default() }.encode_to_vec()])
        }
        _ => Err(12),
    }
}

/// What is known of the one container once it is.
fn named(runtimes: &Runtimes) -> Option<ContainerFacts> {
    let mut names = ContainerNames::start(runtimes).unwrap();
    names.ask("nginx");
    names.ask(&ID[..12]);
    let mut answers = names.last_answers(Duration::from_secs(30));
    assert!(answers.len() <= 1, "{answers:?}");
    let (id, facts) = answers.pop()?;
    assert_eq!(id, ID[..12]);
    Some(facts)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn docker_names_a_container() {
    let server = docker(
        r#"[{"Id":"3f1ce9b7a4d20516e8c7f09b1a2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e","Names":["/web1"],"Image":"nginx:1.25"}]"#,
    );
    assert_eq!(server.survey().0, Ok(("Docker API", 1)));
    let expected = ContainerFacts { name: some("web1"), image: some("nginx:1.25"), ..ContainerFacts::default() };
    assert_eq!(named(&server.runtimes()), Some(expected));
}

#[test]
fn cri_names_a_container_its_pod_and_workload() {
    let server = grpc(pod_of_shop);
    // The pod's own container is listed too.
    assert_eq!(server.survey().0, Ok(("CRI", 2)));
    let expected = ContainerFacts {
        name: some("api"),
        image: some("api:2"),
        pod: some("web-6d4cf56db6-x7k2p"),
        pod_namespace: some("shop"),
        workload: some("web"),
    };
    assert_eq!(named(&server.runtimes()), Some(expected));
}

#[test]
fn hostile_names_arrive_as_they_are() {
    let server = grpc(|method| match method {
        "/runtime.v1.RuntimeService/ListContainers" => {
            let metadata = Some(Metadata { name: HOSTILE.into() });
            Ok(vec![Container { id: ID.into(), metadata, ..Container::default() }.encode_to_vec()])
        }
        _ => Ok(Vec::new()),
    });
    assert_eq!(named(&server.runtimes()).unwrap().name, some(HOSTILE), "views clean what they show");
}

#[test]
fn answers_that_are_none_are_failures() {
    let hangs = Server::new(|mut stream| _ = stream.read_to_end(&mut Vec::new()));
    let (found, took) = hangs.survey();
    assert_eq!(found, Err("it did not answer within 2 s".to_owned()));
    assert!(took < PATIENCE * 3, "{took:?}: no other kind is asked");

    let garbage = Server::new(|mut stream| _ = stream.write_all(&b"\0\xff garbage\r\n".repeat(1000)));
    assert!(garbage.survey().0.is_err());

    let closes = Server::new(drop);
    assert!(closes.survey().0.is_err());

    // A byte now and then, for ever.
    let trickles = Server::new(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while stream.write_all(b"1\r\n[\r\n").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let (found, took) = trickles.survey();
    assert!(found.is_err() && took < PATIENCE * 3, "{found:?} after {took:?}");

    // More than memory has.
    let floods = Server::new(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n[");
        while stream.write_all(&[b' '; 65_536]).is_ok() {}
    });
    let (found, took) = floods.survey();
    assert!(found.is_err() && took < PATIENCE * 3, "{found:?} after {took:?}");

    let head = Server::new(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"a: b\r\n").is_ok() {}
    });
    assert!(head.survey().0.is_err());

    let unimplemented = grpc(|_| Err(12));
    assert_eq!(unimplemented.survey().0, Err("it does not have the Container Runtime Interface".to_owned()));

    let missing = Runtimes::Sockets(vec![PathBuf::from("/nonexistent/socket")]);
    assert_eq!(survey(&missing)[0].found, Err("there is no such socket".to_owned()));
    assert_eq!(named(&missing), None);
}

#[test]
fn one_that_fails_does_not_hide_another() {
    let hangs = Server::new(|mut stream| _ = stream.read_to_end(&mut Vec::new()));
    let right = grpc(pod_of_shop);
    let both = Runtimes::Sockets(vec![hangs.path(), right.path()]);
    assert_eq!(named(&both).unwrap().name, some("api"));
}

#[test]
fn nobody_is_asked_without_need() {
    let server = grpc(pod_of_shop);
    let mut names = ContainerNames::start(&server.runtimes()).unwrap();
    names.ask(&ID[..12]);
    assert_eq!(names.last_answers(Duration::from_secs(30)).len(), 1);
    // Asked as Docker first.
    let first = server.connections.load(Ordering::SeqCst);
    for _ in 0..100 {
        names.ask(&ID[..12]);
    }
    assert!(names.last_answers(Duration::from_secs(1)).is_empty(), "it was answered");
    assert_eq!(server.connections.load(Ordering::SeqCst), first);
    // Many at once are one question.
    for number in 0..1000 {
        names.ask(&format!("{number:012x}"));
    }
    assert!(names.last_answers(Duration::from_secs(30)).is_empty(), "there are no such containers");
    assert!(server.connections.load(Ordering::SeqCst) <= first + 2);
    assert_eq!(named(&Runtimes::Off), None);
}

#[test]
fn settings_are_read() {
    let of = |text: &str| text.parse::<Runtimes>().unwrap();
    assert_eq!((of("auto"), of("off")), (Runtimes::Auto, Runtimes::Off));
    assert_eq!(of("/a,/b"), Runtimes::Sockets(vec!["/a".into(), "/b".into()]));
}
