//! The link between two servers: a TCP proxy on each one's public port, which passes everything or
//! nothing.
//!
//! While it is cut, connections are accepted and closed at once, so that the ports stay ours; a
//! request over one fails without waiting. It runs on a thread of its own, whatever the test's
//! runtime does meanwhile.

use std::{io, net::TcpListener, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::TcpStream,
    sync::{oneshot, watch},
    task::JoinSet,
};

/// A port of this machine, and the one that its connections are passed on to.
pub(super) struct Passage {
    pub from: TcpListener,
    pub to: u16,
}

/// The running proxies; they stop when this is dropped.
pub(super) struct Link {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    open: watch::Sender<bool>,
    connections: watch::Sender<usize>,
}

impl Link {
    /// Starts to pass everything.
    pub fn start(passages: Vec<Passage>) -> io::Result<Self> {
        for passage in &passages {
            passage.from.set_nonblocking(true)?;
        }
        let (open, _) = watch::channel(true);
        let (connections, _) = watch::channel(0);
        let state = Arc::new(State { open, connections });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let of_thread = state.clone();
        let thread =
            std::thread::Builder::new().name("federation-link".to_owned()).spawn(move || {
                runtime.block_on(run(passages, of_thread, stopped));
            })?;
        Ok(Self { state, stop: Some(stop), thread: Some(thread) })
    }

    /// Closes every connection, and each new one at once. When this returns, nothing passes any
    /// more.
    pub async fn cut(&self) {
        self.state.open.send_replace(false);
        // An error would say that the counter is gone, which this holds.
        let _ = self.state.connections.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Lets everything pass again.
    pub fn restore(&self) {
        self.state.open.send_replace(true);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(passages: Vec<Passage>, state: Arc<State>, stopped: oneshot::Receiver<()>) {
    let mut accepting = JoinSet::new();
    for passage in passages {
        accepting.spawn(accept(passage, state.clone()));
    }
    // Dropping the set ends what is in it.
    let _ = stopped.await;
}

async fn accept(passage: Passage, state: Arc<State>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(passage.from) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        state.connections.send_modify(|count| *count += 1);
        let state = state.clone();
        connections.spawn(async move {
            let mut open = state.open.subscribe();
            tokio::select! {
                biased;
                _ = open.wait_for(|open| !open) => {}
                () = pass(stream, passage.to) => {}
            }
            state.connections.send_modify(|count| *count -= 1);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes bytes both ways until either side has had enough.
async fn pass(mut stream: TcpStream, to: u16) {
    if let Ok(mut target) = TcpStream::connect(("127.0.0.1", to)).await {
        // A broken connection is the servers' to notice.
        let _ = copy_bidirectional(&mut stream, &mut target).await;
    }
}
