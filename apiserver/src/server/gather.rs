//! What a connection has to say at one time goes out in one piece: an event for fifty watches on it is one TLS record and
//! one write, not fifty.
//!
//! HTTP/2 flushes after every frame, and is woken by every stream. Here the connection is polled once all that woke it have
//! had their turn, and flushed when it has nothing more to say.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wakes;

/// What is gathered at most; what is as long by itself is not copied.
const GATHERED_MAX: usize = 64 << 10;
/// What most answers fit in.
const ANSWER: usize = 4 << 10;

thread_local! {
    /// What the next connection that is run here gathers in, if it has much to say: empty.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream whose flushes wait for the end of a turn.
pub struct Gathering<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    stream: S,
    gathered: Vec<u8>,
    /// How much of that has been written.
    written: usize,
    /// A turn is under way: what is flushed now goes out at its end.
    holds: bool,
    /// Why nothing more can be sent.
    broken: Option<io::ErrorKind>,
}

/// Empty, and wide enough for all that is gathered.
fn spare() -> Vec<u8> {
    let mut spare = SPARE.take();
    spare.reserve_exact(GATHERED_MAX);
    spare
}

impl<S> Gathering<S> {
    pub fn new(stream: S) -> Self {
        let state = State { stream, gathered: Vec::new(), written: 0, holds: false, broken: None };
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn handle(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> State<S> {
    fn whole(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.gathered.get(self.written..) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.gathered.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        // Connections that have nothing to say hold no memory for it.
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.capacity() == GATHERED_MAX {
            SPARE.set(gathered);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        state.whole()?;
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if state.gathered.len() + length > GATHERED_MAX {
            ready!(state.poll_drain(context))?;
        }
        if length > GATHERED_MAX {
            return Pin::new(&mut state.stream).poll_write_vectored(context, slices);
        }
        let all = state.gathered.len() + length;
        if all > state.gathered.capacity() {
            let mut wider = if all <= ANSWER { Vec::with_capacity(ANSWER) } else { spare() };
            wider.append(&mut state.gathered);
            state.gathered = wider;
        }
        slices.iter().for_each(|slice| state.gathered.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.holds { Poll::Ready(Ok(())) } else { state.poll_out(context) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        ready!(state.poll_drain(context))?;
        Pin::new(&mut state.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        state.whole()?;
        Pin::new(&mut state.stream).poll_read(context, buffer)
    }
}

/// Wakes the task of a connection once, however often it is woken.
#[derive(Default)]
struct Gate {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Some(task) = self.task.take()
        {
            wakes::wake(task);
        }
    }
}

impl Gate {
    async fn opened(&self) {
        std::future::poll_fn(|context| {
            self.task.register(context.waker());
            if self.woken.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Runs the connection that was given `stream`, turn by turn.
pub async fn in_turns<F, S>(connection: F, stream: Gathering<S>) -> F::Output
where
    F: Future,
    S: AsyncWrite + Unpin,
{
    tokio::pin!(connection);
    let gate = Arc::new(Gate::default());
    gate.woken.store(true, Ordering::Release);
    let waker = Waker::from(gate.clone());
    loop {
        gate.opened().await;
        // Whoever else is ready may have something to say as well.
        tokio::task::yield_now().await;
        gate.woken.store(false, Ordering::Release);
        if let Poll::Ready(output) = turn(connection.as_mut(), &stream, &waker) {
            // Whoever cannot be sent the rest has nobody to be told of it.
            if let Err(error) = std::future::poll_fn(|context| stream.0.lock().poll_out(context)).await {
                tracing::debug!(%error, "the end of a connection was not sent");
            }
            return output;
        }
    }
}

fn turn<F, S>(connection: Pin<&mut F>, stream: &Gathering<S>, waker: &Waker) -> Poll<F::Output>
where
    F: Future,
    S: AsyncWrite + Unpin,
{
    let context = &mut Context::from_waker(waker);
    stream.0.lock().holds = true;
    let polled = connection.poll(context);
    let mut state = stream.0.lock();
    state.holds = false;
    // Where not all of it fits in, the next turn begins when more does.
    if polled.is_pending()
        && let Poll::Ready(Err(error)) = state.poll_out(context)
    {
        state.broken = Some(error.kind());
        waker.wake_by_ref();
    }
    polled
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Counts what is written at a time, and takes no more than `room`.
    struct Counting {
        writes: Arc<Mutex<Vec<usize>>>,
        room: usize,
        refusals: VecDeque<io::ErrorKind>,
    }

    impl AsyncWrite for Counting {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if let Some(kind) = self.refusals.pop_front() {
                return Poll::Ready(Err(kind.into()));
            }
            let taken = bytes.len().min(self.room);
            self.writes.lock().push(taken);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Counting {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn counting(room: usize, refusals: &[io::ErrorKind]) -> (Gathering<Counting>, Arc<Mutex<Vec<usize>>>) {
        let writes = Arc::<Mutex<Vec<usize>>>::default();
        let refusals = refusals.iter().copied().collect();
        (Gathering::new(Counting { writes: writes.clone(), room, refusals }), writes)
    }

    #[tokio::test]
    async fn frames_of_one_turn_are_one_write() {
        let (stream, writes) = counting(usize::MAX, &[]);
        let mut handle = stream.handle();
        let connection = async move {
            for _ in 0..3 {
                handle.write_all(b"frame").await.unwrap();
                handle.flush().await.unwrap();
            }
            tokio::task::yield_now().await;
            handle.write_all(b"later").await.unwrap();
            handle.write_all(&vec![0; GATHERED_MAX + 1]).await.unwrap();
            handle.write_all(b"end").await.unwrap();
        };
        in_turns(connection, stream).await;
        assert_eq!(*writes.lock(), [15, 5, GATHERED_MAX + 1, 3]);
    }

    #[tokio::test]
    async fn what_does_not_fit_in_goes_out_in_order() {
        let (stream, writes) = counting(4, &[]);
        let mut handle = stream.handle();
        in_turns(async move { handle.write_all(b"0123456789").await.unwrap() }, stream).await;
        assert_eq!(*writes.lock(), [4, 4, 2]);
    }

    #[tokio::test]
    async fn a_connection_learns_that_nobody_listens() {
        let (stream, _) = counting(4, &[io::ErrorKind::BrokenPipe]);
        let mut handle = stream.handle();
        let connection = async move {
            handle.write_all(b"lost").await.unwrap();
            handle.read_u8().await.unwrap_err().kind()
        };
        assert_eq!(in_turns(connection, stream).await, io::ErrorKind::BrokenPipe);
    }
}
