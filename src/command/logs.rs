//! `keelson logs`: what the cluster's processes have logged.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{Place, Result};

#[derive(Args)]
pub struct Logs {
    #[command(flatten)]
    place: Place,
    /// Which process.
    #[arg(value_enum, default_value_t)]
    process: Process,
    /// Go on as more is logged.
    #[arg(long, short)]
    follow: bool,
    /// Only so many lines from the end.
    #[arg(long)]
    tail: Option<usize>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Process {
    #[default]
    Keelson,
    Containerd,
}

impl Logs {
    pub async fn run(self) -> Result {
        let name = match self.process {
            Process::Keelson => "keelson",
            Process::Containerd => "containerd",
        };
        let path = self.place.existing()?.log(name);
        let mut file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        io::stdout().write_all(tail(&text, self.tail))?;
        if !self.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // A log that has become shorter was begun anew.
            if file.metadata()?.len() < file.stream_position()? {
                file.seek(SeekFrom::Start(0))?;
            }
            io::copy(&mut file, &mut io::stdout())?;
        }
    }
}

fn tail(text: &[u8], lines: Option<usize>) -> &[u8] {
    let Some(lines) = lines else { return text };
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let start = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n').nth(lines.saturating_sub(1));
    match (lines, start) {
        (0, _) => &[],
        (_, Some((at, _))) => &text[at + 1..],
        (_, None) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn from_the_end() {
        for (lines, want) in
            [(None, "a\nb\nc\n"), (Some(0), ""), (Some(1), "c\n"), (Some(2), "b\nc\n"), (Some(9), "a\nb\nc\n")]
        {
            assert_eq!(tail(b"a\nb\nc\n", lines), want.as_bytes());
        }
    }
}
