//! An etcd for a test: started on free ports, with a directory of its own, and ended with the test.
#![allow(dead_code)] // not every test needs everything

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command},
};

use store::{EtcdOptions, EtcdStore};
use tempfile::TempDir;

/// Ports may be taken by others between their choice and their use.
const STARTS_MAX: usize = 5;

/// Where the program is: `KEELSON_ETCD`, or on the path.
fn program() -> PathBuf {
    std::env::var_os("KEELSON_ETCD").map_or_else(|| "etcd".into(), PathBuf::from)
}

pub struct Member {
    /// None: it has been ended.
    process: Option<Child>,
    pub client_port: u16,
    arguments: Vec<String>,
    log: PathBuf,
}

/// The members of one etcd.
pub struct Etcd {
    pub members: Vec<Member>,
    pub directory: TempDir,
    scheme: &'static str,
}

impl Etcd {
    pub fn start() -> Self {
        Self::with_members(1, &[])
    }

    pub fn with_members(count: usize, more: &[String]) -> Self {
        let secure = more.iter().any(|argument| argument.starts_with("--cert-file"));
        for _ in 0..STARTS_MAX {
            let mut etcd = Self {
                members: members(count, more, if secure { "https" } else { "http" }),
                directory: tempfile::tempdir().unwrap(),
                scheme: if secure { "https" } else { "http" },
            };
            for (number, member) in etcd.members.iter_mut().enumerate() {
                member.log = etcd.directory.path().join(format!("{number}.log"));
                let data = etcd.directory.path().join(number.to_string());
                member.arguments.push(format!("--data-dir={}", data.display()));
                member.start();
            }
            if etcd.members.iter_mut().all(Member::listens) {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("{}://127.0.0.1:{}", self.scheme, member.client_port)).collect()
    }

    pub fn options(&self) -> EtcdOptions {
        EtcdOptions::new(self.urls())
    }

    pub async fn store(&self) -> EtcdStore {
        EtcdStore::open(&self.options()).await.unwrap()
    }
}

/// Ports that are free now, all different.
fn ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn members(count: usize, more: &[String], scheme: &str) -> Vec<Member> {
    let ports = ports(count * 2);
    let peer = |number: usize| format!("http://127.0.0.1:{}", ports[number * 2 + 1]);
    let cluster: Vec<String> = (0..count).map(|number| format!("m{number}={}", peer(number))).collect();
    // Alone, a member need not wait for others to vote.
    let (beat, election) = if count == 1 { (10, 100) } else { (100, 1000) };
    let member = |number: usize| {
        let client = format!("{scheme}://127.0.0.1:{}", ports[number * 2]);
        let mut arguments = vec![
            format!("--name=m{number}"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", peer(number)),
            format!("--initial-advertise-peer-urls={}", peer(number)),
            format!("--initial-cluster={}", cluster.join(",")),
            format!("--heartbeat-interval={beat}"),
            format!("--election-timeout={election}"),
        ];
        arguments.extend_from_slice(more);
        Member { process: None, client_port: ports[number * 2], arguments, log: PathBuf::new() }
    };
    (0..count).map(member).collect()
}

impl Member {
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let started =
            Command::new(program()).args(&self.arguments).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.process = Some(started.expect("etcd runs (Debian's package is etcd-server)"));
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Waits until it takes connections; false if it has ended.
    fn listens(&mut self) -> bool {
        loop {
            if self.process.as_mut().is_none_or(|process| process.try_wait().unwrap().is_some()) {
                return false;
            }
            if std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.client_port)).is_ok() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            drop(process.kill());
            drop(process.wait());
        }
    }
}
