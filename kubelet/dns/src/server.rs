//! The sockets: reads questions, has them answered, writes the answers, over UDP and TCP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, RecordType},
};
use parking_lot::RwLock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    forward,
    zone::{Alias, Answer, Zone},
};

/// Questions that are worked on at once; more wait in the socket's buffer.
const QUESTIONS_MAX: usize = 1024;
const CONNECTIONS_MAX: usize = 256;
const IDLE: Duration = Duration::from_secs(10);
const UDP_PAYLOAD_MAX: u16 = 4096;

/// Answers questions from the zone, or through other servers.
pub struct Resolver {
    zone: Arc<RwLock<Zone>>,
    upstreams: Vec<SocketAddr>,
    patience: Duration,
}

impl Resolver {
    pub fn new(zone: Arc<RwLock<Zone>>, upstreams: Vec<SocketAddr>, patience: Duration) -> Self {
        Self { zone, upstreams, patience }
    }

    /// `None` for what deserves no answer: something that is no question.
    async fn respond(&self, bytes: &[u8]) -> Option<Message> {
        let request = Message::from_vec(bytes).ok()?;
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata = Metadata::response_from_request(&request.metadata);
        response.metadata.recursion_available = true;
        response.add_queries(request.queries.iter().cloned());
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD_MAX);
            response.set_edns(edns);
        }
        let query = match request.queries.as_slice() {
            [query] if request.metadata.op_code == OpCode::Query && query.query_class() == DNSClass::IN => query,
            [_] => {
                response.metadata.response_code = ResponseCode::NotImp;
                return Some(response);
            }
            _ => {
                response.metadata.response_code = ResponseCode::FormErr;
                return Some(response);
            }
        };
        self.fill(&mut response, query).await;
        Some(response)
    }

    async fn fill(&self, response: &mut Message, query: &Query) {
        let (answer, authority, complete) = {
            let zone = self.zone.read();
            (zone.answer(query.name(), query.query_type()), zone.authority(), zone.is_complete())
        };
        response.metadata.authoritative = !matches!(answer, Answer::Elsewhere);
        match answer {
            Answer::Found { answers, additionals } => {
                response.add_answers(answers);
                response.add_additionals(additionals);
            }
            Answer::Alias(alias) => self.follow(response, *alias, query.query_type()).await,
            Answer::Elsewhere => self.forward(response, query).await,
            // A name that is not known yet is not known to be missing.
            Answer::NoData | Answer::NoName if !complete => response.metadata.response_code = ResponseCode::ServFail,
            Answer::NoData => {
                response.add_authorities(authority);
            }
            Answer::NoName => {
                response.metadata.response_code = ResponseCode::NXDomain;
                response.add_authorities(authority);
            }
        }
    }

    /// An alias brings the addresses of its target along, as far as they can be found.
    async fn follow(&self, response: &mut Message, alias: Alias, kind: RecordType) {
        let Alias { record, target } = alias;
        response.add_answer(record);
        if kind == RecordType::CNAME {
            return;
        }
        let inside = self.zone.read().answer(&target, kind);
        match inside {
            Answer::Found { answers, .. } => {
                response.add_answers(answers);
            }
            Answer::Elsewhere => {
                match forward::ask(&self.upstreams, &Query::query(target, kind), self.patience).await {
                    Ok(found) => {
                        response.add_answers(found.answers);
                    }
                    Err(error) => tracing::debug!(%error, "the target of an alias was not found"),
                }
            }
            Answer::Alias(_) | Answer::NoData | Answer::NoName => {}
        }
    }

    async fn forward(&self, response: &mut Message, query: &Query) {
        if self.upstreams.is_empty() {
            response.metadata.response_code = ResponseCode::NXDomain;
            return;
        }
        match forward::ask(&self.upstreams, query, self.patience).await {
            Ok(found) => {
                response.metadata.response_code = found.metadata.response_code;
                response.add_answers(found.answers);
                response.add_authorities(found.authorities);
            }
            Err(error) => {
                tracing::debug!(%error, name = %query.name(), "a name could not be forwarded");
                response.metadata.response_code = ResponseCode::ServFail;
            }
        }
    }
}

pub async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    let slots = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut buffer = vec![0; usize::from(UDP_PAYLOAD_MAX)];
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A peer that is gone shows up here as an error of the socket.
            Err(error) => {
                tracing::debug!(%error, "receiving a question failed");
                continue;
            }
        };
        let (question, socket, resolver) = (buffer[..length].to_vec(), socket.clone(), resolver.clone());
        tokio::spawn(async move {
            let Some(response) = resolver.respond(&question).await else { return };
            let room = Message::from_vec(&question).map_or(512, |m| m.max_payload().min(UDP_PAYLOAD_MAX));
            match fit(&response, usize::from(room)) {
                Some(bytes) => {
                    if let Err(error) = socket.send_to(&bytes, peer).await {
                        tracing::debug!(%error, %peer, "an answer could not be sent");
                    }
                }
                None => tracing::warn!(%peer, "an answer could not be encoded"),
            }
            drop(slot);
        });
    }
}

/// The message's bytes; without its records, and marked as truncated, if they would not fit.
fn fit(response: &Message, room: usize) -> Option<Vec<u8>> {
    let bytes = response.to_vec().ok()?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    let mut slim = response.clone();
    slim.additionals.clear();
    let bytes = slim.to_vec().ok()?;
    if bytes.len() <= room { Some(bytes) } else { response.truncate().to_vec().ok() }
}

pub async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let resolver = resolver.clone();
                tokio::spawn(async move {
                    serve_connection(stream, &resolver).await;
                    drop(slot);
                });
            }
            // Too many open files pass; a pause keeps this from spinning until then.
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, resolver: &Resolver) {
    while let Ok(Ok(length)) = timeout(IDLE, stream.read_u16()).await {
        let mut question = vec![0; usize::from(length)];
        let read = timeout(IDLE, stream.read_exact(&mut question)).await;
        let (Ok(Ok(_)), Some(response)) = (read, resolver.respond(&question).await) else { return };
        let Some(bytes) = fit(&response, usize::from(u16::MAX)) else { return };
        let Ok(length) = u16::try_from(bytes.len()) else { return };
        if stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await.is_err() {
            return;
        }
    }
}
