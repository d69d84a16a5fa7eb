//! How long a request has waited for others, webhooks and its turn: that time is not the server's.

use std::{cell::Cell, time::Duration};

tokio::task_local! {
    static ELSEWHERE: Cell<Duration>;
}

/// What a request comes to, and how long it has waited for others meanwhile.
pub async fn counted<F: Future>(request: F) -> (F::Output, Duration) {
    let request = async { (request.await, ELSEWHERE.with(Cell::get)) };
    ELSEWHERE.scope(Cell::new(Duration::ZERO), request).await
}

/// Waits for others.
pub async fn wait<F: Future>(others: F) -> F::Output {
    let begun = std::time::Instant::now();
    let output = others.await;
    // What the server does by itself is no request.
    ELSEWHERE.try_with(|elsewhere| elsewhere.set(elsewhere.get() + begun.elapsed())).unwrap_or_default();
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_waited_for_is_counted() {
        let (output, waited) = counted(async { wait(std::future::ready(1)).await + 1 }).await;
        assert_eq!(output, 2);
        assert!(waited < Duration::from_secs(1));
        let (_, nothing) = counted(async {}).await;
        assert_eq!(nothing, Duration::ZERO);
        wait(async {}).await;
    }
}
