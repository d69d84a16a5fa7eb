//! The channel protocols in which commands are spoken over a WebSocket, from the oldest to `v5.channel.k8s.io`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// Not a channel: what follows names one that its sender has closed.
const CLOSE: u8 = 255;

/// The longest message that is taken, in bytes.
pub const MESSAGE_MAX: usize = 32 << 20;

/// One of the protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// As it was asked for; empty when nothing was.
    pub name: &'static str,
    version: u8,
    base64: bool,
}

/// In the order in which a server prefers them.
const ALL: [Protocol; 6] = [
    Protocol { name: "v5.channel.k8s.io", version: 5, base64: false },
    Protocol { name: "v4.channel.k8s.io", version: 4, base64: false },
    Protocol { name: "v4.base64.channel.k8s.io", version: 4, base64: true },
    Protocol { name: "channel.k8s.io", version: 1, base64: false },
    Protocol { name: "base64.channel.k8s.io", version: 1, base64: true },
    Protocol { name: "", version: 1, base64: false },
];

/// Which of a command's streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Wanted {
    pub fn parse(query: &[(String, String)]) -> Self {
        let has = |names: [&str; 2]| {
            query.iter().any(|(n, v)| names.contains(&n.as_str()) && matches!(v.as_str(), "1" | "true"))
        };
        let tty = has(["tty", "tty"]);
        Self {
            stdin: has(["input", "stdin"]),
            stdout: has(["output", "stdout"]),
            // A terminal has one output only.
            stderr: has(["error", "stderr"]) && !tty,
            tty,
        }
    }

    pub const fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Data(u8, Bytes),
    /// The client will say no more on a channel.
    Closed(u8),
    Nothing,
}

impl Protocol {
    /// The first of the client's protocols that is known.
    pub fn choose(offered: &[String]) -> Option<Self> {
        if offered.is_empty() {
            return ALL.into_iter().find(|p| p.name.is_empty());
        }
        offered.iter().find_map(|name| ALL.into_iter().find(|p| p.name == name))
    }

    pub fn read(self, message: &Message) -> Said {
        let bytes = match message {
            Message::Binary(data) => data.clone(),
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            _ => return Said::Nothing,
        };
        let Some((&first, rest)) = bytes.split_first() else { return Said::Nothing };
        if self.base64 {
            let data = STANDARD.decode(rest).unwrap_or_default();
            return Said::Data(first.wrapping_sub(b'0'), data.into());
        }
        match (first, rest) {
            (CLOSE, [channel]) if self.version >= 5 => Said::Closed(*channel),
            _ => Said::Data(first, bytes.slice(1..)),
        }
    }

    pub fn write(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let text = format!("{}{}", char::from(b'0' + channel), STANDARD.encode(data));
            return Message::Text(text.into());
        }
        Message::Binary([&[channel], data].concat().into())
    }

    /// How the client learns of the end. The oldest protocols tell only of failures, and in plain words.
    pub fn end(self, status: &[u8]) -> Option<Message> {
        if self.version >= 4 {
            return Some(self.write(ERROR, status));
        }
        let parsed: Value = serde_json::from_slice(status).ok()?;
        let message = parsed["message"].as_str().unwrap_or_default();
        (parsed["status"] != "Success").then(|| self.write(ERROR, message.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(name: &str) -> Protocol {
        Protocol::choose(&[name.to_owned()]).unwrap()
    }

    #[test]
    fn choice_and_framing() {
        let offered = ["x".to_owned(), "v4.channel.k8s.io".into(), "v5.channel.k8s.io".into()];
        assert_eq!(Protocol::choose(&offered).unwrap().name, "v4.channel.k8s.io");
        assert_eq!(Protocol::choose(&["x".into()]), None);
        let (v5, v4, old) =
            (protocol("v5.channel.k8s.io"), protocol("v4.base64.channel.k8s.io"), protocol("channel.k8s.io"));
        assert_eq!(v5.read(&Message::Binary(Bytes::from_static(&[255, 0]))), Said::Closed(STDIN));
        assert_eq!(v5.read(&v5.write(STDIN, b"hi")), Said::Data(STDIN, Bytes::from_static(b"hi")));
        assert_eq!(v4.write(STDOUT, b"hi"), Message::Text("1aGk=".into()));
        assert_eq!(v4.read(&Message::Text("0aGk=".into())), Said::Data(STDIN, Bytes::from_static(b"hi")));
        assert_eq!(
            old.read(&Message::Binary(Bytes::from_static(&[255, 0]))),
            Said::Data(255, Bytes::from_static(&[0]))
        );
    }

    #[test]
    fn ends() {
        let (v5, old) = (protocol("v5.channel.k8s.io"), protocol("channel.k8s.io"));
        let success = br#"{"status":"Success"}"#;
        assert!(v5.end(success).is_some() && old.end(success).is_none());
        let failure = br#"{"status":"Failure","message":"exit 1"}"#;
        assert_eq!(old.end(failure), Some(Message::Binary(Bytes::from_static(b"\x03exit 1"))));
    }

    #[test]
    fn wanted_streams() {
        let query = [("input", "1"), ("output", "1"), ("error", "1"), ("tty", "1")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(Wanted::parse(&query), Wanted { stdin: true, stdout: true, stderr: false, tty: true });
    }
}
