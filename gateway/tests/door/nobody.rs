//! Where a workload should be and is none that answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::world::{WEB_PORT, address};

/// An address at which nobody accepts connections.
pub(crate) fn nobody() -> Ipv4Addr {
    address()
}

/// Accepts connections, reads what comes, and closes without an answer. Says how many requests have begun.
pub(crate) async fn closer() -> (Ipv4Addr, Arc<AtomicUsize>) {
    let (address, begun) = (address(), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind(SocketAddr::new(address.into(), WEB_PORT)).await.unwrap();
    let count = Arc::clone(&begun);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    (address, begun)
}
