//! Where the streams of a connection run: each in a task of its own, until all that it does is pass on what it is told.
//! Then it moves to the task of the connection, which a hundred watches wake once, not a hundred times.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use slab::Slab;
use tokio::{
    sync::mpsc,
    task::coop,
    time::{self, Sleep},
};

/// Who is told something says that there is room for more. When so many are told at one time, they say so within so short
/// a time that it is read at one time, too: each by itself, it would be received, decrypted and acknowledged by itself.
const ANSWERS_MIN: usize = 16;
const ANSWERS_WAIT: Duration = Duration::from_millis(4);

type Listening = Pin<Box<dyn Future<Output = ()> + Send>>;

tokio::task_local! {
    static LISTENS: Cell<bool>;
}

/// Says that the stream that is being served will only pass on what it is told.
pub fn listen() {
    // Where no stream is served there is nothing to move.
    LISTENS.try_with(|listens| listens.set(true)).unwrap_or_default();
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub struct Streams(mpsc::UnboundedSender<Listening>);

/// The streams that have moved to the connection. There are no more of them than the connection may have.
pub struct Listeners {
    arrivals: mpsc::UnboundedReceiver<Listening>,
    streams: Slab<Listener>,
    woken: Arc<Woken>,
}

struct Listener {
    stream: Listening,
    bell: Arc<Bell>,
}

/// Which streams have something to do.
#[derive(Default)]
struct Woken {
    places: Mutex<Places>,
    connection: AtomicWaker,
}

#[derive(Default)]
struct Places {
    woken: Vec<usize>,
    /// The connection is at it, and need not be woken.
    is_attended: bool,
}

impl Woken {
    fn attend(&self) -> Vec<usize> {
        let mut places = self.places.lock();
        places.is_attended = true;
        std::mem::take(&mut places.woken)
    }

    /// Whether there is more to do.
    fn leave(&self) -> bool {
        let mut places = self.places.lock();
        places.is_attended = false;
        !places.woken.is_empty()
    }
}

/// Wakes a stream, and its connection for the first of them.
struct Bell {
    /// A stream that is gone may have left it to another, which is then asked in vain.
    place: usize,
    rung: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut places = self.woken.places.lock();
        places.woken.push(self.place);
        let wakes = places.woken.len() == 1 && !places.is_attended;
        drop(places);
        if wakes {
            self.woken.connection.wake();
        }
    }
}

pub fn streams() -> (Streams, Listeners) {
    let (sender, arrivals) = mpsc::unbounded_channel();
    (Streams(sender), Listeners { arrivals, streams: Slab::new(), woken: Arc::default() })
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(Serving { stream: Some(Box::pin(stream)), connection: self.0.clone(), listens: false });
    }
}

struct Serving<F> {
    /// None: it has moved.
    stream: Option<Pin<Box<F>>>,
    connection: mpsc::UnboundedSender<Listening>,
    listens: bool,
}

impl<F: Future<Output = ()> + Send + 'static> Future for Serving<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        let (polled, listens) = LISTENS.sync_scope(Cell::new(false), || {
            let polled = stream.as_mut().poll(context);
            (polled, LISTENS.with(Cell::get))
        });
        self.listens |= listens;
        if polled.is_ready() || !self.listens {
            return polled;
        }
        if let Some(stream) = self.stream.take()
            && self.connection.send(stream).is_err()
        {
            tracing::trace!("a connection ended as a watch began");
        }
        Poll::Ready(())
    }
}

impl Listeners {
    /// The connection, and what has moved to it.
    pub async fn beside<C: Future>(mut self, connection: C) -> C::Output {
        let mut connection = pin!(connection);
        let mut pause = None::<Pin<Box<Sleep>>>;
        std::future::poll_fn(|context| {
            if let Some(sleep) = &mut pause {
                ready!(sleep.as_mut().poll(context));
            }
            let asked = self.poll(context);
            let polled = connection.as_mut().poll(context);
            // What wakes them right after a pause is no more than that they have been told.
            let pauses = asked >= ANSWERS_MIN && pause.is_none() && polled.is_pending();
            pause = pauses.then(|| Box::pin(time::sleep(ANSWERS_WAIT)));
            if let Some(sleep) = &mut pause
                && sleep.as_mut().poll(context).is_ready()
            {
                context.waker().wake_by_ref();
            }
            polled
        })
        .await
    }

    /// Asks those who were woken; gives how many they were.
    fn poll(&mut self, context: &mut Context<'_>) -> usize {
        while let Poll::Ready(Some(stream)) = self.arrivals.poll_recv(context) {
            let entry = self.streams.vacant_entry();
            let bell = Arc::new(Bell { place: entry.key(), rung: AtomicBool::new(false), woken: self.woken.clone() });
            bell.wake_by_ref();
            entry.insert(Listener { stream, bell });
        }
        self.woken.connection.register(context.waker());
        let woken = self.woken.attend();
        let asked = woken.len();
        woken.into_iter().for_each(|place| self.poll_at(place));
        // HTTP/2 wakes a stream that sends something once more, to no end: all are asked twice.
        self.woken.attend().into_iter().for_each(|place| self.poll_at(place));
        if self.woken.leave() {
            context.waker().wake_by_ref();
        }
        asked
    }

    fn poll_at(&mut self, place: usize) {
        let Some(Listener { stream, bell }) = self.streams.get_mut(place) else { return };
        bell.rung.store(false, Ordering::Release);
        let waker = Waker::from(bell.clone());
        // The budget of a task is for one stream, not for a hundred.
        let polled = pin!(coop::unconstrained(stream)).poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            self.streams.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, task::noop_waker_ref};
    use tokio::{
        sync::{Notify, mpsc::error::TryRecvError, oneshot},
        time::Instant,
    };

    use super::*;

    /// A stream that passes on what it is told twice, and then ends.
    async fn watch(told: Arc<Notify>, passed_on: mpsc::UnboundedSender<bool>) {
        listen();
        for is_last in [false, true] {
            told.notified().await;
            passed_on.send(is_last).unwrap();
        }
    }

    #[tokio::test]
    async fn a_stream_that_listens_is_run_by_its_connection() {
        let (streams, mut listeners) = streams();
        let told = Arc::<Notify>::default();
        let (sender, mut passed_on) = mpsc::unbounded_channel();
        streams.execute(watch(told.clone(), sender));
        tokio::task::yield_now().await;
        let context = &mut Context::from_waker(noop_waker_ref());
        told.notify_one();
        tokio::task::yield_now().await;
        assert_eq!(passed_on.try_recv(), Err(TryRecvError::Empty));
        listeners.poll(context);
        assert_eq!(passed_on.try_recv(), Ok(false));
        told.notify_one();
        listeners.poll(context);
        assert_eq!(passed_on.try_recv(), Ok(true));
        assert!(listeners.streams.is_empty());
    }

    #[tokio::test]
    async fn a_connection_is_woken_by_the_first_of_its_listeners() {
        let (streams, listeners) = streams();
        let told: Vec<_> = (0..100).map(|_| Arc::<Notify>::default()).collect();
        let (sender, mut passed_on) = mpsc::unbounded_channel();
        told.iter().for_each(|told| streams.execute(watch(told.clone(), sender.clone())));
        let (end, ended) = oneshot::channel::<()>();
        let connection = tokio::spawn(listeners.beside(ended.map(drop)));
        for is_last in [false, true] {
            told.iter().for_each(|told| told.notify_one());
            for _ in 0..told.len() {
                assert_eq!(passed_on.recv().await, Some(is_last));
            }
        }
        end.send(()).unwrap();
        connection.await.unwrap();
    }

    /// How long a connection that has just told so many of something does not look at what it is sent.
    async fn wait_after(told: usize) -> Duration {
        let (streams, listeners) = streams();
        let told: Vec<_> = (0..told).map(|_| Arc::<Notify>::default()).collect();
        let (sender, mut passed_on) = mpsc::unbounded_channel();
        told.iter().for_each(|told| streams.execute(watch(told.clone(), sender.clone())));
        let (sent, (reads, mut read)) = (Arc::<Notify>::default(), mpsc::unbounded_channel());
        let arrives = sent.clone();
        let connection = tokio::spawn(listeners.beside(async move {
            loop {
                arrives.notified().await;
                reads.send(Instant::now()).unwrap();
            }
        }));
        // What it takes them to move is over.
        time::sleep(Duration::from_secs(1)).await;
        told.iter().for_each(|told| told.notify_one());
        for _ in 0..told.len() {
            passed_on.recv().await.unwrap();
        }
        let begun = Instant::now();
        sent.notify_one();
        let waited = read.recv().await.unwrap() - begun;
        connection.abort();
        waited
    }

    #[tokio::test(start_paused = true)]
    async fn what_many_answer_is_read_at_one_time() {
        assert_eq!(wait_after(ANSWERS_MIN - 1).await, Duration::ZERO);
        let waited = wait_after(ANSWERS_MIN).await;
        assert!(waited >= ANSWERS_WAIT && waited < ANSWERS_WAIT * 2, "{waited:?}");
    }

    #[tokio::test]
    async fn other_streams_have_tasks_of_their_own() {
        let (streams, listeners) = streams();
        let (done, told) = oneshot::channel();
        streams.execute(async move { done.send(()).unwrap() });
        told.await.unwrap();
        drop(listeners);
    }
}
