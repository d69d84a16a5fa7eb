//! Room for expressions that nest deeply: walks over their trees recur, and threads of servers have small stacks.

use std::thread;

/// Bytes; enough for the deepest tree that the parser lets through, several times over.
const ROOM: usize = 32 << 20;

/// Runs `work` here, or if it is deep on a stack of its own.
pub(super) fn with_room<T: Send>(deep: bool, work: impl FnOnce() -> T + Send, refused: impl FnOnce() -> T) -> T {
    if !deep {
        return work();
    }
    thread::scope(|scope| {
        let spawned = thread::Builder::new().stack_size(ROOM).spawn_scoped(scope, work);
        match spawned.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => refused(),
        }
    })
}

/// So many signs may nest deeply.
const SIGNS: usize = 60;

/// Whether a source might become a deep tree.
pub(super) fn may_be_deep(source: &str) -> bool {
    source.bytes().filter(|b| b"([{?.+-*/%<>=!".contains(b)).nth(SIGNS).is_some()
}
