//! Wakes that wait for one another: whoever is told of the same change is woken when all have been told.

use std::{cell::RefCell, task::Waker};

thread_local! {
    static HELD: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Wakes, or leaves that to the end of what is done [`together`].
pub fn wake(waker: Waker) {
    let at_once = HELD.with_borrow_mut(|held| match held {
        Some(held) => {
            held.push(waker);
            None
        }
        None => Some(waker),
    });
    if let Some(waker) = at_once {
        waker.wake();
    }
}

/// Wakes those whom this thread wakes meanwhile once all is done.
pub fn together<R>(work: impl FnOnce() -> R) -> R {
    let _holding = Holding(HELD.replace(Some(Vec::new())));
    work()
}

/// What was held before.
struct Holding(Option<Vec<Waker>>);

impl Drop for Holding {
    fn drop(&mut self) {
        HELD.replace(self.0.take()).into_iter().flatten().for_each(wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_is_woken_together_is_woken_at_the_end() {
        let count = Arc::<Count>::default();
        let woken = || count.0.load(Ordering::Relaxed);
        wake(count.clone().into());
        assert_eq!(woken(), 1);
        together(|| {
            wake(count.clone().into());
            together(|| wake(count.clone().into()));
            assert_eq!(woken(), 1);
        });
        assert_eq!(woken(), 3);
    }

    #[test]
    fn nobody_is_forgotten_by_who_fails() {
        let count = Arc::<Count>::default();
        let failing = std::panic::AssertUnwindSafe(|| {
            together(|| {
                wake(count.clone().into());
                panic!("a bug");
            })
        });
        std::panic::catch_unwind(failing).unwrap_err();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
