//! The threads that serve, each with a scheduler of its own. One scheduler for all of them would wake a second thread
//! whenever a first one finds work; on a server that mostly waits, the second finds nothing left to do.

use std::{io, num::NonZero, sync::Arc};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// As many as the machine runs at a time.
pub struct Threads {
    first: Thread,
    others: Vec<Thread>,
}

struct Thread {
    handle: Handle,
    /// None: it ends.
    runtime: Option<Runtime>,
    /// Every connection that is served here holds one more.
    connections: Arc<()>,
}

impl Thread {
    fn start() -> io::Result<Self> {
        // Of the kind that hands its tasks on when one of them must block.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("apiserver").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime), connections: Arc::default() })
    }

    fn load(&self) -> usize {
        Arc::strong_count(&self.connections)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // To wait for its tasks is not allowed where this is dropped by another task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    pub fn start() -> io::Result<Self> {
        Self::of(std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    fn of(count: usize) -> io::Result<Self> {
        let others = (1..count).map(|_| Thread::start()).collect::<io::Result<_>>()?;
        Ok(Self { first: Thread::start()?, others })
    }

    /// Runs what the server does for all, and all that this spawns.
    pub fn run<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.first.handle.spawn(work)
    }

    /// Runs a connection where the fewest are.
    pub fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let fewest = |one, other| if Thread::load(other) < Thread::load(one) { other } else { one };
        let thread = self.others.iter().fold(&self.first, fewest);
        let held = thread.connections.clone();
        thread.handle.spawn(async move {
            connection.await;
            drop(held);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use tokio::sync::oneshot;

    use super::*;

    /// A connection that lasts until its client ends it, and the thread that it is served by.
    async fn connect(threads: &Threads) -> (oneshot::Sender<()>, ThreadId) {
        let ((client, end), (tell, told)) = (oneshot::channel(), oneshot::channel());
        threads.serve(async move {
            tell.send(std::thread::current().id()).unwrap();
            end.await.unwrap_err();
        });
        (client, told.await.unwrap())
    }

    #[tokio::test]
    async fn a_connection_is_served_where_the_fewest_are() {
        let threads = Threads::of(2).unwrap();
        let (_one, first) = connect(&threads).await;
        let (_two, second) = connect(&threads).await;
        let (_three, third) = connect(&threads).await;
        let (_four, fourth) = connect(&threads).await;
        assert_ne!(first, second);
        assert_eq!((third, fourth), (first, second));
    }

    #[tokio::test]
    async fn who_blocks_keeps_nobody_waiting() {
        let threads = Threads::of(1).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let blocking = threads.run(async move { tokio::task::block_in_place(|| told.recv()) });
        threads.serve(async move { tell.send("served").unwrap() });
        assert_eq!(blocking.await.unwrap(), Ok("served"));
    }
}
