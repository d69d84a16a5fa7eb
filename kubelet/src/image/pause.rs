//! The image that every sandbox runs: one tiny program that waits to be ended, assembled here from its instructions.

use serde_json::json;
use sha2::{Digest, Sha256};

/// What the runtime must be configured to use for sandboxes.
pub const IMAGE: &str = "keelson.local/pause:1";

const SIGTERM_AND_SIGINT: u64 = 1 << (15 - 1) | 1 << (2 - 1);
const BASE: u64 = 0x40_0000;
/// The headers before the code: that of the file, and one segment.
const HEADERS: u64 = 64 + 56;

/// The program. It lets the kernel reap orphans (SIGCHLD is ignored) and ends when it is asked to.
pub fn program(architecture: &str) -> Option<Vec<u8>> {
    let (machine, code) = match architecture {
        "amd64" => (62, amd64()),
        "arm64" => (183, arm64()),
        _ => return None,
    };
    Some(elf(machine, &code))
}

/// A `struct sigaction` that ignores, then the set of signals that end the program.
fn data() -> Vec<u8> {
    let action = [1u64, 0, 0, 0].map(u64::to_le_bytes).concat();
    [action, SIGTERM_AND_SIGINT.to_le_bytes().to_vec()].concat()
}

const ACTION_BYTES: i32 = 32;

fn amd64() -> Vec<u8> {
    // Each call: mov eax, number; arguments in edi, rsi, edx, r10d; syscall.
    let text: Vec<u8> = [
        &[0xb8, 13, 0, 0, 0][..],        // mov eax, rt_sigaction
        &[0xbf, 17, 0, 0, 0],            // mov edi, SIGCHLD
        &[0x48, 0x8d, 0x35, 0, 0, 0, 0], // lea rsi, [rip + action]   (offset at 13)
        &[0x31, 0xd2],                   // xor edx, edx
        &[0x41, 0xba, 8, 0, 0, 0],       // mov r10d, 8
        &[0x0f, 0x05],                   // syscall                    (27)
        &[0xb8, 14, 0, 0, 0],            // mov eax, rt_sigprocmask
        &[0x31, 0xff],                   // xor edi, edi (SIG_BLOCK)
        &[0x48, 0x8d, 0x35, 0, 0, 0, 0], // lea rsi, [rip + set]      (offset at 37)
        &[0x31, 0xd2],                   // xor edx, edx
        &[0x41, 0xba, 8, 0, 0, 0],       // mov r10d, 8
        &[0x0f, 0x05],                   // syscall                    (51)
        &[0xb8, 128, 0, 0, 0],           // wait: mov eax, rt_sigtimedwait
        &[0x48, 0x8d, 0x3d, 0, 0, 0, 0], // lea rdi, [rip + set]      (offset at 59)
        &[0x31, 0xf6],                   // xor esi, esi
        &[0x31, 0xd2],                   // xor edx, edx
        &[0x41, 0xba, 8, 0, 0, 0],       // mov r10d, 8
        &[0x0f, 0x05],                   // syscall                    (75)
        &[0x85, 0xc0],                   // test eax, eax
        &[0x78, 0],                      // js wait                    (offset at 78)
        &[0xb8, 60, 0, 0, 0],            // mov eax, exit
        &[0x31, 0xff],                   // xor edi, edi
        &[0x0f, 0x05],                   // syscall
    ]
    .concat();
    let mut code = text;
    // Data begins on a multiple of 8.
    code.resize(code.len().next_multiple_of(8), 0x90);
    let end = i32::try_from(code.len()).unwrap_or_default();
    for (at, target) in [(13, end), (37, end + ACTION_BYTES), (59, end + ACTION_BYTES)] {
        let next = i32::try_from(at).unwrap_or_default() + 4;
        code[at..at + 4].copy_from_slice(&(target - next).to_le_bytes());
    }
    code[78] = (51i8 - 79).cast_unsigned();
    [code, data()].concat()
}

fn arm64() -> Vec<u8> {
    let movz = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    let svc = 0xd400_0001u32;
    // adr: the low two bits of the distance stand apart from the others.
    let adr = |register: u32, distance: u32| 0x1000_0000 | (distance & 3) << 29 | (distance >> 2) << 5 | register;
    const INSTRUCTIONS: u32 = 22;
    let action = |at: u32| (INSTRUCTIONS - at) * 4;
    let set = |at: u32| action(at) + ACTION_BYTES.cast_unsigned();
    let code = [
        movz(0, 17), // SIGCHLD
        adr(1, action(1)),
        movz(2, 0),
        movz(3, 8),
        movz(8, 134), // rt_sigaction
        svc,
        movz(0, 0), // SIG_BLOCK
        adr(1, set(7)),
        movz(2, 0),
        movz(3, 8),
        movz(8, 135), // rt_sigprocmask
        svc,
        adr(0, set(12)), // wait:
        movz(1, 0),
        movz(2, 0),
        movz(3, 8),
        movz(8, 137), // rt_sigtimedwait
        svc,
        // tbnz w0, #31, wait: six instructions back.
        0x3700_0000 | 31 << 19 | ((-6i32).cast_unsigned() & 0x3fff) << 5,
        movz(0, 0),
        movz(8, 93), // exit
        svc,
    ];
    [code.map(u32::to_le_bytes).concat(), data()].concat()
}

/// A static executable of one segment that holds everything.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let size = HEADERS + code.len() as u64;
    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    file.extend([0; 8]);
    file.extend(2u16.to_le_bytes()); // executable
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend((BASE + HEADERS).to_le_bytes()); // where it begins
    file.extend(64u64.to_le_bytes()); // where the segments are told
    file.extend(0u64.to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // loaded
    file.extend(5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// The whole image as an archive in the OCI layout, the same bytes every time; `None` for a foreign architecture.
pub fn archive(architecture: &str) -> Option<Vec<u8>> {
    let layer = tar(&[("pause", &program(architecture)?, 0o755)]);
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    })
    .to_string();
    let blob = |kind: &str, data: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(data), "size": data.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", config.as_bytes()), "layers": [blob("layer.v1.tar", &layer)],
    })
    .to_string();
    let mut entry = blob("manifest.v1+json", manifest.as_bytes());
    entry["annotations"] = json!({"io.containerd.image.name": IMAGE});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let blobs = [layer.as_slice(), config.as_bytes(), manifest.as_bytes()];
    let named: Vec<_> = blobs.iter().map(|b| (format!("blobs/{}", digest(b).replace(':', "/")), *b)).collect();
    let mut files: Vec<(&str, &[u8], u32)> =
        vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644), ("index.json", index.as_bytes(), 0o644)];
    files.extend(named.iter().map(|(name, data)| (name.as_str(), *data, 0o644)));
    Some(tar(&files))
}

pub(super) fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn tar(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(*mode);
        // Writing to memory cannot fail, and these names are short.
        if builder.append_data(&mut header, name, *data).is_err() {
            return Vec::new();
        }
    }
    builder.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    #[test]
    fn is_small_and_the_same_every_time() {
        assert!(program("amd64").unwrap().len() < 300);
        assert_eq!(archive("amd64"), archive("amd64"));
        assert!(program("arm64").is_some() && archive("riscv64").is_none());
    }

    /// The program really runs here, waits, and ends in peace when asked to.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn waits_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program("amd64").unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        // It sleeps only where it waits for the signals that end it.
        let status = format!("/proc/{pid}/status");
        let asleep = |text: String| text.lines().any(|l| l.starts_with("State:\tS"));
        while !std::fs::read_to_string(&status).is_ok_and(asleep) {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().into_raw(), 0);
    }
}
