//! Access to the registers, in this process or in another one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rlock_core::ResourceName;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::history::{Op, Register};

/// The registers that locks protect: in this process, or served by another one.
#[derive(Debug)]
pub enum Registers {
    /// In this process.
    Here(Register),
    /// In another process, over this connection.
    There(BufReader<TcpStream>),
}

impl Registers {
    /// Connects to the process at `address` that serves registers.
    ///
    /// # Errors
    ///
    /// If that process cannot be reached.
    pub async fn at(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::There(BufReader::new(stream)))
    }

    /// Shows a token, which shuts out all smaller ones, and returns the value; `None` if the token is stale.
    pub(super) async fn open(&mut self, op: Op, resource: &ResourceName, token: u64) -> Option<u64> {
        match self {
            Self::Here(register) => register.open(op, resource, token).ok(),
            Self::There(stream) => {
                let request = format!("open {} {} {token} 0 0 {resource}\n", op.process, op.sequence);
                ask(stream, &request).await.strip_prefix("value ").and_then(|value| value.parse().ok())
            }
        }
    }

    /// Writes `base + 1`. Returns whether the register accepted the token.
    pub(super) async fn write(&mut self, op: Op, resource: &ResourceName, token: u64, base: u64) -> bool {
        match self {
            Self::Here(register) => register.write(op, resource, token, base, base + 1).is_ok(),
            Self::There(stream) => {
                let (process, sequence, value) = (op.process, op.sequence, base + 1);
                let request = format!("write {process} {sequence} {token} {base} {value} {resource}\n");
                ask(stream, &request).await == "written"
            }
        }
    }
}

async fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> String {
    let mut answer = String::new();
    let written = stream.get_mut().write_all(request.as_bytes()).await;
    if written.is_err() || stream.read_line(&mut answer).await.unwrap_or(0) == 0 {
        // The process that serves the registers also checks the history. Without it this process has nothing left to
        // do.
        std::process::exit(0);
    }
    answer.trim_end().to_owned()
}

/// Serves registers to other processes, on the runtime of the caller, and returns the address.
pub(super) async fn serve(register: Register) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, register.clone()));
        }
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream, register: Register) {
    let _prompt = stream.set_nodelay(true);
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(answer) = act(&line, &register) else { return };
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn act(line: &str, register: &Register) -> Option<String> {
    let mut words = line.splitn(7, ' ');
    let verb = words.next()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let (process, sequence, token, base, value) = (number()?, number()?, number()?, number()?, number()?);
    let op = Op { process: u32::try_from(process).ok()?, sequence };
    let resource = ResourceName::new(words.next()?).ok()?;
    let answer = match verb {
        "open" => register.open(op, &resource, token).map(|value| format!("value {value}\n")),
        _ => register.write(op, &resource, token, base, value).map(|()| "written\n".to_owned()),
    };
    Some(answer.unwrap_or_else(|_stale| "stale\n".to_owned()))
}
