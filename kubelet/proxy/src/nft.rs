//! Runs scripts of nftables; a script is one transaction.

use std::{io, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("nft cannot be run (on Debian: apt-get install nftables): {0}")]
    Missing(#[source] io::Error),
    #[error("nft: {0}")]
    Io(#[from] io::Error),
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// Applies the whole script, or nothing of it.
pub async fn run(script: &str) -> Result<(), NftError> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(NftError::Missing)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Refused(why.lines().take(5).collect::<Vec<_>>().join("; ")))
}
