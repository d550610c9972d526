//! Ctrl-C and requests to terminate.
//!
//! The first signal asks the engine to stop, so that what was answered is stored and the
//! resume command printed; the second ends the program at once. A hang-up (SIGHUP) is left
//! alone: it ends the program, or is ignored under `nohup`, and the store survives both.

use std::sync::atomic::{AtomicU8, Ordering};

use harness::engine::Stop;

use super::exit::Exit;

/// The exit code of the first signal; 0 before one came.
static RECEIVED: AtomicU8 = AtomicU8::new(0);

/// The signals could not be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch for Ctrl-C")]
pub(crate) struct SignalError {
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// From now on, the first signal raises `stop` and the second ends the program.
///
/// To be called once, early in the program.
///
/// # Errors
///
/// [`SignalError`] if the system refuses; signals then do what they do by default.
pub(crate) fn watch(stop: &'static Stop) -> Result<(), SignalError> {
    platform::watch(move |exit| {
        if !first(exit, &RECEIVED, stop) {
            // The store is whole at any moment; at most its last second is lost.
            std::process::exit(i32::from(exit.code()));
        }
    })
    .map_err(|source| SignalError { source })
}

/// How the program is to end because of a signal, if one came.
pub(crate) fn received() -> Option<Exit> {
    let code = RECEIVED.load(Ordering::SeqCst);
    [Exit::Interrupted, Exit::Terminated]
        .into_iter()
        .find(|it| it.code() == code)
}

/// Notes the signal and raises `stop`; `false` if it is not the first.
fn first(exit: Exit, received: &AtomicU8, stop: &Stop) -> bool {
    let noted = received.compare_exchange(0, exit.code(), Ordering::SeqCst, Ordering::SeqCst);
    // After the note, so that whoever sees the stop also sees its reason.
    stop.raise();
    noted.is_ok()
}

#[cfg(unix)]
mod platform {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    use super::Exit;

    /// Calls `on_signal` on a thread of its own.
    pub(super) fn watch(
        on_signal: impl Fn(Exit) + Send + 'static,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    on_signal(if signal == SIGTERM {
                        Exit::Terminated
                    } else {
                        Exit::Interrupted
                    });
                }
            })?;
        Ok(())
    }
}

#[cfg(not(unix))]
mod platform {
    use super::Exit;

    /// Calls `on_signal` on a thread of its own; which signal it was cannot be told here.
    pub(super) fn watch(
        on_signal: impl Fn(Exit) + Send + 'static,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(ctrlc::set_handler(move || on_signal(Exit::Interrupted))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_stops_and_is_remembered() {
        let (received, stop) = (AtomicU8::new(0), Stop::new());
        assert!(first(Exit::Terminated, &received, &stop));
        assert!(stop.is_raised());
        assert!(
            !first(Exit::Interrupted, &received, &stop),
            "the second ends the program"
        );
        assert_eq!(
            received.into_inner(),
            143,
            "the reason is that of the first"
        );
    }

    /// The real signals of this process.
    #[cfg(unix)]
    #[test]
    fn a_request_to_terminate_raises_the_stop() {
        static STOP: Stop = Stop::new();
        watch(&STOP).unwrap();
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
        let begin = std::time::Instant::now();
        while !STOP.is_raised() {
            assert!(begin.elapsed().as_secs() < 10, "the signal never arrived");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(received(), Some(Exit::Terminated));
    }
}
