//! A server whose engine ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;

use clap::Parser as _;

use super::*;

/// The body of an answer, once there is one.
fn get(url: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(url.strip_prefix("http://")?).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// It is started again at its port, as often as it may be, and then left alone.
#[test]
fn an_engine_that_ends_is_started_again() {
    let parsed = Cli::try_parse_from(["mtplx", "serve", "--port", "0", "--device", "cpu"]).unwrap();
    let Some(args::Command::Serve(args)) = parsed.command else { panic!() };
    model::choose_device(args.model.device.device).unwrap();
    let args = Arc::new(*args);
    let (hosts, new_host) = mpsc::channel();
    let (addresses_sent, address) = mpsc::channel();
    let server = thread::spawn(move || {
        let host = || {
            let args = Arc::clone(&args);
            let host = Host::new(Box::new(move || {
                let spec = load_spec(&args, false).map_err(|error| EngineError::Reopen(error.to_string()))?;
                Engine::load(spec, &mut |_| {})
            }));
            hosts.send(Arc::clone(&host)).unwrap();
            host
        };
        let ready = |server: &Ready<'_>| addresses_sent.send(server.url.to_owned()).unwrap();
        let serving = Serving { next_port: true, restarts: 1, ready: &ready };
        let addresses = addresses(&args, false).unwrap();
        let options = options(&args, Vec::new(), &addresses, "builtin".to_owned(), None);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(keep_serving(&args, addresses, &options, host, &serving)).unwrap()
    });
    let url = address.recv_timeout(Duration::from_secs(60)).unwrap();
    new_host.recv().unwrap().note_dead();
    let second = new_host.recv_timeout(Duration::from_secs(60)).unwrap();
    let started = Instant::now();
    while !get(&url, "/health").is_some_and(|body| body.contains("\"ok\"")) {
        assert!(started.elapsed() < Duration::from_secs(60), "no answer at {url} again");
        thread::sleep(Duration::from_millis(50));
    }
    // Nobody is told twice that the server is ready.
    assert!(address.try_recv().is_err());
    second.note_dead();
    assert_eq!(server.join().unwrap(), Exit::Failed);
}
