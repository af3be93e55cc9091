//! Requests in a pipeline.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// A request that has not been sent yet.
pub type Ask<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends requests in this order, none waiting for another's answer; answers theirs, in order.
pub async fn in_order<T: Unpin>(asks: Vec<Ask<'_, T>>) -> Vec<T> {
    let mut asked: Vec<Result<T, Ask<'_, T>>> = asks.into_iter().map(Err).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for slot in &mut asked {
            if let Err(ask) = slot {
                match ask.as_mut().poll(context) {
                    Poll::Ready(answer) => *slot = Ok(answer),
                    Poll::Pending => is_done = false,
                }
            }
        }
        match is_done {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    asked.into_iter().filter_map(Result::ok).collect()
}
