//! A connection's future that wakes itself is polled again at once.
//!
//! hyper hands a request's body to its handler by waking the task that both run in. To the runtime that is a task with
//! more to do than it can now, and it wakes another worker for it, in vain. Here the task goes on by itself, as often as
//! is fair to others.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// How often a future goes on before others have their turn.
const TIMES: usize = 16;

/// Nobody polls the future.
const IDLE: u8 = 0;
/// It is being polled.
const POLLED: u8 = 1;
/// It was woken since the last poll began.
const WOKEN: u8 = 2;

/// See the module.
pub(super) struct Again<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, AcqRel) == IDLE {
            self.task.wake();
        }
    }
}

impl<F: Future> Again<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
        let waker = Waker::from(bell.clone());
        Self { future: Box::pin(future), bell, waker }
    }
}

impl<F: Future> Future for Again<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, waker } = &mut *self;
        bell.task.register(context.waker());
        for _ in 0..TIMES {
            bell.state.swap(POLLED, AcqRel);
            let polled = future.as_mut().poll(&mut Context::from_waker(waker));
            if polled.is_ready() {
                return polled;
            }
            // Woken meanwhile, it goes on; else whoever wakes it from now on wakes the task.
            if bell.state.swap(IDLE, AcqRel) == POLLED {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Polls a future that wakes itself so many times; gives whether it came to its end, and how often its task was woken.
    fn poll(times: usize) -> (bool, usize) {
        let mut left = times;
        let mut again = Again::new(poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let polled = Pin::new(&mut again).poll(&mut Context::from_waker(&waker));
        (polled.is_ready(), count.0.load(Relaxed))
    }

    #[test]
    fn what_wakes_itself_goes_on_without_its_task_and_lets_others_have_their_turn() {
        assert_eq!(poll(0), (true, 0));
        assert_eq!(poll(TIMES - 1), (true, 0));
        assert_eq!(poll(TIMES), (false, 1));
    }

    #[test]
    fn what_is_woken_by_others_wakes_its_task_once() {
        let kept = Arc::new(std::sync::Mutex::new(None::<Waker>));
        let inside = kept.clone();
        let mut again = Again::new(poll_fn(move |context| {
            *inside.lock().unwrap() = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        for round in 1..=3 {
            assert!(Pin::new(&mut again).poll(&mut Context::from_waker(&waker)).is_pending());
            let inner = kept.lock().unwrap().take().unwrap();
            inner.wake_by_ref();
            inner.wake();
            assert_eq!(count.0.load(Relaxed), round);
        }
    }
}
