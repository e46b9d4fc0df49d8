//! Work that may wait for the disk or for another process, on a thread that may.
//!
//! Its result comes back through the runtime's reactor. A worker of the runtime that another thread wakes takes it that
//! there is more to do and wakes the next worker, which finds nothing: with one commit after the other that was a
//! tenth of all that a lone event costs. A worker that the reactor wakes goes to its work and wakes nobody.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream as Blocking;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// The way back for the results of one piece of work after the other.
#[derive(Default)]
pub(super) struct WayBack {
    /// Not there while something runs. Who goes away takes it along, so that no result comes to somebody else.
    idle: Mutex<Option<(UnixStream, Arc<Blocking>)>>,
}

/// Says that a result is there, or that none will come, when it is dropped.
struct Returning<T> {
    slot: Arc<Mutex<Option<Result<T>>>>,
    there: Arc<Blocking>,
}

impl<T> Drop for Returning<T> {
    fn drop(&mut self) {
        // An error means that nobody waits any more.
        let _ = (&*self.there).write(&[0]);
    }
}

impl WayBack {
    /// Runs something that may wait. It goes on when the caller goes away.
    pub(super) async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let idle = self.idle.lock().take();
        let (mut here, there) = match idle {
            Some(pair) => pair,
            None => pair().map_err(Error::Wait)?,
        };
        let slot = Arc::new(Mutex::new(None));
        let returning = Returning { slot: slot.clone(), there: there.clone() };
        tokio::task::spawn_blocking(move || *returning.slot.lock() = Some(work()));
        here.read_exact(&mut [0]).await.map_err(Error::Wait)?;
        *self.idle.lock() = Some((here, there));
        let result = slot.lock().take();
        result.unwrap_or(Err(Error::Closed))
    }
}

fn pair() -> io::Result<(UnixStream, Arc<Blocking>)> {
    let (here, there) = Blocking::pair()?;
    here.set_nonblocking(true)?;
    Ok((UnixStream::from_std(here)?, Arc::new(there)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future as _;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    #[tokio::test]
    async fn each_result_comes_to_who_asked_for_it() {
        let way_back = WayBack::default();
        assert_eq!(way_back.blocking(|| Ok(1)).await.unwrap(), 1);
        let (go_on, goes_on) = mpsc::channel::<()>();
        let (say, said) = mpsc::channel::<()>();
        {
            // This caller goes away before its result comes.
            let slow = pin!(way_back.blocking(move || {
                let _ = goes_on.recv();
                drop(say);
                Ok(2)
            }));
            assert!(slow.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let next = way_back.blocking(move || {
            drop(go_on);
            let _ = said.recv();
            Ok(3)
        });
        assert_eq!(next.await.unwrap(), 3);
        assert_eq!(way_back.blocking(|| Ok(4)).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn work_that_panics_is_not_waited_for() {
        let way_back = WayBack::default();
        let gone = way_back.blocking(|| -> Result<()> { panic!("the work panics") }).await;
        assert!(matches!(gone, Err(Error::Closed)));
        assert!(way_back.blocking(|| Ok(())).await.is_ok());
    }
}
