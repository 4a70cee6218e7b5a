//! The broker itself: connections, subscriptions, and one thread through which every message goes.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The longest message.
const MAX_MESSAGE: usize = 1 << 20;
/// Messages on their way to the produce path, and to each subscriber.
const QUEUE: usize = 1_024;

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its topic.
    pub topic: Arc<str>,
    /// What was published.
    pub value: Bytes,
}

/// Who gets what.
#[derive(Clone, Default)]
pub struct Subscribers(Arc<Mutex<ByTopic>>);

type ByTopic = HashMap<Arc<str>, Vec<mpsc::Sender<Message>>>;

impl Subscribers {
    fn add(&self, topic: Arc<str>, to: mpsc::Sender<Message>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(topic).or_default().push(to);
    }

    /// Hands a message to everybody who asked for its topic. A subscriber that is too slow makes the produce path wait, and so the publishers.
    pub fn deliver(&self, message: &Message) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&message.topic) {
            own.retain(|to| to.blocking_send(message.clone()).is_ok());
        }
    }
}

/// The produce path: everything that is published, in its order, on a thread of its own.
pub type ProducePath = Box<dyn FnOnce(mpsc::Receiver<Message>, Subscribers) + Send>;

/// Without the engine: what is published is delivered.
pub fn plain() -> ProducePath {
    Box::new(|mut published, subscribers| {
        while let Some(message) = published.blocking_recv() {
            subscribers.deliver(&message);
        }
    })
}

/// Serves until the runtime ends.
///
/// # Errors
///
/// No thread can be started, or the listener fails.
pub async fn serve(listener: TcpListener, path: ProducePath) -> io::Result<()> {
    let subscribers = Subscribers::default();
    let (publish, published) = mpsc::channel(QUEUE);
    let others = subscribers.clone();
    std::thread::Builder::new()
        .name("produce".to_owned())
        .spawn(move || path(published, others))?;
    loop {
        let (stream, peer) = listener.accept().await?;
        let (publish, subscribers) = (publish.clone(), subscribers.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(stream, publish, subscribers).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn connection(
    stream: TcpStream,
    publish: mpsc::Sender<Message>,
    subscribers: Subscribers,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let (to, messages) = mpsc::channel(QUEUE);
    tokio::spawn(send(write, messages));
    let mut read = BufReader::new(read);
    let mut line = String::new();
    let mut last: Arc<str> = "".into();
    loop {
        line.clear();
        if (&mut read).take(4_096).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["SUB", topic] => subscribers.add(topic.into(), to.clone()),
            ["PUB", topic, length] => {
                let length = length.parse().ok().filter(|length| *length <= MAX_MESSAGE);
                let length = length.ok_or_else(|| io::Error::other("no length, or too long"))?;
                let mut value = vec![0; length];
                read.read_exact(&mut value).await?;
                if *last != *topic {
                    last = topic.into();
                }
                let message = Message {
                    topic: last.clone(),
                    value: value.into(),
                };
                if publish.send(message).await.is_err() {
                    return Err(io::Error::other("the produce path has ended"));
                }
            }
            _ => {
                return Err(io::Error::other(
                    "write SUB <topic> or PUB <topic> <length>",
                ));
            }
        }
    }
}

async fn send(write: tokio::net::tcp::OwnedWriteHalf, mut messages: mpsc::Receiver<Message>) {
    let mut write = BufWriter::new(write);
    while let Some(message) = messages.recv().await {
        let head = format!("MSG {} {}\n", message.topic, message.value.len());
        let sent = async {
            write.write_all(head.as_bytes()).await?;
            write.write_all(&message.value).await?;
            match messages.is_empty() {
                true => write.flush().await,
                false => Ok(()),
            }
        };
        // A subscriber that has gone is forgotten with its queue.
        if sent.await.is_err() {
            return;
        }
    }
}
