//! The container runtime of a node: a containerd of its own, with its state under the data directory.
//!
//! It is a process of its own and outlives the node's: containers keep running while Keelson restarts. If it ends before
//! the node does, it is started again.

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{data_dir::DataDir, process::Process};

#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    #[error(
        "containerd was not found: install it (on Debian: apt-get install containerd runc containernetworking-plugins)"
    )]
    Missing,
    #[error("no CNI plugins in {0}: install them (on Debian: apt-get install containernetworking-plugins)")]
    NoPlugins(String),
    #[error("containerd did not start within {0:?}; its log is {1}")]
    Slow(Duration, PathBuf),
    #[error("containerd: {0}")]
    Io(#[from] io::Error),
}

/// Where the plugins are that set up pod networks, on Debian and elsewhere.
const PLUGIN_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// How long it goes unnoticed that it has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a node's runtime is started with.
#[derive(Clone, Debug)]
pub struct Containerd {
    /// Everything it keeps.
    pub root: PathBuf,
    pub log: PathBuf,
    pub pid_file: PathBuf,
    pub sandbox_image: String,
}

impl Containerd {
    /// The runtime of the one node that shares the machine's namespaces.
    pub fn of(data: &DataDir, sandbox_image: &str) -> Self {
        Self {
            root: data.containerd(),
            log: data.log("containerd"),
            pid_file: data.pid_file("containerd"),
            sandbox_image: sandbox_image.to_owned(),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("containerd.sock")
    }

    /// Where the kubelet writes the network configuration.
    pub fn cni_config_folder(&self) -> PathBuf {
        self.root.join("cni")
    }

    /// Where images' registries can be redirected, one folder a registry.
    pub fn registry_config_folder(&self) -> PathBuf {
        self.root.join("certs.d")
    }

    pub fn process(&self) -> Option<Process> {
        Process::find(&self.pid_file)
    }

    /// Ends it; the containers go on without it.
    pub fn stop(&self) -> io::Result<()> {
        self.process().map_or(Ok(()), |process| process.stop(Duration::from_secs(20)))
    }

    /// Fails if a program is missing that it needs.
    pub fn check_installed() -> Result<(), ContainerdError> {
        program().and(plugins()).map(drop)
    }

    /// Starts it if it does not run, and waits until it accepts connections.
    pub async fn start(&self) -> Result<(), ContainerdError> {
        if self.process().is_some() && UnixStream::connect(self.socket()).is_ok() {
            return Ok(());
        }
        let (program, plugins) = (program()?, plugins()?);
        fs::create_dir_all(self.cni_config_folder())?;
        fs::create_dir_all(self.registry_config_folder())?;
        let config = self.root.join("config.toml");
        DataDir::write(&config, self.config(plugins).as_bytes())?;
        Process::start(Command::new(program).arg("--config").arg(&config), &self.log, &self.pid_file)?;
        let patience = Duration::from_secs(30);
        let deadline = Instant::now() + patience;
        while UnixStream::connect(self.socket()).is_err() {
            if Instant::now() > deadline {
                return Err(ContainerdError::Slow(patience, self.log.clone()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Starts it again whenever it has ended. Its containers do not end with it.
    pub async fn keep(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.process().is_some() {
                continue;
            }
            tracing::warn!(log = %self.log.display(), "containerd has ended, and is started again");
            if let Err(error) = self.start().await {
                tracing::error!(%error, "containerd cannot be started");
            }
        }
    }

    /// Version 2 of the format, which containerd 1.6 reads and 2.x converts.
    fn config(&self, plugins: &str) -> String {
        let root = self.root.display();
        format!(
            r#"version = 2
root = "{root}/root"
state = "{root}/state"

[grpc]
  address = "{root}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  # Without CAP_SYS_RESOURCE nothing can be made less likely to be killed for memory than containerd itself is.
  restrict_oom_score_adj = {restrict}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{registries}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#,
            image = self.sandbox_image,
            restrict = !may_raise_limits(),
            cni = self.cni_config_folder().display(),
            registries = self.registry_config_folder().display(),
        )
    }
}

fn program() -> Result<PathBuf, ContainerdError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("containerd"));
    programs.find(|file| file.is_file()).ok_or(ContainerdError::Missing)
}

/// The folder of the plugins that set up pod networks.
fn plugins() -> Result<&'static str, ContainerdError> {
    let found = PLUGIN_FOLDERS.into_iter().find(|folder| Path::new(folder).join("bridge").exists());
    found.ok_or_else(|| ContainerdError::NoPlugins(PLUGIN_FOLDERS.join(" or ")))
}

/// Whether this process has CAP_SYS_RESOURCE (bit 24 of the effective set).
fn may_raise_limits() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & (1 << 24) != 0)
}
